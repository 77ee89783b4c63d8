"""Bars as the venue made them: `ListBars` with the source VENUE."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from marketdata.columns import ABSENT, Kind, concatenate
from mda.lake.layout import Placed
from mda.market.bar_sums import BarSums, Marks, merge
from mda.market.bars import Bars, Gaps, Grid, State, finish
from mda.market.exact import WideInts
from mda.market.intervals import Periods
from mda.query.history.bars import BarQuery, Stretch
from mda.query.history.source import Source, Wanted

_COLUMNS: Final = ("interval_ns", "open", "high", "low", "close", "volume")


def venue_bars(source: Source, query: BarQuery, stretch: Stretch, now_ns: int, gaps: Gaps) -> Bars:
    """Return the venue's bars of a stretch: those of the query's interval, of each period the newest. Blocks.

    Parameters are those of `make_bars`.
    """
    periods = query.periods
    edges = np.array([stretch.numbers.start, stretch.numbers.stop - 1], dtype=np.int64)
    # Whole ones, where the query begins or ends within one: there are no others.
    first_ns, end_ns = int(periods.starts_of(edges)[0]), int(periods.ends_of(edges)[1])
    wanted = Wanted(Kind.BAR, stretch.ids, (first_ns, end_ns - 1), _COLUMNS)
    found = [placed.take(placed.batch["interval_ns"] == query.interval.ns) for placed in source.rows(wanted)]
    grid = Grid(stretch.ids, periods, first_ns, end_ns)
    sums = _newest(found, periods) if found else merge([])
    bars = finish(sums, grid, query.fill, watermark_ns=now_ns, session=query.session, gaps=gaps)
    # The sums of price times size are not known.
    return _as_sent(replace(bars, vwap=np.full(len(bars), ABSENT, dtype=np.int64)), sums, query.interval.ns, now_ns)


def _as_sent(bars: Bars, sums: BarSums, interval_ns: int, now_ns: int) -> Bars:
    """Return bars with the times that the venue gave them: it may begin its hours at half past."""
    there = bars.count > 0
    start, end, state = bars.start.copy(), bars.end.copy(), bars.state.copy()
    start[there] = sums.open.ts_event  # both are by instrument and period
    end[there] = start[there] + interval_ns
    state[there] = np.where(end[there] > now_ns, State.PARTIAL, State.FINAL)
    return replace(bars, start=start, end=end, state=state)


def _newest(parts: list[Placed], periods: Periods) -> BarSums:
    """Return the bars of some parts, of each period and instrument the one that came last."""
    batch = concatenate([placed.batch for placed in parts])
    sequence = np.concatenate([placed.sequence for placed in parts])
    row = np.concatenate([placed.row for placed in parts])
    numbers = periods.numbers(batch["ts_event"])
    order = np.lexsort((row, sequence, numbers, batch["instrument_id"]))
    order = order[numbers[order] != ABSENT]
    ids, numbers = batch["instrument_id"][order], numbers[order]
    last = np.ones(len(order), dtype=np.bool_)
    last[:-1] = (ids[1:] != ids[:-1]) | (numbers[1:] != numbers[:-1])
    chosen = order[last]
    bars, places, rows = batch.take(chosen), sequence[chosen], row[chosen]
    nothing = np.zeros(len(chosen), dtype=np.int64)
    return BarSums(
        bars["instrument_id"],
        periods.starts_of(numbers[last]),
        Marks(bars["open"], bars["ts_event"], places, rows),
        Marks(bars["close"], bars["ts_event"], places, rows),
        bars["high"],
        bars["low"],
        WideInts.of(np.where(bars["volume"] == ABSENT, 0, bars["volume"])),
        WideInts.of(nothing),
        nothing + 1,
        places,
        places,
    )
