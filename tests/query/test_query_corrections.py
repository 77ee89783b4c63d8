"""Cancelled and corrected trades, as readers are told them."""

from __future__ import annotations

from typing import Any

from nats.aio.client import Client

from marketdata.columns import Batch, Kind, from_message
from marketdata.query.v1.query_service_pb2 import StreamTradesResponse, SubscribeResponse
from marketdata.v1.batch_pb2 import TradeAction, TradeView
from marketdata.wire import parse
from mda.query.row_stream import QUOTES, TRADES, RowStream
from tests.query.feeding import Feed, Reader, make_feed, opened, reading
from tests.tape.helpers import eventually, quotes, running, trades

CORRECTED = TradeView.TRADE_VIEW_CORRECTED
CANCEL, CORRECT = TradeAction.TRADE_ACTION_CANCEL, TradeAction.TRADE_ACTION_CORRECT


def change(sequence: int, action: int, refers_to: int, price: int = 7, instrument_id: int = 1) -> Batch:
    return trades(
        sequence, instrument_id=[instrument_id], action=[action], refers_to=[refers_to], price=[price], size=[price]
    )


def prices(reader: Reader) -> list[tuple[int, int]]:
    """Return sequence and price of each trade that a reader got."""
    messages = [parse(SubscribeResponse, data) for data in reader.data]
    batches = [from_message(batch) for message in messages for batch in message.batches]
    found: list[tuple[int, int]] = []
    for batch in batches:
        if batch.kind is Kind.TRADE:
            found += zip(batch["sequence"].tolist(), batch["price"].tolist(), strict=True)
    return found


async def _changed_feed(client: Client) -> Feed:
    feed = await make_feed(client)
    await feed.write(trades(1, 3), quotes(50))
    await feed.write(trades(4, 2, instrument_id=[2, 2]))
    await feed.write(change(10, CANCEL, 2), change(11, CORRECT, 3), change(12, CANCEL, 5, instrument_id=2))
    return feed


async def test_a_reader_of_the_past_is_told_trades_as_they_stand(client: Client) -> None:
    feed = await _changed_feed(client)
    async with opened(feed) as hub:
        start = {"cursor": hub.cursor(0)}
        async with reading(hub, **start) as raw, reading(hub, view=CORRECTED, **start) as corrected:
            await eventually(lambda: len(raw.rows) == 9 and len(corrected.rows) == 7)
            assert prices(raw) == [(s, 1) for s in (1, 2, 3, 4, 5)] + [(10, 7), (11, 7), (12, 7)]
            assert prices(corrected) == [
                (1, 1), (3, 7), (4, 1), (10, 7), (11, 7), (12, 7),
            ]  # fmt: skip


async def test_who_was_sent_the_trade_is_sent_its_correction(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub, reading(hub, view=CORRECTED) as reader:
        await feed.write(trades(1))
        await eventually(lambda: reader.rows == [1])
        await feed.write(change(2, CANCEL, 1))
        await eventually(lambda: reader.rows == [1, 2])
        # The ring's entry was made ready before the cancel was known.
        async with reading(hub, view=CORRECTED, cursor=hub.cursor(0)) as late:
            await eventually(lambda: late.rows == [2])


async def test_symbols_and_corrections_go_together(client: Client) -> None:
    feed = await _changed_feed(client)
    async with opened(feed) as hub, reading(hub, ["B"], view=CORRECTED, cursor=hub.cursor(0)) as reader:
        await eventually(lambda: reader.rows == [4, 12])


async def test_the_latest_trade_is_the_newest_that_stands(client: Client) -> None:
    feed = await _changed_feed(client)

    def latest(hub: Any, ids: list[int] | None = None, *, corrected: bool = True) -> list[tuple[int, int]]:
        found = hub.latest_rows(Kind.TRADE, ids, corrected=corrected)
        if found is None:
            return []
        return list(zip(found["sequence"].tolist(), found["price"].tolist(), strict=True))

    async with opened(feed) as hub:
        assert latest(hub, corrected=False) == [(3, 1), (5, 1)]
        assert latest(hub) == [(3, 7), (4, 1)]
        assert latest(hub, [2, 3, 1]) == [(4, 1), (3, 7)]
        assert latest(hub, [3]) == []
        await feed.write(change(20, CANCEL, 4, instrument_id=2), change(21, CANCEL, 3))
        await eventually(lambda: hub.head == 4)
        assert latest(hub) == [(1, 1)]
        assert hub.latest_rows(Kind.QUOTE, None, corrected=True) is not None
        await feed.write(change(22, CANCEL, 1))
        await eventually(lambda: hub.head == 5)
        assert latest(hub) == []
        async with reading(hub, view=CORRECTED, snapshot=True, kinds=[Kind.TRADE]) as reader:
            await feed.write(trades(30))
            await eventually(lambda: reader.rows == [30])
            assert reader.snapshot == []


async def test_what_is_known_outlives_a_replica(client: Client) -> None:
    feed = await _changed_feed(client)
    async with opened(feed) as hub:
        await hub._checkpoint()
    await feed.write(trades(30))
    async with opened(feed, ring_bytes=1) as hub, reading(hub, view=CORRECTED, cursor=hub.cursor(0)) as reader:
        await eventually(lambda: set(reader.rows) == {1, 3, 4, 10, 11, 12, 30, 50})


async def test_a_conflated_reader_gets_the_newest_that_stands_and_every_correction(client: Client) -> None:
    feed = await _changed_feed(client)
    start: dict[str, Any] = {"cursor": "", "conflate": {"nanos": 50_000_000}, "kinds": [Kind.TRADE]}
    async with opened(feed) as hub:
        start["cursor"] = hub.cursor(0)
        async with reading(hub, **start) as raw, reading(hub, view=CORRECTED, **start) as corrected:
            await eventually(lambda: bool(raw.rows and corrected.rows))
            assert raw.rows == [3, 5, 10, 11, 12]
            assert prices(corrected) == [(3, 7), (4, 1), (10, 7), (11, 7), (12, 7)]


async def test_rows_for_people_are_told_as_they_stand(client: Client) -> None:
    feed = await _changed_feed(client)
    async with opened(feed) as hub:
        got: list[StreamTradesResponse] = []

        async def write(data: bytes) -> None:
            got.append(StreamTradesResponse.FromString(data))

        stream = RowStream(hub, 0, TRADES, [1], snapshot=True, corrected=True)
        plain = RowStream(hub, 0, QUOTES, None, snapshot=False)
        async with running(stream.send(write)):
            await eventually(lambda: sum(len(message.trades) for message in got) == 5)
        found = [(trade.sequence, trade.price, trade.action) for message in got for trade in message.trades]
        assert found == [
            (3, "0.000000007", 0), (1, "0.000000001", 0), (3, "0.000000007", 0),
            (10, "0.000000007", CANCEL), (11, "0.000000007", CORRECT),
        ]  # fmt: skip
        assert plain._corrections is None
