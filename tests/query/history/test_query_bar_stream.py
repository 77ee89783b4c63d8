"""Bars as they come: what a reader has been told last of each is what a list of them gives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import time as time_of_day
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from nats.aio.client import Client

from marketdata.columns import NANOS, Batch, Kind, make_batch
from marketdata.query.v1.query_service_pb2 import Session as SessionMessage
from marketdata.query.v1.query_service_pb2 import StreamBarsRequest, StreamBarsResponse
from marketdata.v1.bar_pb2 import Bar, BarSource
from marketdata.v1.batch_pb2 import TradeAction
from mda.market.bars import Fill
from mda.market.errors import MarketDataError, draining
from mda.market.intervals import Interval
from mda.market.sessions import Session
from mda.query.history import bar_stream
from mda.query.history.bar_rows import rows_of_bars
from mda.query.history.bar_stream import BarStream
from mda.query.history.bars import BarQuery, make_bars, stretch_of
from mda.query.history.methods import HistoryMethods
from mda.query.history.open_bars import Calendar, OpenBars
from mda.query.history.source import open_source
from mda.query.history.workers import Workers
from mda.query.hub import Hub
from mda.tape.tape import Retention
from tests.query.feeding import Feed, make_feed, opened
from tests.query.history.test_query_history import world_of
from tests.tape.helpers import eventually, running

SECOND = NANOS
DAY = 86_400 * SECOND


@dataclass
class Told:
    """What a reader of bars has been told."""

    messages: list[StreamBarsResponse] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.go.set()

    async def write(self, data: bytes) -> None:
        await self.go.wait()
        self.messages.append(StreamBarsResponse.FromString(data))

    @property
    def bars(self) -> list[Bar]:
        return [bar for message in self.messages for bar in message.bars]

    @property
    def newest(self) -> dict[tuple[str, int], Bar]:
        """Each bar as it was told last."""
        return {(bar.symbol, bar.start_time.ToNanoseconds()): bar for bar in self.bars}

    @property
    def cursor(self) -> str:
        return self.messages[-1].cursor


class OneHub:
    """The hubs of one dataset."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def get(self, _dataset: str) -> Hub:
        return self._hub


async def stream_of(hub: Hub, told: Told, **options: Any) -> BarStream:
    options.setdefault("interval", Duration(seconds=1))
    methods = HistoryMethods(OneHub(hub), Workers())  # type: ignore[arg-type]
    return await methods.stream_bars(StreamBarsRequest(dataset=hub.dataset, **options))


@asynccontextmanager
async def streaming(hub: Hub, told: Told | None = None, **options: Any) -> AsyncIterator[Told]:
    told = told or Told()
    stream = await stream_of(hub, told, **options)
    began = asyncio.Event()
    load = stream._load

    async def loaded(floor_ns: int) -> None:
        await load(floor_ns)
        began.set()

    stream._load = loaded  # type: ignore[method-assign]
    async with running(stream.send(told.write)):
        await asyncio.wait_for(began.wait(), 10)
        yield told


@pytest.fixture
async def feed(client: Client) -> Feed:
    return await make_feed(client)


@pytest.fixture
async def hub(feed: Feed) -> AsyncIterator[Hub]:
    async with opened(feed, ticks=True) as hub:
        yield hub


_NUMBER = iter(range(1, 1 << 40))


def trades_at(*times_ns: int, ids: int | list[int] = 1, **columns: Any) -> Batch:
    count = len(times_ns)
    values: dict[str, Any] = {
        "instrument_id": np.broadcast_to(np.array(ids), (count,)),
        "ts_event": np.array(times_ns),
        "sequence": [next(_NUMBER) for _ in range(count)],
        "price": np.array([100 + time_ns % 7 for time_ns in times_ns]) * NANOS,
        "size": np.full(count, 2 * NANOS),
    }
    return make_batch(Kind.TRADE, values | columns)


def quotes_at(*times_ns: int) -> Batch:
    bids = np.array([100 + time_ns % 7 for time_ns in times_ns]) * NANOS
    return make_batch(
        Kind.QUOTE,
        {
            "instrument_id": np.ones(len(times_ns)),
            "ts_event": np.array(times_ns),
            "sequence": [next(_NUMBER) for _ in times_ns],
            "bid_price": bids,
            "ask_price": bids + NANOS,
        },
    )


