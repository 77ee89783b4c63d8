"""Binance: its documented messages, and a whole feed against a server that breaks connections as Binance does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from feed_api import Api
from venues import CLOSE, CUT, PING, Answer, Venue, as_json, on_tape, rest, running, until

from marketdata.client import Client
from marketdata.columns import ABSENT, NANOS, Batch, Kind
from marketdata.v1.batch_pb2 import Side
from mda.feeds.binance import STREAMS, Binance
from mda.feeds.feed import Feed
from mda.feeds.source import Alive, Connected, RefusedError, SourceError, Update

IDS = {"BNBBTC": 1, "BNBUSDT": 2}
BASE_US = 1_672_515_782_136_000


def trade(number: int, symbol: str = "BNBBTC", **values: Any) -> dict[str, Any]:
    """Return a message of a trade, as documented (with microseconds, as asked for)."""
    event = {
        "e": "trade",
        "E": BASE_US + number * 1000 + 3,
        "s": symbol,
        "t": number,
        "p": "0.001",
        "q": "100",
        "T": BASE_US + number * 1000,
        "m": True,
        "M": True,
    } | values
    return {"stream": f"{symbol.lower()}@trade", "data": event}


QUOTE = {
    "stream": "bnbusdt@bookTicker",
    "data": {
        "u": 400900217,
        "s": "BNBUSDT",
        "b": "25.35190000",
        "B": "31.21000000",
        "a": "25.36520000",
        "A": "40.66000000",
    },
}
SHUTDOWN = {"stream": "", "data": {"e": "serverShutdown", "E": 1770123456789000}}


def old_trade(number: int) -> dict[str, Any]:
    """Return an entry of `historicalTrades`, as documented."""
    return {
        "id": number,
        "price": "4.00000100",
        "qty": "12.00000000",
        "quoteQty": "48.000012",
        "time": BASE_US + number * 1000,
        "isBuyerMaker": True,
        "isBestMatch": True,
    }


def info(symbol: str) -> dict[str, Any]:
    """Return a symbol of `exchangeInfo`, as documented, in part."""
    return {
        "symbol": symbol,
        "status": "TRADING",
        "baseAsset": symbol[:3],
        "quoteAsset": symbol[3:],
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.00000100", "maxPrice": "100000.0", "tickSize": "0.00000100"},
            {"filterType": "LOT_SIZE", "minQty": "0.00100000", "maxQty": "100000.0", "stepSize": "0.00100000"},
        ],
    }


class Rest:
    """Binance's REST methods, with the trades that it still has."""

    def __init__(self, *have: int) -> None:
        self.have = have
        self.asked: list[dict[str, str]] = []
        self.refuses: Answer | None = None

    def __call__(self, path: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        if path == "/api/v3/exchangeInfo":
            symbols = json.loads(query["symbols"])
            if "NONESUCH" in symbols:
                return as_json({"code": -1121, "msg": "Invalid symbol."}, 400)
            return as_json({"timezone": "UTC", "symbols": [info(symbol) for symbol in symbols]})
        assert path == "/api/v3/historicalTrades"
        assert headers["x-mbx-time-unit"] == "MICROSECOND"
        self.asked.append(query)
        if self.refuses is not None:
            return self.refuses
        found = [number for number in self.have if number >= int(query["fromId"])]
        return as_json([old_trade(number) for number in found[: int(query["limit"])]])


def confirmed(subscription: Any) -> list[Any]:
    assert subscription["method"] == "SUBSCRIBE"
    return [{"result": None, "id": subscription["id"]}]


async def updates_of(*messages: Any, count: int = 1) -> list[Update]:
    """Return what a source yields of messages."""
    async with running(Venue([[*messages]], confirmed)) as venue:
        updates = Binance(["BNBBTC", "BNBUSDT"], url=venue.url).updates(IDS, {})
        found: list[Update] = []
        async with asyncio.timeout(10):
            while sum(isinstance(update, Batch) for update in found) < count:
                found.append(await anext(updates))
        await updates.aclose()
        return found


async def test_the_documented_trade_and_quote() -> None:
    found = await updates_of(trade(12345), QUOTE, count=2)
    assert Connected() in found
    trades, quotes = [update for update in found if isinstance(update, Batch)]
    row = {name: values[0] for name, values in trades.columns.items()}
    assert trades.kind is Kind.TRADE
    assert row["ts_recv"] > row["ts_event"]
    del row["ts_recv"]
    assert row == {
        "instrument_id": 1,
        "ts_event": (BASE_US + 12345 * 1000) * 1000,
        "sequence": 12345,
        "price": NANOS // 1000,
        "size": 100 * NANOS,
        "side": Side.SIDE_SELL,  # the buyer was the maker
    }
    row = {name: values[0] for name, values in quotes.columns.items()}
    assert row.pop("ts_event") == row.pop("ts_recv")
    assert row == {
        "instrument_id": 2,
        "sequence": 400900217,
        "bid_price": 25_351_900_000,
        "bid_size": 31_210_000_000,
        "ask_price": 25_365_200_000,
        "ask_size": 40_660_000_000,
    }


async def test_a_buyer_that_took_and_a_size_beyond_what_we_count() -> None:
    (batch,) = [update for update in await updates_of(trade(1, m=False, q="12345678901")) if isinstance(update, Batch)]
    assert (batch["side"].tolist(), batch["size"].tolist()) == ([Side.SIDE_BUY], [ABSENT])


@pytest.mark.parametrize(
    ("message", "says", "kind"),
    [
        (SHUTDOWN, "about to shut", SourceError),
        ({"error": {"code": 2, "msg": "Invalid request: too many parameters"}, "id": 1}, "too many", RefusedError),
        ({"code": 2, "msg": "Invalid request: property name must be a string"}, "property name", RefusedError),
        (trade(1, p="1e5x"), "cannot be read", SourceError),
        (trade(1, p="99999999999"), "too large for a price", SourceError),
        (trade(1, symbol="OTHER"), "cannot be read", SourceError),
        ({"stream": "x", "data": {"e": "trade"}}, "cannot be read", SourceError),
        ([1], "no JSON object", SourceError),
        (CUT, "broke", SourceError),
        (CLOSE, "broke", SourceError),
    ],
)
async def test_what_breaks_a_connection(message: Any, says: str, kind: type[Exception]) -> None:
    with pytest.raises(SourceError, match=says) as caught:
        await updates_of(message)
    assert type(caught.value) is kind


async def test_messages_that_it_does_not_know_are_passed_over_and_quiet_is_well() -> None:
    async with running(Venue([[{"stream": "x", "data": {"e": "kline"}}]], confirmed)) as venue:
        updates = Binance(["BNBBTC"], url=venue.url).updates(IDS, {})
        async with asyncio.timeout(10):
            while await anext(updates) != Alive():
                pass
        await updates.aclose()
    assert venue.subscriptions == [{"method": "SUBSCRIBE", "params": ["bnbbtc@bookTicker", "bnbbtc@trade"], "id": 1}]
    assert venue.paths == ["/stream?timeUnit=MICROSECOND"]


async def test_no_venue_is_an_error_that_may_pass_and_no_address_is_one_that_does_not() -> None:
    with pytest.raises(SourceError, match="does not answer"):
        await anext(Binance(["BNBBTC"], url="ws://127.0.0.1:9").updates(IDS, {}))
    with pytest.raises(RefusedError):
        await anext(Binance(["BNBBTC"], url="http://127.0.0.1:9").updates(IDS, {}))


@asynccontextmanager
async def feeding(api: Api, venue: Venue, rest_url: str, *kinds: Kind) -> AsyncIterator[Feed]:
    """Run a feed, and stop it at the end."""
    async with Client.connect(api.url, api.api_key) as client:
        source = Binance(["BNBBTC", "BNBUSDT"], kinds or tuple(STREAMS), url=venue.url, rest_url=rest_url)
        feed = Feed(client, source, "CRYPTO.BINANCE")
        task = asyncio.create_task(feed.run())
        try:
            yield feed
            feed.stop()
            await asyncio.wait_for(task, 20)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_cut_in_the_middle_loses_and_doubles_nothing_that_binance_still_has(api: Api, nats_url: str) -> None:
    scripts = [
        [PING, *(trade(number) for number in range(1, 6)), QUOTE, CUT],
        [trade(5), *(trade(number) for number in range(9, 12)), SHUTDOWN],
        [trade(12), CLOSE],
        [trade(15)],
    ]
    have = Rest(6, 7, 8, 13, 14)
    with rest(have) as rest_url:
        async with running(Venue(scripts, confirmed)) as venue, feeding(api, venue, rest_url) as feed:
            await until(lambda: feed.status.rows == 16)
            facts = feed.status.facts()
    tape = await on_tape(nats_url, "CRYPTO.BINANCE")
    assert tape.numbers(Kind.TRADE) == list(range(1, 16))
    assert tape.numbers(Kind.QUOTE, 2) == [400900217]
    assert tape.facts == ["down open", "down closed"] * 3 + ["down open"]  # open again, as it was stopped
    for opened, closed in zip(tape.gaps[:6:2], tape.gaps[1:6:2], strict=True):
        assert opened.open_time == closed.open_time
        assert closed.close_time.ToNanoseconds() >= closed.open_time.ToNanoseconds()
    assert [query["fromId"] for query in have.asked] == ["6", "13"]
    assert (facts["recovered_rows"], facts["known_rows"], facts["breaks"], facts["gaps"]) == (5, 1, 3, 0)
    assert venue.pongs == 1
    async with Client.connect(api.url, api.api_key) as client:
        known = await client.list_instruments("CRYPTO.BINANCE")
    assert [(one.symbol, one.tick_size_nanos, one.description) for one in known] == [
        ("BNBBTC", 1000, "Binance BNB/BTC"),
        ("BNBUSDT", 1000, "Binance BNB/USDT"),
    ]


@pytest.mark.parametrize(
    "refuses",
    [None, as_json({"code": -1003, "msg": "Too many requests"}, 429, **{"retry-after": "30"}), as_json({}, 403)],
)
async def test_what_binance_has_no_more_is_a_gap(api: Api, nats_url: str, refuses: Answer | None) -> None:
    have = Rest(7)
    have.refuses = refuses
    with rest(have) as rest_url:
        scripts = [[trade(4), trade(5), CUT], [trade(9), trade(10)]]
        async with running(Venue(scripts, confirmed)) as venue, feeding(api, venue, rest_url, Kind.TRADE) as feed:
            await until(lambda: feed.status.state == "live" and feed.status.rows >= 4 and feed.status.gaps > 0)
    tape = await on_tape(nats_url, "CRYPTO.BINANCE")
    missing = ["missing open 1: 6-8"] if refuses else ["missing open 1: 6-6", "missing open 1: 8-8"]
    assert tape.numbers(Kind.TRADE) == ([4, 5, 9, 10] if refuses else [4, 5, 7, 9, 10])
    assert tape.facts == ["down open", "down closed", *missing, "down open"]
    assert {gap.kind for gap in tape.gaps if gap.instrument_id} == {Kind.TRADE.value}


async def test_a_feed_that_is_started_anew_goes_on_where_it_stood(api: Api, nats_url: str) -> None:
    have = Rest(3)
    with rest(have) as rest_url:
        async with running(Venue([[trade(1), trade(2)]], confirmed)) as venue, feeding(api, venue, rest_url) as feed:
            await until(lambda: feed.status.rows == 2)
        # the venue repeats, and has gone on meanwhile
        async with running(Venue([[trade(2), trade(4)]], confirmed)) as venue, feeding(api, venue, rest_url) as feed:
            await until(lambda: feed.status.rows == 2)
    tape = await on_tape(nats_url, "CRYPTO.BINANCE")
    assert tape.numbers(Kind.TRADE) == [1, 2, 3, 4]
    assert tape.facts == ["down open", "down closed", "down open"]


async def test_a_feed_that_was_killed_tells_that_nobody_knows_what_happened_since(api: Api, nats_url: str) -> None:
    with rest(Rest()) as rest_url:
        first = Venue([[trade(1)]], confirmed)
        async with running(first), Client.connect(api.url, api.api_key) as client:
            feed = Feed(client, Binance(["BNBBTC"], url=first.url, rest_url=rest_url), "CRYPTO.BINANCE")
            task = asyncio.create_task(feed.run())
            async with asyncio.timeout(10):
                while (await on_tape(nats_url, "CRYPTO.BINANCE")).numbers(Kind.TRADE) != [1]:
                    await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with running(Venue([[trade(1), trade(2)]], confirmed)) as venue, feeding(api, venue, rest_url) as feed:
            await until(lambda: feed.status.rows == 1)
    tape = await on_tape(nats_url, "CRYPTO.BINANCE")
    assert tape.numbers(Kind.TRADE) == [1, 2]
    assert tape.facts == ["down open", "down closed", "down open"]


async def test_numbers_that_begin_anew_are_a_gap_of_unknown_size(api: Api, nats_url: str) -> None:
    later = BASE_US + 10_000_000
    with rest(Rest()) as rest_url:
        script = [trade(500), trade(501), trade(1, T=later), trade(2, T=later + 1)]
        async with running(Venue([script], confirmed)) as venue, feeding(api, venue, rest_url) as feed:
            await until(lambda: feed.status.rows == 4)
    tape = await on_tape(nats_url, "CRYPTO.BINANCE")
    assert tape.numbers(Kind.TRADE) == [500, 501, 1, 2]
    assert tape.facts == ["missing open 1: 0-0", "down open"]


async def test_a_symbol_that_binance_does_not_know_ends_the_feed(api: Api) -> None:
    with rest(Rest()) as rest_url:
        async with Client.connect(api.url, api.api_key) as client:
            feed = Feed(client, Binance(["NONESUCH"], rest_url=rest_url), "CRYPTO.BINANCE")
            with pytest.raises(RefusedError, match="Invalid symbol"):
                await asyncio.wait_for(feed.run(), 10)
