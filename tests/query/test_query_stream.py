"""The contract of a stream: every row once, in order, however it is read."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from nats.aio.client import Client

from marketdata.columns import Kind
from marketdata.query.v1.query_service_pb2 import StreamQuotesResponse
from mda.market.errors import MarketDataError, draining
from mda.query import hub as hub_module
from mda.query.hub import Hub
from mda.query.row_stream import QUOTES, TRADES, RowStream
from mda.query.stream import MAX_WRITE_BYTES
from tests.query.feeding import Reader, make_feed, opened, reading, subscribe
from tests.tape.helpers import eventually, quotes, running, trades

RING_BYTES = {"ring": 1 << 26, "tape": 1}


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_TICK_S", 0.02)


@pytest.mark.parametrize("source", RING_BYTES)
@pytest.mark.parametrize(("symbols", "kinds"), [(None, []), (["A", "C"], []), (None, ["KIND_TRADE"]), (["B"], [1])])
async def test_all_readers_get_the_same_rows(client: Client, source: str, symbols: Any, kinds: Any) -> None:
    """From the ring or from the tape; at once, late, slow or from the start."""
    feed = await make_feed(client)
    chance = random.Random(5)
    expected: list[int] = []
    wanted = {1, 2, 3} if symbols is None else {"ABC".index(symbol) + 1 for symbol in symbols}
    async with opened(feed, ring_bytes=RING_BYTES[source]) as hub:
        start = hub.cursor(0)
        options = {"kinds": kinds}
        async with (
            reading(hub, symbols, **options) as fast,
            reading(hub, symbols, **options) as slow,
            reading(hub, symbols, **options, cursor=start) as early,
        ):
            await eventually(lambda: bool(fast.messages and slow.messages and early.messages))
            slow.go.clear()
            for number in range(0, 300, 3):
                ids = [chance.randrange(1, 4) for _ in range(3)]
                make = chance.choice([trades, quotes])
                await feed.write(make(number, 3, instrument_id=ids))
                if make is trades or kinds != ["KIND_TRADE"]:
                    if kinds == [1] and make is trades:
                        continue
                    expected += [number + at for at in range(3) if ids[at] in wanted]
            slow.go.set()
            async with reading(hub, symbols, **options, cursor=start) as late:
                readers = (fast, slow, early, late)
                await eventually(lambda: all(len(reader.rows) >= len(expected) for reader in readers))
    assert len(expected) > 20
    for reader in readers:
        assert reader.rows == expected
    assert len(late.messages) < len(fast.messages) / 3  # entries were joined


async def test_any_cursor_goes_on_at_its_place(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub, reading(hub) as reader:
        for number in range(0, 60, 2):
            await feed.write(trades(number, 2))
        await eventually(lambda: len(reader.rows) == 60)
        count = 0
        for message in reader.messages:
            count += sum(batch.rows for batch in message.batches)
            if not message.cursor or count == 60:
                continue
            async with reading(hub, cursor=message.cursor) as resumed:
                await eventually(lambda resumed=resumed: resumed.rows[-1:] == [59])
                assert resumed.rows == list(range(count, 60))


async def test_messages_are_bounded_and_one_entry_may_be_larger(client: Client) -> None:
    feed = await make_feed(client)
    sizes = [10_000, 10_000, 10_000, 32_768, 10_000, 10, 10]
    async with opened(feed) as hub:
        first = 0
        for rows in sizes:
            await feed.write(trades(first, rows, size=[1] * rows))
            first += rows
        await eventually(lambda: hub.head == len(sizes))
        async with reading(hub, cursor=hub.cursor(0)) as reader:
            await eventually(lambda: len(reader.rows) == first)
    assert reader.rows == list(range(first))
    with_rows = [(len(data), message) for data, message in zip(reader.data, reader.messages, strict=True)]
    with_rows = [(size, message) for size, message in with_rows if message.batches]
    assert 3 <= len(with_rows) < len(sizes)
    for size, message in with_rows:
        assert size <= MAX_WRITE_BYTES + 100 or len(message.batches) == 1


@pytest.mark.parametrize("symbols", [None, ["A", "B"]])
async def test_readers_of_the_same_share_one_encode(client: Client, symbols: Any) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub, reading(hub, symbols) as one, reading(hub, symbols) as other:
        await eventually(lambda: bool(one.messages and other.messages))
        await feed.write(trades(1, 3, instrument_id=[1, 2, 3]))
        await eventually(lambda: bool(one.rows and other.rows))
        assert one.data[-1] is other.data[-1]
        async with reading(hub, cursor=hub.cursor(0)) as late:
            await eventually(lambda: bool(late.rows))
            assert symbols is not None or late.data[-1] is one.data[-1]


@pytest.mark.parametrize("seed", range(3))
async def test_a_snapshot_fits_what_follows(client: Client, seed: int) -> None:
    """No row of the snapshot comes again, and none after it is missing."""
    feed = await make_feed(client, "A", "B", "C", "D")
    chance = random.Random(seed)
    done = asyncio.Event()
    newest: dict[int, int] = {}
    history: list[tuple[int, int]] = []  # instrument, row

    async def write() -> None:
        while not done.is_set():
            number = len(history)
            ids = [chance.randrange(1, 5) for _ in range(3)]
            history.extend((instrument, number + at) for at, instrument in enumerate(ids))
            await feed.write(trades(number, 3, instrument_id=ids))

    async with opened(feed) as hub, running(write()) as (writer,):
        readers: list[tuple[Reader, set[int]]] = []
        for _ in range(6):
            goal = hub.head + chance.randrange(2, 9)
            await eventually(lambda due=goal: hub.head >= due)
            symbols = chance.choice([None, ["A"], ["B", "D"]])
            wanted = {1, 2, 3, 4} if symbols is None else {"ABCD".index(s) + 1 for s in symbols}
            readers.append((Reader(await subscribe(hub, symbols, snapshot=True)), wanted))
            await asyncio.sleep(0)
        async with running(*(reader.run() for reader, _ in readers)):
            goal = hub.head + 20
            await eventually(lambda: hub.head >= goal)
            done.set()
            await writer
            await eventually(lambda: hub.head * 3 == len(history))
            for reader, wanted in readers:
                last = max(row for instrument, row in history if instrument in wanted)
                await eventually(lambda reader=reader, last=last: reader.rows[-1:] == [last])
    for reader, wanted in readers:
        first = min(reader.rows)
        newest = {instrument: row for instrument, row in history if row < first}
        expected = [row for instrument, row in history if instrument in wanted and row >= first]
        assert reader.rows == expected
        assert set(reader.snapshot) == {row for instrument, row in newest.items() if instrument in wanted}
        assert len(reader.snapshot) == len(set(reader.snapshot))


@pytest.mark.usefixtures("often")
async def test_a_quiet_stream_beats_and_a_busy_one_does_not(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed, ticks=True) as hub:
        quiet, busy = await subscribe(hub, ["A"]), await subscribe(hub, ["B"])
        for subscription in (quiet, busy):
            subscription._heartbeat_s = 0.25
        readers = [Reader(quiet), Reader(busy)]
        async with running(*(reader.run() for reader in readers)):
            number = 0
            while sum(message.HasField("watermark") for message in readers[0].messages) < 2:
                number += 1
                await feed.write(trades(number, instrument_id=[2]))
                await eventually(lambda due=number: readers[1].rows[-1:] == [due])
                await asyncio.sleep(0.01)
        marks = [message for message in readers[0].messages if message.HasField("watermark")]
        assert marks[-1].watermark.delivered_rows == 0
        assert hub.head - 25 < marks[-1].watermark.tape_sequence <= hub.head
        assert marks[-1].watermark.lag_entries <= 1
        assert await hub.place(marks[-1].cursor, "cursor") > await hub.place(marks[0].cursor, "cursor")
        assert not any(message.HasField("watermark") for message in readers[1].messages)


@pytest.mark.usefixtures("often")
async def test_a_reader_ahead_of_the_hub_waits_for_it(client: Client) -> None:
    """Its cursor is of another replica, which was ahead."""
    feed = await make_feed(client)
    async with opened(feed) as ahead:
        await feed.write(trades(1))
        await feed.write(trades(2))
        await eventually(lambda: ahead.head == 2)
        behind = Hub(client, feed.dataset, 1000)
        await behind.open()
        subscription = await subscribe(behind, cursor=ahead.cursor(2))
        subscription._heartbeat_s = 0
        reader = Reader(subscription)
        async with running(reader.run(), behind.tick()):
            await eventually(lambda: any(message.HasField("watermark") for message in reader.messages))
            assert reader.messages[-1].watermark.lag_entries == 0
            async with running(behind.run()):
                await feed.write(trades(3))
                await eventually(lambda: bool(reader.rows))
    assert reader.rows == [3]


async def test_close_ends_a_stream_that_waits(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub:
        reader = Reader(await subscribe(hub))
        task = asyncio.create_task(reader.run())
        await eventually(lambda: len(reader.messages) == 2)
        assert reader.subscription in hub._readers
        reader.subscription.close(draining())
        with pytest.raises(MarketDataError, match="shutting down"):
            await asyncio.wait_for(task, 5)
        assert reader.subscription not in hub._readers


async def test_close_while_the_tape_is_read_is_not_forgotten(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed, ring_bytes=1) as hub:
        for number in range(3):
            await feed.write(trades(number, instrument_id=[2]))
        await eventually(lambda: hub.head == 3)
        subscription = await subscribe(hub, ["A"], cursor=hub.cursor(0))
        entries_after = hub.entries_after

        async def closed_meanwhile(sequence: int, limit: int, until: int | None) -> Any:
            entries = await entries_after(sequence, limit, until)
            if sequence == 0:
                subscription.close(draining())
            return entries

        hub.entries_after = closed_meanwhile
        with pytest.raises(MarketDataError, match="shutting down"):
            await asyncio.wait_for(Reader(subscription).run(), 2)


async def test_a_reader_with_nothing_to_read_sleeps(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub, reading(hub) as reader:
        await feed.write(trades(1))
        await eventually(lambda: reader.rows == [1])
        stream: Any = reader.subscription
        prepare, looks = stream._prepare, 0

        def counted() -> None:
            nonlocal looks
            looks += 1
            prepare()

        stream._prepare = counted
        for _ in range(100):
            await asyncio.sleep(0)
        assert looks == 0
        await feed.write(trades(2))
        await eventually(lambda: reader.rows == [1, 2])
        assert 1 <= looks <= 2


async def test_a_reader_that_skips_much_lets_others_run(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub:
        for number in range(300):
            await feed.write(trades(number, instrument_id=[2]))
        await eventually(lambda: hub.head == 300)
        subscription = await subscribe(hub, ["A"], cursor=hub.cursor(0))
        places: list[int] = []

        async def watch() -> None:
            while True:
                places.append(subscription.position)
                await asyncio.sleep(0)

        async with running(Reader(subscription).run(), watch()):
            await eventually(lambda: subscription.position == 300)
    assert set(places) - {0, 300}


async def test_a_reader_whose_place_goes_is_told(client: Client) -> None:
    feed = await make_feed(client, max_bytes=20_000, keep_s=3600)
    async with opened(feed, ring_bytes=1) as hub:
        start = hub.cursor(0)
        subscription = await subscribe(hub, cursor=start)
        for number in range(0, 1600, 20):
            await feed.write(trades(number, 20))
        await eventually(lambda: hub.head == 80)
        with pytest.raises(MarketDataError) as caught:
            await asyncio.wait_for(Reader(subscription).run(), 5)
        assert caught.value.reason_name == "CURSOR_OUT_OF_RANGE"
        async with reading(hub, cursor=caught.value.metadata["earliest"]) as reader:
            await eventually(lambda: reader.rows[-1:] == [1599])
        assert reader.rows == list(range(reader.rows[0], 1600))


async def _take(stream: RowStream, count: int) -> list[StreamQuotesResponse]:
    messages: list[StreamQuotesResponse] = []

    async def write(data: bytes) -> None:
        messages.append(StreamQuotesResponse.FromString(data))  # trades have the same fields, but for rows
        if len(messages) == count:
            raise StopAsyncIteration

    async with asyncio.timeout(5):
        with pytest.raises(StopAsyncIteration):
            await stream.send(write)
    return messages


async def test_rows_come_with_symbols_and_a_snapshot_first(client: Client) -> None:
    feed = await make_feed(client)
    await feed.write(quotes(1, 3, instrument_id=[1, 2, 1], bid_price=[1, 2, 3]), trades(4))
    async with opened(feed) as hub:
        stream = RowStream(hub, hub.head, QUOTES, [1, 2], snapshot=True)
        await feed.write(trades(5), quotes(6, 2, instrument_id=[3, 1], bid_price=[4, 5]))
        snapshot, live = await _take(stream, 2)
        assert [(quote.symbol, quote.sequence) for quote in snapshot.quotes] == [("A", 3), ("B", 2)]
        assert [(quote.symbol, quote.bid_price) for quote in live.quotes] == [("A", "0.000000005")]
        assert await hub.place(snapshot.cursor, "cursor") == 1
        assert await hub.place(live.cursor, "cursor") == 2


async def test_a_snapshot_of_nothing_still_tells_its_place(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub:
        (snapshot,) = await _take(RowStream(hub, hub.head, TRADES, None, snapshot=True), 1)
        assert len(snapshot.quotes) == 0
        assert snapshot.cursor == hub.cursor(0)


@pytest.mark.usefixtures("often")
async def test_a_quiet_stream_of_rows_beats(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed, ticks=True) as hub:
        stream = RowStream(hub, hub.head, QUOTES, None, snapshot=False)
        stream._heartbeat_s = 0.05
        (mark,) = await _take(stream, 1)
        assert mark.HasField("watermark")
        assert mark.cursor == hub.cursor(0)


async def test_rows_are_made_once_for_all_who_want_the_same(client: Client) -> None:
    feed = await make_feed(client)
    await feed.write(quotes(1))
    async with opened(feed) as hub:
        (entry,) = await hub.entries_after(0, 1)
        one, other, fewer = (RowStream(hub, 0, QUOTES, ids, snapshot=False)._piece(entry) for ids in (None, None, [2]))
        assert one is other
        assert (one.rows, fewer.rows) == (1, 0)
        assert RowStream(hub, 0, TRADES, None, snapshot=False)._piece(entry).rows == 0
        assert hub.latest[Kind.QUOTE].take([1]) is not None