async def listed(hub: Hub, start_ns: int, *, seconds: int = 1, **options: Any) -> dict[tuple[str, int], Bar]:
    """Return the bars that a list gives now."""
    kind = options.pop("kind", Kind.TRADE)
    session = options.pop("session", Session())
    ids = np.arange(1, len(hub.directory) + 1, dtype=np.uint32)
    now_ns = time.time_ns()
    query = BarQuery(ids, start_ns, now_ns, Interval(seconds * SECOND), session, kind, Fill.NONE)
    source = await open_source(hub, [kind])
    bars = await asyncio.to_thread(
        make_bars, source, query, stretch_of(query, 1 << 30, (0, 0)), now_ns, hub.gaps.times(query.kind)
    )
    rows = rows_of_bars(bars, hub.directory)
    return {(bar.symbol, bar.start_time.ToNanoseconds()): bar for bar in rows}


async def told_all(told: Told, hub: Hub, start_ns: int, **options: Any) -> None:
    """Wait until what was told is what is listed."""
    deadline = time.monotonic() + 10
    while (whole := await listed(hub, start_ns, **options)) != told.newest or not whole:
        assert time.monotonic() < deadline, (_brief(told.newest), _brief(whole))
        await asyncio.sleep(0.1)


def _brief(bars: dict[tuple[str, int], Bar]) -> list[str]:
    return [f"{symbol} {start} {bar.count} {bar.state} {bar.last_sequence}" for (symbol, start), bar in bars.items()]


