"""Coinbase Exchange: its documented messages, and a whole feed against a server that breaks connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from feed_api import Api
from venues import CUT, Answer, Venue, as_json, on_tape, rest, running, until

from marketdata.client import Client
from marketdata.columns import ABSENT, Batch, Kind
from marketdata.v1.batch_pb2 import Side
from mda.feeds.coinbase import Coinbase
from mda.feeds.feed import Feed
from mda.feeds.source import Connected, Newest, RefusedError, SourceError, Update

IDS = {"BTC-USD": 1, "ETH-USD": 2}


def match(number: int, product: str = "BTC-USD", **values: Any) -> dict[str, Any]:
    """Return a message of a trade, as documented."""
    return {
        "type": "match",
        "trade_id": number,
        "sequence": 50 + number,
        "maker_order_id": "ac928c66-ca53-498f-9c13-a110027a60e8",
        "taker_order_id": "132fb6ae-456b-4654-b4e0-d681ac05cea1",
        "time": f"2014-11-07T08:19:{number:02d}.028459Z",
        "product_id": product,
        "size": "5.23512",
        "price": "400.23",
        "side": "sell",
    } | values


def ticker(sequence: int, **values: Any) -> dict[str, Any]:
    """Return a message of the best bid and offer, as documented."""
    return {
        "type": "ticker",
        "sequence": sequence,
        "product_id": "ETH-USD",
        "price": "1285.22",
        "open_24h": "1310.79",
        "volume_24h": "245532.79269678",
        "low_24h": "1280.52",
        "high_24h": "1313.8",
        "volume_30d": "9788783.60117027",
        "best_bid": "1285.04",
        "best_bid_size": "0.46688654",
        "best_ask": "1285.27",
        "best_ask_size": "1.56637040",
        "side": "buy",
        "time": "2022-10-19T23:28:22.061769Z",
        "trade_id": 370843401,
        "last_size": "11.4396987",
    } | values


def beat(last_trade_id: int, product: str = "BTC-USD") -> dict[str, Any]:
    """Return a heartbeat, as documented."""
    return {
        "type": "heartbeat",
        "sequence": 90,
        "last_trade_id": last_trade_id,
        "product_id": product,
        "time": "2014-11-07T08:19:28.464459Z",
    }


ERROR = {"type": "error", "message": "Failed to subscribe", "reason": "NONE-SUCH is not a valid product"}


def confirmed(subscription: Any) -> list[Any]:
    assert subscription["type"] == "subscribe"
    channels = [{"name": name, "product_ids": subscription["product_ids"]} for name in subscription["channels"]]
    return [{"type": "subscriptions", "channels": channels}]


class Rest:
    """Coinbase's REST methods, with the trades that it still has."""

    def __init__(self, *have: int) -> None:
        self.have = have
        self.pages = 0

    def __call__(self, path: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        assert headers["user-agent"]
        parts = path.strip("/").split("/")
        if parts[1] not in IDS:
            return as_json({"message": "NotFound"}, 404)
        if len(parts) == 2:
            return as_json(
                {"id": parts[1], "quote_increment": "0.01", "base_increment": "0.00000001", "display_name": "BTC/USD"}
            )
        self.pages += 1
        found = [number for number in reversed(self.have) if number < int(query["after"])][: int(query["limit"])]
        keys = ("trade_id", "side", "size", "price", "time")
        return as_json([{name: match(number)[name] for name in keys} for number in found[:2]])  # small pages


async def updates_of(*messages: Any, until_update: type[Any] = Batch) -> list[Update]:
    async with running(Venue([[*messages]], confirmed)) as venue:
        updates = Coinbase([*IDS], url=venue.url).updates(IDS, {})
        found: list[Update] = []
        async with asyncio.timeout(10):
            while not any(isinstance(update, until_update) for update in found):
                found.append(await anext(updates))
        await updates.aclose()
    assert venue.subscriptions == [
        {"type": "subscribe", "product_ids": ["BTC-USD", "ETH-USD"], "channels": ["heartbeat", "ticker", "matches"]}
    ]
    return found


async def test_the_documented_match() -> None:
    found = await updates_of(match(10))
    assert found[0] == Connected()
    (batch,) = [update for update in found if isinstance(update, Batch)]
    row = {name: values[0] for name, values in batch.columns.items() if name != "ts_recv"}
    assert batch.kind is Kind.TRADE
    assert row == {
        "instrument_id": 1,
        "ts_event": 1_415_348_350_028_459_000,
        "sequence": 10,
        "price": 400_230_000_000,
        "size": 5_235_120_000,
        "side": Side.SIDE_BUY,  # the maker sold
    }


async def test_the_documented_ticker_and_one_without_sizes() -> None:
    old = ticker(4, product_id="BTC-USD")
    del old["best_bid_size"]
    (batch,) = [update for update in await updates_of({"type": "new"}, ticker(3), old) if isinstance(update, Batch)]
    rows = {name: values.tolist() for name, values in batch.columns.items() if name != "ts_recv"}
    assert batch.kind is Kind.QUOTE
    assert rows == {
        "instrument_id": [2, 1],
        "ts_event": [1_666_222_102_061_769_000] * 2,
        "sequence": [3, 4],
        "bid_price": [1_285_040_000_000] * 2,
        "bid_size": [466_886_540, ABSENT],
        "ask_price": [1_285_270_000_000] * 2,
        "ask_size": [1_566_370_400] * 2,
    }


async def test_a_heartbeat_tells_what_should_have_come_by_the_next_one() -> None:
    found = await updates_of(beat(20), beat(0, "ETH-USD"), beat(21), beat(1, "ETH-USD"), until_update=Newest)
    assert [update for update in found if isinstance(update, Newest)] == [Newest(Kind.TRADE, 1, 20)]


@pytest.mark.parametrize(
    ("message", "says", "kind"),
    [
        (ERROR, "not a valid product", RefusedError),
        ({"type": "error", "message": "slow consumer"}, "slow consumer", SourceError),
        (match(1, side="?"), "cannot be read", SourceError),
        (match(1, time="yesterday"), "a time cannot be read", SourceError),
        (ticker(1, product_id="OTHER"), "cannot be read", SourceError),
        (CUT, "broke", SourceError),
    ],
)
async def test_what_breaks_a_connection(message: Any, says: str, kind: type[Exception]) -> None:
    with pytest.raises(SourceError, match=says) as caught:
        await updates_of(message, until_update=SourceError)
    assert type(caught.value) is kind


@asynccontextmanager
async def feeding(api: Api, venue: Venue, rest_url: str) -> AsyncIterator[Feed]:
    async with Client.connect(api.url, api.api_key) as client:
        feed = Feed(client, Coinbase([*IDS], url=venue.url, rest_url=rest_url), "CRYPTO.COINBASE", "cb-1")
        task = asyncio.create_task(feed.run())
        try:
            yield feed
            feed.stop()
            await asyncio.wait_for(task, 20)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_cut_and_a_trade_lost_at_the_end(api: Api, nats_url: str) -> None:
    scripts = [
        [match(1, type="last_match"), match(2), ticker(7), beat(2), CUT],
        # what was known comes first; 3 to 7 were missed; 9 and 10 never come, as heartbeats tell
        [match(2, type="last_match"), ticker(7), match(8), ticker(9), beat(8), beat(10), beat(10)],
    ]
    have = Rest(3, 4, 5, 6, 7, 9)
    with rest(have) as rest_url:
        async with running(Venue(scripts, confirmed)) as venue, feeding(api, venue, rest_url) as feed:
            await until(lambda: feed.status.rows == 11)
            facts = feed.status.facts()
    tape = await on_tape(nats_url, "CRYPTO.COINBASE")
    assert tape.numbers(Kind.TRADE) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert tape.numbers(Kind.QUOTE, 2) == [7, 9]
    assert tape.facts == ["down open", "down closed", "missing open 1: 10-10", "down open"]
    assert (facts["recovered_rows"], facts["known_rows"], facts["gaps"]) == (6, 2, 1)
    assert have.pages == 4  # of two trades each, into the past
    async with Client.connect(api.url, api.api_key) as client:
        known = await client.list_instruments("CRYPTO.COINBASE")
    assert [(one.symbol, one.tick_size_nanos) for one in known] == [("BTC-USD", 10_000_000), ("ETH-USD", 10_000_000)]


async def test_a_product_that_coinbase_does_not_know_ends_the_feed(api: Api) -> None:
    with rest(Rest()) as rest_url:
        async with Client.connect(api.url, api.api_key) as client:
            feed = Feed(client, Coinbase(["NONE-SUCH"], rest_url=rest_url), "CRYPTO.COINBASE")
            with pytest.raises(RefusedError, match="404"):
                await asyncio.wait_for(feed.run(), 10)
