"""Reading the past against real services: every row once, whatever dies."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from marketdata.columns import ABSENT, NANOS, Batch, Kind
from marketdata.errors import ApiError
from marketdata.query.v1.query_service_pb2 import ScanResponse
from marketdata.scan import Scan, _update
from marketdata.v1.bar_pb2 import Bar, BarFill, BarSource
from tests.client.services import Connection, Services
from tests.tape.helpers import NOW_NS, new_name, quotes, rows_of, trades

UNIT = NANOS


async def _dataset(connection: Connection, *batches: Batch) -> str:
    dataset = new_name("PAST")
    await connection.put(dataset, "A", "B")
    async with connection.publisher(dataset, "p") as publisher:
        for batch in batches:
            await publisher.publish(batch)
    return dataset


async def _rows(scan: Scan) -> list[int]:
    async with asyncio.timeout(20), aclosing(aiter(scan)) as updates:
        return [row async for update in updates for row in rows_of(update.batches)]


async def test_a_scan_gives_all_rows_in_the_order_of_the_tape_and_ends(connection: Connection) -> None:
    dataset = await _dataset(connection, trades(1, 3), quotes(4, 2, instrument_id=[2, 2]), trades(6))
    scan = connection.history.scan(dataset)
    batches: list[Batch] = []
    async for update in scan:
        batches += update.batches
        assert update.cursor == scan.cursor
    assert rows_of(batches) == [1, 2, 3, 4, 5, 6]
    assert [batch.kind for batch in batches] == [Kind.TRADE, Kind.QUOTE, Kind.TRADE]
    assert not batches[0]["price"].flags.writeable  # it is the message's own bytes
    assert scan.connections == 1
    assert await _rows(connection.history.scan(dataset, cursor=scan.cursor)) == []


async def test_a_scan_is_of_symbols_kinds_and_times(connection: Connection) -> None:
    dataset = await _dataset(connection, trades(1, 4, instrument_id=[1, 2, 1, 2]), quotes(5, 4))
    history = connection.history
    assert await _rows(history.scan(dataset, ["B"])) == [2, 4]
    assert await _rows(history.scan(dataset, ["B", "A"], kinds=[Kind.QUOTE])) == [5, 6, 7, 8]
    assert await _rows(history.scan(dataset, start_ns=NOW_NS + 3, end_ns=NOW_NS + 6)) == [3, 4, 5]
    with pytest.raises(ValueError, match="symbols: name some"):
        history.scan(dataset, [])


async def test_a_scan_tells_trades_as_they_stand(connection: Connection) -> None:
    changes = trades(3, 2, action=[1, 2], refers_to=[1, 2], price=[ABSENT, 7])
    dataset = await _dataset(connection, trades(1, 2, price=[5, 6]), changes)

    async def told(*, corrected: bool) -> list[tuple[int, int]]:
        async with aclosing(aiter(connection.history.scan(dataset, corrected=corrected))) as updates:
            batches = [batch async for update in updates for batch in update.batches]
        return [pair for b in batches for pair in zip(b["sequence"].tolist(), b["price"].tolist(), strict=True)]

    assert await told(corrected=False) == [(1, 5), (2, 6), (3, ABSENT), (4, 7)]
    assert await told(corrected=True) == [(2, 7), (3, ABSENT), (4, 7)]


async def test_a_scan_whose_query_is_killed_in_the_middle_gives_each_row_once(
    services: Services, connection: Connection
) -> None:
    size, count = 20_000, 30
    batches = [trades(number * size, size, instrument_id=np.arange(size) % 2 + 1) for number in range(count)]
    dataset = await _dataset(connection, *batches)
    whole, narrow = connection.history.scan(dataset), connection.history.scan(dataset, ["B"])
    for scan, step, number in ((whole, 1, signal.SIGKILL), (narrow, 2, signal.SIGTERM)):
        rows: list[int] = []
        killed_at = 0
        async with asyncio.timeout(60), aclosing(aiter(scan)) as updates:
            async for update in updates:
                rows += rows_of(update.batches)
                if not killed_at:
                    killed_at = len(rows)
                    await asyncio.to_thread(services.kill, "query", number)
                    await asyncio.to_thread(services.start, "query")
        assert 0 < killed_at < size * count // step
        assert rows == list(range(step - 1, size * count, step))
        assert scan.connections >= 2


@pytest.mark.parametrize(
    ("dataset", "options", "code", "reason"),
    [
        ("NOPE", {}, "NOT_FOUND", "UNKNOWN_DATASET"),
        (None, {"symbols": ["ZZZ"]}, "NOT_FOUND", "UNKNOWN_INSTRUMENT"),
        (None, {"cursor": "rubbish"}, "INVALID_ARGUMENT", "INVALID_CURSOR"),
        (None, {"start_ns": 2, "end_ns": 1}, "INVALID_ARGUMENT", "INVALID_FIELD"),
    ],
)
async def test_what_is_refused_for_good_comes_out(
    connection: Connection, dataset: str | None, options: dict[str, Any], code: str, reason: str
) -> None:
    name = dataset or await _dataset(connection, trades(1))
    with pytest.raises(ApiError) as caught:
        await _rows(connection.history.scan(name, **options))
    assert (caught.value.code.name, caught.value.reason) == (code, reason)


def test_a_message_in_another_form_is_read_too() -> None:
    response = ScanResponse(cursor="c")
    batch = response.batches.add(rows=1)
    batch.trades.instrument_id.append(1)
    batch.trades.ts_event.append(2)
    batch.trades.price.append(3)
    data = response.SerializeToString()
    unusual = ScanResponse(cursor="c").SerializeToString() + data  # the cursor before the batches, too
    for form in (data, unusual):
        update = _update(form)
        assert update.cursor == "c"
        assert update.batches[0]["price"].tolist() == [3]


async def test_rows_come_page_by_page(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marketdata.calls.PAGE", 2)
    dataset = await _dataset(connection, quotes(1, 5, bid_price=[UNIT] * 5), trades(6, 5, price=[2 * UNIT] * 5))
    history, start_ns = connection.history, NOW_NS
    assert [quote.sequence for quote in await history.quotes(dataset, start_ns=start_ns)] == [1, 2, 3, 4, 5]
    found = await history.quotes(dataset, ["A"], start_ns=start_ns, end_ns=NOW_NS + 5, newest_first=True, limit=3)
    assert [(quote.sequence, quote.bid_price) for quote in found] == [(4, "1"), (3, "1"), (2, "1")]
    assert [trade.sequence for trade in await history.trades(dataset, start_ns=start_ns, limit=3)] == [6, 7, 8]
    assert await history.trades(dataset, ["B"], start_ns=start_ns) == []


async def test_bars_and_quotes_as_of_a_time(connection: Connection) -> None:
    dataset = await _dataset(
        connection,
        trades(1, 3, price=[UNIT, 3 * UNIT, 2 * UNIT], size=[UNIT] * 3),
        quotes(4, 2, bid_price=[UNIT, 2 * UNIT], ask_price=[3 * UNIT, 4 * UNIT]),
    )
    history = connection.history
    bar = (await history.bars(dataset, ["A"], start_ns=NOW_NS, end_ns=NOW_NS + 60 * NANOS))[0]
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.count) == ("1", "3", "1", "2", "3", 3)
    mids = await history.bars(
        dataset,
        start_ns=NOW_NS,
        end_ns=NOW_NS + 2 * NANOS,
        interval_s=1,
        source=BarSource.BAR_SOURCE_QUOTE_MIDS,
        fill=BarFill.BAR_FILL_NULL,
    )
    assert [(bar.symbol, bar.close) for bar in mids] == [("A", "3"), ("A", ""), ("B", ""), ("B", "")]
    assert [quote.bid_price for quote in await history.quotes_as_of(dataset, time_ns=NOW_NS + 4)] == ["1"]
    assert await history.quotes_as_of(dataset, ["B"], time_ns=NOW_NS + 4) == []


async def test_datasets_are_listed(connection: Connection) -> None:
    dataset = await _dataset(connection, trades(1, 2))
    found = next(listed for listed in await connection.history.list_datasets() if listed.name == dataset)
    assert found.instruments == 2
    scan = connection.history.scan(dataset, cursor=found.earliest)
    assert await _rows(scan) == [1, 2]
    assert scan.cursor == found.latest


async def test_bars_are_streamed_through_a_crash(connection: Connection, services: Services) -> None:
    """What was told last of each bar is what a list gives, whatever happened meanwhile."""
    dataset = await _dataset(connection)
    told: dict[tuple[str, int], Bar] = {}
    updates = connection.history.stream_bars(dataset, interval_s=1, updates_s=0.25)

    async def read() -> None:
        async with aclosing(aiter(updates)) as changes:
            async for update in changes:
                told.update({(bar.symbol, bar.start_time.ToNanoseconds()): bar for bar in update.bars})

    async def listed() -> dict[tuple[str, int], Bar]:
        start_ns = min(start_ns for _, start_ns in told)  # the stream began with the interval of then
        bars = await connection.history.bars(dataset, start_ns=start_ns, interval_s=1)
        return {(bar.symbol, bar.start_time.ToNanoseconds()): bar for bar in bars}

    reading = asyncio.create_task(read())
    async with connection.publisher(dataset, "now") as publisher:
        for number in range(1, 12):
            await publisher.publish(trades(number, 2, ts_event=[time.time_ns()] * 2, instrument_id=[1, 2]))
            await asyncio.sleep(0.3)
            if number == 7:
                assert told
                services.kill("query")
                await asyncio.to_thread(services.start, "query")
    async with asyncio.timeout(20):
        while len(told) < 4 or await listed() != told:
            await asyncio.sleep(0.1)
    reading.cancel()
    assert updates.connections >= 2
    assert updates.cursor
