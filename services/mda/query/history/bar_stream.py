"""Bars as they come: `StreamBars`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn

import numpy as np

from marketdata.columns import ABSENT, NANOS, Batch, Kind
from marketdata.query.v1.query_service_pb2 import StreamBarsResponse, Watermark
from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1.bar_pb2 import Bar
from marketdata.v1.gap_pb2 import Gap
from mda.lake.layout import Placed
from mda.market.bar_sums import BarSums
from mda.market.bars import Bars, Fill, Gaps, Grid, finish
from mda.market.corrections import corrections_of
from mda.market.errors import MarketDataError
from mda.market.rows import timestamp
from mda.query.backlog import Backlog
from mda.query.history.bar_rows import rows_of_bars
from mda.query.history.bars import BarQuery, Stretch, make_bars, sums_of, ticks_of_quotes, ticks_of_trades
from mda.query.history.open_bars import Calendar, Key, OpenBars, keys_of
from mda.query.history.source import Ids, Source, open_source, standing
from mda.query.history.workers import Workers
from mda.query.hub import Hub
from mda.query.ring import ReadEntry
from mda.query.stream import ENTRIES_AT_ONCE, serialize
from mda.runtime.usage.account import Account

_HEARTBEAT_S: Final = 5.0
_MOST_BARS: Final = 1_000
"""So many bars go into one message."""
_MOST_LATE: Final = 10_000
"""Once so many bars of the past have changed, they are told before more entries are looked at."""
_MOST_MISSED: Final = 1_000
"""A stream that goes on from a cursor may have missed the ends of so many intervals."""
_LATE_PERIODS: Final = 16
"""Of bars before those that are known whole, so many intervals are read at a time."""
_SLACK_NS: Final = NANOS
"""Bars that ended so long before the place of a cursor may not have been told by then."""


@dataclass(frozen=True, slots=True)
class LiveBars:
    """Which bars are streamed.

    Attributes
    ----------
    calendar
        What they are of.
    ids
        The instruments, ascending; None for all.
    kind
        What they are made of: trades, or the middles of quotes.
    updates_ns
        How often bars that go on are told, in nanoseconds; 0 for not at all.
    """

    calendar: Calendar
    ids: Ids | None
    kind: Kind
    updates_ns: int


class BarStream:
    """One reader's stream of bars, as messages in bytes.

    Rows are summed as they come. What that cannot tell is read again: bars of the past
    that late rows are for, and all, where trades were cancelled or corrected.

    Parameters
    ----------
    hub
        The dataset.
    wanted
        The bars.
    workers
        The threads of queries of the past.
    cursor
        The place to go on from; None for now.

    Attributes
    ----------
    account
        What its client may still use; None where nothing is counted.
    position
        The sequence number of the newest entry that was looked at.
    """

    def __init__(self, hub: Hub, wanted: LiveBars, workers: Workers, cursor: int | None) -> None:
        self.hub = hub
        self.position = hub.head if cursor is None else cursor
        self._wanted = wanted
        self._workers = workers
        self._resumed = cursor is not None
        self._open = OpenBars(wanted.calendar, wanted.updates_ns)
        self._backlog = Backlog(hub)
        self._loaded = 0  # up to where all rows are in what was loaded
        self._stale = False  # whether it has to be loaded again before more is told
        self._place = self.position  # up to where all is told
        self._woken = asyncio.Event()
        self._error: Exception | None = None
        self._sent_s = time.monotonic()
        self._silent = False
        self._told = 0
        self.account: Account | None = None

    def wake(self) -> None:
        """Note that there is something new."""
        self._woken.set()

    def tick(self, now_s: float) -> None:
        """Note the time, in seconds on the monotonic clock."""
        if now_s - self._sent_s >= _HEARTBEAT_S:
            self._silent = True
            self._woken.set()

    def go_back(self, position: int, _gap: Gap) -> None:
        """Go on from an earlier place, where the tape has lost its entries after it."""
        self.position = min(self.position, position)
        self._place = min(self._place, self.position)
        self._backlog.drop()
        self._open.change(self._open.sums)  # bars that were told had rows that are lost
        self._stale = True
        self._woken.set()

    def close(self, error: Exception) -> None:
        """End the stream with an error."""
        self._error = error
        self._woken.set()

    async def send(self, write: Callable[[bytes], Awaitable[None]]) -> NoReturn:
        """Write the stream's messages, for ever.

        Raises
        ------
        Exception
            That of `close`.
        MarketDataError
            CURSOR_OUT_OF_RANGE if the tape loses the reader's place; RANGE_TOO_LARGE if more
            intervals have ended since the cursor than are told; ARCHIVE_UNAVAILABLE; OVERLOADED;
            ROW_QUOTA_SPENT.
        """
        if self.account is not None:
            self.account.require_rows()
        self.hub.add(self)
        try:
            await self._begin()
            while self._error is None:
                self._woken.clear()
                await self._look()
                await self._tell(write)
                await self._rest()
            raise self._error
        finally:
            self.hub.remove(self)
            self._backlog.drop()

    async def _begin(self) -> None:
        now_ns = time.time_ns()
        floor_ns = self._wanted.calendar.start_before(now_ns, 1)
        if not self._resumed:
            await self._load(floor_ns)
            sums, self._place, self.position = self._open.sums, self._loaded, self._loaded
            if len(sums):
                self._open.change(sums[self._open.ends_of(sums.start) > now_ns])
            return
        missed_ns = await self._time_of_cursor() - _SLACK_NS
        if missed_ns < self._wanted.calendar.start_before(now_ns, _MOST_MISSED):
            raise _missed_too_much(self.hub.dataset)
        await self._load(min(floor_ns, self._wanted.calendar.start_before(missed_ns)))
        self._open.change(self._open.sums)

    async def _time_of_cursor(self) -> int:
        """Return when the tape took the entry at the stream's place, or the one after it."""
        entries = await self.hub.entries_after(max(self.position - 1, 0), 1)
        return entries[0].time_ns if entries else time.time_ns()

    async def _load(self, floor_ns: int) -> None:
        """Read all rows from a time on."""
        wanted, kinds = self._wanted, [self._wanted.kind]
        periods = self._open.periods(floor_ns, time.time_ns())
        async with self._workers.turn():
            source = await open_source(self.hub, kinds)
            times = (floor_ns, ABSENT)
            work = partial(sums_of, source, wanted.ids, periods, times, wanted.kind)
            sums = await self._workers.run(self.hub.dataset, work)
        self._open.load(sums, floor_ns)
        self._loaded = source.until
        self._stale = False

    async def _look(self) -> None:
        """Take in entries, up to a limit."""
        if self.position >= self.hub.head:
            return
        entries = self.hub.in_ring(self.position, ENTRIES_AT_ONCE)
        if entries is None:
            if self.position >= self._loaded:  # too slow for the ring: sums go on from what is read at once
                await self._load(self._open.floor_ns)
            entries = await self._backlog.after(self.position)
        for entry in tuple(entries):
            self._take(entry)
            self.position = entry.sequence
            if len(self._open.late) >= _MOST_LATE:
                return

    def _take(self, entry: ReadEntry) -> None:
        row = 0
        loaded = entry.sequence <= self._loaded
        if not loaded and entry.sequence <= self.hub.corrections.complete_after:
            self._stale = True  # what has changed its trades since may be forgotten already
        for batch in entry.batches:
            if batch.kind is self._wanted.kind:
                self._take_rows(entry.sequence, row, batch, loaded=loaded)
            row += batch.rows

    def _take_rows(self, sequence: int, row: int, batch: Batch, *, loaded: bool) -> None:
        rows = np.arange(row, row + batch.rows, dtype=np.int32)
        placed = Placed(batch, self.hub.epoch, np.full(batch.rows, sequence, dtype=np.int64), rows)
        if self._wanted.ids is not None:
            placed = placed.take(np.isin(batch["instrument_id"], self._wanted.ids))
        if self._wanted.kind is Kind.QUOTE:
            self._open.add(ticks_of_quotes(placed), loaded=loaded)
            return
        self._correct(placed.batch, loaded=loaded)
        self._open.add(ticks_of_trades(standing(placed, self.hub.corrections)), loaded=loaded)

    def _correct(self, batch: Batch, *, loaded: bool) -> None:
        """Tell the bars of instruments again whose trades are changed: of when those were is not known."""
        changes = corrections_of(batch)
        if changes is None:
            return
        sums = self._open.sums
        self._open.change(sums[np.isin(sums.instrument_id, batch["instrument_id"][changes])])
        self._stale = self._stale or not loaded

    async def _tell(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        now_ns = time.time_ns()
        if now_ns >= self._open.due_ns() or len(self._open.late) >= _MOST_LATE:
            await self._tell_bars(write, now_ns)
            return
        if not self._open.has_ended(now_ns):
            self._place = self.position
        if self._silent:
            await self._write(write, StreamBarsResponse(watermark=self._watermark(now_ns)))

    async def _tell_bars(self, write: Callable[[bytes], Awaitable[None]], now_ns: int) -> None:
        if self._stale:
            await self._load(self._open.floor_ns)
        place, keys = self.position, self._open.take(now_ns)
        known = self._known(keys)
        bars = self._finish(known, now_ns) if len(known) else []
        late = keys - set(keys_of(known))
        bars += await self._late(late, now_ns) if late else []
        for first in range(0, len(bars), _MOST_BARS):
            if first + _MOST_BARS >= len(bars):
                self._place = place
            await self._write(write, StreamBarsResponse(bars=bars[first : first + _MOST_BARS]))
        if self.position >= self.hub.head:
            self._open.forget_before(self._wanted.calendar.start_before(now_ns, 1))

    def _known(self, keys: set[Key]) -> BarSums:
        sums = self._open.sums
        return sums[np.array([key in keys for key in keys_of(sums)], dtype=np.bool_)]

    def _finish(self, sums: BarSums, now_ns: int) -> list[Bar]:
        first_ns, last_ns = int(sums.start.min()), int(sums.start.max())
        end_ns = int(self._open.ends_of(sums.start).max())
        grid = Grid(np.unique(sums.instrument_id), self._open.periods(first_ns, last_ns), first_ns, end_ns)
        bars = finish(sums, grid, watermark_ns=now_ns, gaps=self.hub.gaps.times(self._wanted.kind))
        return rows_of_bars(bars, self.hub.directory)

    async def _late(self, keys: set[Key], now_ns: int) -> list[Bar]:
        """Read bars of the past; those that have no rows any more are told, too."""
        bars: list[Bar] = []
        gaps = self.hub.gaps.times(self._wanted.kind)
        async with self._workers.turn():
            source = await open_source(self.hub, [self._wanted.kind])
            for part in _near(keys, (_LATE_PERIODS - 1) * self._wanted.calendar.interval.ns):
                made = await self._workers.run(self.hub.dataset, partial(self._make, source, part, now_ns, gaps))
                found = zip(made.instrument_id.tolist(), made.start.tolist(), strict=True)
                rows = rows_of_bars(made, self.hub.directory)
                bars += [row for key, row in zip(found, rows, strict=True) if key in part]
        return bars

    def _make(self, source: Source, keys: set[Key], now_ns: int, gaps: Gaps) -> Bars:
        ids = np.unique(np.array([key[0] for key in keys], dtype=np.uint32))
        starts = np.array([key[1] for key in keys], dtype=np.int64)
        first_ns, end_ns = int(starts.min()), int(self._open.ends_of(starts).max())
        calendar, kind = self._wanted.calendar, self._wanted.kind
        query = BarQuery(ids, first_ns, end_ns, calendar.interval, calendar.session, kind, Fill.NULL)
        stretch = Stretch(ids, query.periods.between(first_ns, end_ns))
        return make_bars(source, query, stretch, now_ns, gaps)

    async def _write(self, write: Callable[[bytes], Awaitable[None]], message: StreamBarsResponse) -> None:
        message.cursor = self.hub.cursor(self._place)
        self._told += len(message.bars)
        self._silent = False
        await write(serialize(message))
        self._sent_s = time.monotonic()
        if self.account is not None:
            self.account.count_rows(len(message.bars))
            self.account.require_rows()

    async def _rest(self) -> None:
        """Wait until there is something to do."""
        if self.position < self.hub.head:
            await asyncio.sleep(0)
            return
        due_ns = self._open.due_ns()
        left_s = None if due_ns == ABSENT else max(0.0, (due_ns - time.time_ns()) / NANOS)
        with suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await self._woken.wait()

    def _watermark(self, now_ns: int) -> Watermark:
        return Watermark(
            time=timestamp(now_ns),
            delivered_rows=self._told,
            tape_sequence=self.hub.head,
            lag_entries=max(self.hub.head - self.position, 0),
            rows_left_today=self.account.rows_left if self.account is not None else None,
        )


def _near(keys: set[Key], width_ns: int) -> Iterator[set[Key]]:
    """Yield the bars in parts, each of few intervals and few bars."""
    part: set[Key] = set()
    first_ns = 0
    for key in sorted(keys, key=lambda key: key[1]):
        if part and (len(part) == _MOST_BARS or key[1] > first_ns + width_ns):
            yield part
            part = set()
        if not part:
            first_ns = key[1]
        part.add(key)
    if part:
        yield part


def _missed_too_much(dataset: str) -> MarketDataError:
    return MarketDataError(
        reasons.ERROR_REASON_RANGE_TOO_LARGE,
        f"cursor: more than {_MOST_MISSED:,} intervals have ended since. List their bars with ListBars, and begin "
        "without a cursor.",
        field="cursor",
        limit=_MOST_MISSED,
        dataset=dataset,
    )