async def write_for(feed: Feed, seconds: float, batch: Callable[[], Batch]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await feed.write(batch())
        await asyncio.sleep(0.02)


def now_for_any() -> Batch:
    now_ns = time.time_ns()
    return trades_at(now_ns - 3, now_ns - 2, now_ns, ids=[1, 2, 3])


async def test_bars_are_told_once_they_are_over(feed: Feed, hub: Hub) -> None:
    start_ns = time.time_ns()
    async with streaming(hub) as told:
        await write_for(feed, 2.5, now_for_any)
        await told_all(told, hub, start_ns - 2 * SECOND)
    finals = [(bar.symbol, bar.start_time.ToNanoseconds()) for bar in told.bars]
    assert len(finals) == len(set(finals)) >= 3 * 2
    assert {bar.state for bar in told.bars} == {Bar.STATE_FINAL}


async def test_rows_from_before_the_stream_count(feed: Feed, hub: Hub) -> None:
    await asyncio.sleep(4 - time.time() % 4)  # a bar has just begun, and goes on for long enough
    start_ns = time.time_ns()
    await feed.write(now_for_any())
    async with streaming(hub, interval=Duration(seconds=4)) as told:
        await feed.write(trades_at(time.time_ns()))
        await told_all(told, hub, start_ns - 4 * SECOND, seconds=4)
        counts = {bar.symbol: bar.count for bar in told.newest.values() if bar.start_time.ToNanoseconds() <= start_ns}
    assert counts == {"A": 2, "B": 1, "C": 1}


async def test_bars_of_the_middles_of_quotes(feed: Feed, hub: Hub) -> None:
    start_ns = time.time_ns()
    async with streaming(hub, source=BarSource.BAR_SOURCE_QUOTE_MIDS) as told:
        await write_for(feed, 1.2, lambda: quotes_at(time.time_ns()))
        await feed.write(trades_at(time.time_ns()))
        await told_all(told, hub, start_ns - SECOND, kind=Kind.QUOTE)


async def test_the_wanted_symbols_alone(feed: Feed, hub: Hub) -> None:
    async with streaming(hub, symbols=["B"]) as told:
        await write_for(feed, 1.2, now_for_any)
        await eventually(lambda: len(told.bars) >= 2)
    assert {bar.symbol for bar in told.bars} == {"B"}


async def test_late_rows_change_bars_of_any_age(feed: Feed, hub: Hub) -> None:
    now_ns = time.time_ns()
    old = [now_ns - 40 * DAY, now_ns - 3600 * SECOND, now_ns - 2 * SECOND]
    await feed.write(trades_at(*old))
    async with streaming(hub) as told:
        await feed.write(trades_at(old[0] + 1, old[0] + 2 * SECOND))
        await eventually(lambda: len(told.bars) >= 2)
        await feed.write(trades_at(*old, ids=2))
        await feed.write(trades_at(old[0] - 1))
        await eventually(lambda: len(told.newest) >= 5)
        whole = await listed(hub, old[0] - SECOND, seconds=1)
        for key in told.newest:
            await eventually(lambda key=key: told.newest[key] == whole[key])
    bars = [bar for bar in told.bars if bar.symbol == "A" and bar.start_time.ToNanoseconds() <= old[0]]
    assert [bar.last_sequence for bar in bars] == sorted(bar.last_sequence for bar in bars)
    assert bars[-1].last_sequence == 4


async def test_many_late_bars_are_told_in_parts(feed: Feed, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar_stream, "_MOST_BARS", 7)
    monkeypatch.setattr(bar_stream, "_MOST_LATE", 20)
    start_ns = time.time_ns() - 3600 * SECOND
    async with streaming(hub) as told:
        for number in range(10):
            first_ns = start_ns + number * 40 * SECOND
            await feed.write(trades_at(*(first_ns + place * SECOND for place in range(9)), ids=1 + number % 3))
        await told_all(told, hub, start_ns - SECOND)
    assert len(told.newest) == 90
    assert max(len(message.bars) for message in told.messages) <= 7
    assert await hub.place(told.cursor, "cursor") == 10


async def test_cancelled_and_corrected_trades_change_bars(feed: Feed, hub: Hub) -> None:
    start_ns = time.time_ns()
    first, second = trades_at(start_ns, start_ns + 1), trades_at(start_ns, ids=2)
    async with streaming(hub) as told:
        await feed.write(first, second)
        await told_all(told, hub, start_ns - SECOND)
        wrong, only = int(first["sequence"][0]), int(second["sequence"][0])
        later_ns = time.time_ns()
        correction = {"action": [TradeAction.TRADE_ACTION_CORRECT], "price": np.array([7 * NANOS])}
        await feed.write(
            trades_at(later_ns, refers_to=[wrong], **correction),
            trades_at(later_ns, ids=2, refers_to=[only], action=[TradeAction.TRADE_ACTION_CANCEL]),
        )
        await eventually(lambda: any(bar.low == "7" for bar in told.bars))
        await eventually(lambda: any(bar.symbol == "B" and not bar.count for bar in told.bars))
    gone = [bar for bar in told.bars if bar.symbol == "B"][-1]
    assert (gone.empty, gone.HasField("close")) == (Bar.EMPTY_NO_ROWS, False)
    assert [bar for bar in told.bars if bar.symbol == "A"][-1].count == 2


async def test_updates_tell_of_bars_that_go_on(feed: Feed, hub: Hub) -> None:
    start_ns = time.time_ns()
    interval = Duration(seconds=86_400)
    await feed.write(now_for_any())
    async with streaming(hub, interval=interval, updates=Duration(nanos=250_000_000)) as told:
        await eventually(lambda: len(told.bars) >= 3)
        await feed.write(now_for_any())
        await told_all(told, hub, start_ns - 60 * SECOND, seconds=86_400)
    assert {bar.state for bar in told.bars} == {Bar.STATE_PARTIAL}
    assert len(told.bars) == 6


async def test_bars_that_were_told_early_are_told_when_they_are_over(feed: Feed, hub: Hub) -> None:
    start_ns = time.time_ns()
    async with streaming(hub, updates=Duration(nanos=250_000_000)) as told:
        await write_for(feed, 1.5, now_for_any)
        await told_all(told, hub, start_ns - SECOND)
    states = [bar.state for bar in told.bars if bar.symbol == "A"]
    assert states.count(Bar.STATE_PARTIAL) > states.count(Bar.STATE_FINAL) > 0


async def test_what_the_tape_has_lost_is_in_no_bar(client: Client, feed: Feed, hub: Hub) -> None:
    start_ns = time.time_ns()
    await feed.write(now_for_any())
    async with streaming(hub) as told:
        await told_all(told, hub, start_ns - SECOND)
        await client.jetstream().delete_stream(feed.tape._log.stream)
        await feed.tape.create(Retention(1 << 24, 1))
        await eventually(lambda: all(not bar.count for bar in told.newest.values()))
    assert {bar.empty for bar in told.newest.values()} <= {Bar.EMPTY_NO_ROWS, Bar.EMPTY_GAP}
    assert len(told.newest) == 3


async def test_days_of_a_session(feed: Feed, hub: Hub) -> None:
    zone = "America/Chicago"
    message = SessionMessage(time_zone=zone, opens="17:00", closes="16:00", weekdays=[1, 2, 3, 4, 5])
    session = Session(zone, time_of_day(17), time_of_day(16), frozenset({1, 2, 3, 4, 5}))
    now_ns = time.time_ns()
    async with streaming(hub, interval=Duration(seconds=86_400), session=message) as told:
        # Noon there, give or take: whatever time it is now, the market was open then.
        times = [(now_ns // DAY - day) * DAY + 18 * 3600 * SECOND for day in range(3, 20)]
        await feed.write(trades_at(*times))
        whole = await listed(hub, times[-1] - DAY, seconds=86_400, session=session)
        over = {key: bar for key, bar in whole.items() if bar.end_time.ToNanoseconds() < now_ns}
        await eventually(lambda: told.newest == over)
    assert len(over) >= 10


async def test_a_stream_goes_on_from_its_cursor(feed: Feed, hub: Hub) -> None:
    start_ns = time.time_ns()
    async with streaming(hub) as told:
        await write_for(feed, 1.3, now_for_any)
        await eventually(lambda: bool(told.bars))
        await feed.write(now_for_any())  # whose bars are over only after the reader has gone
    await write_for(feed, 2.3, now_for_any)
    await feed.write(trades_at(start_ns - 1800 * SECOND))
    async with streaming(hub, told, cursor=told.cursor):
        await eventually(lambda: ("A", (start_ns - 1800 * SECOND) // SECOND * SECOND) in told.newest)
        await told_all(told, hub, start_ns - 2000 * SECOND)


async def test_a_cursor_that_has_missed_too_much_is_refused(
    feed: Feed, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    await feed.write(now_for_any())
    async with streaming(hub) as told:
        await eventually(lambda: bool(told.bars))
    monkeypatch.setattr(bar_stream, "_MOST_MISSED", 1)
    await asyncio.sleep(1.5)
    stream = await stream_of(hub, told, cursor=told.cursor)
    with pytest.raises(MarketDataError, match="ListBars") as caught:
        await stream.send(told.write)
    assert (caught.value.reason_name, caught.value.field) == ("RANGE_TOO_LARGE", "cursor")


async def test_a_reader_that_falls_out_of_the_ring_is_told_all(client: Client) -> None:
    feed = await make_feed(client)
    start_ns = time.time_ns()
    async with opened(feed, ring_bytes=1) as hub, streaming(hub) as told:
        told.go.clear()
        await feed.write(now_for_any())
        await write_for(feed, 2.5, now_for_any)
        told.go.set()
        await told_all(told, hub, start_ns - 2 * SECOND)


async def test_bars_are_read_from_the_lake(client: Client, tmp_path: Path) -> None:
    now_ns = time.time_ns()
    async with world_of(client, tmp_path) as world:
        await world.write(trades_at(*(now_ns - count * SECOND for count in range(3, 100))))
        await world.archive()
        async with streaming(world.hub) as told:
            await world.write(trades_at(now_ns - 50 * SECOND))
            whole = await listed(world.hub, now_ns - 200 * SECOND)
            await eventually(lambda: bool(told.bars))
    key, bar = next(iter(told.newest.items()))
    assert bar == whole[key]
    assert bar.count == 2


async def test_signs_of_life_and_the_end(feed: Feed, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar_stream, "_HEARTBEAT_S", 0.5)
    await feed.write(now_for_any())
    told = Told()
    stream = await stream_of(hub, told, interval=Duration(seconds=3600))
    sending = asyncio.create_task(stream.send(told.write))
    await eventually(lambda: len(told.messages) >= 2)
    stream.close(draining())
    with pytest.raises(MarketDataError, match="shutting down"):
        await sending
    watermark = told.messages[-1].watermark
    assert (watermark.tape_sequence, watermark.lag_entries, watermark.delivered_rows) == (1, 0, 0)
    assert await hub.place(told.cursor, "cursor") == 1


@pytest.mark.parametrize("back", [0, 1, 1_000])
def test_where_bars_began(back: int) -> None:
    minute, now_ns = 60 * SECOND, 1_700_000_000 * SECOND + 17
    assert Calendar(Interval(minute), Session()).start_before(now_ns, back) == (now_ns // minute - back) * minute
    days = Calendar(Interval(DAY), Session("UTC", weekdays=frozenset({3})))
    start = days.start_before(now_ns, back)
    assert start % DAY == 0
    assert (now_ns - start) // (7 * DAY) == back


def test_bars_without_changes_are_not_due() -> None:
    bars = OpenBars(Calendar(Interval(SECOND), Session()), 0)
    assert bars.due_ns() > 1 << 62
    assert not bars.has_ended(time.time_ns())
