"""Bars in the making: what is known of each bar from some of its rows.

Rows come in pieces, from the lake, the tape and the ring. Each piece is summed by itself
(`sum_rows`) and the sums are merged (`merge`), in any split and any order. Each row must
be in one piece alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import ABSENT
from mda.market.exact import MAX_ROWS, WideInts, sum_products, sum_values
from mda.market.intervals import Periods
from mda.market.ticks import Int64s, Places, Rows, Ticks, in_bar_order, in_order

_BLOCK: Final = MAX_ROWS
"""Rows summed at a time: their columns stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Marks:
    """The first or the last price of each bar, with the place of its row in the bar's order.

    Attributes
    ----------
    price
        int64 in 1e-9.
    ts_event
        int64, nanoseconds UTC.
    tape_sequence, tape_row
        int64 and int32.
    """

    price: Int64s
    ts_event: Int64s
    tape_sequence: Int64s
    tape_row: NDArray[np.int32]

    def __getitem__(self, rows: Rows) -> Marks:
        return Marks(self.price[rows], self.ts_event[rows], self.tape_sequence[rows], self.tape_row[rows])

    def __setitem__(self, rows: Rows, marks: Marks) -> None:
        self.price[rows] = marks.price
        self.ts_event[rows] = marks.ts_event
        self.tape_sequence[rows] = marks.tape_sequence
        self.tape_row[rows] = marks.tape_row

    @classmethod
    def concatenate(cls, columns: Sequence[Marks]) -> Marks:
        """Return the marks of columns, one after the other."""
        return cls(
            np.concatenate([marks.price for marks in columns]),
            np.concatenate([marks.ts_event for marks in columns]),
            np.concatenate([marks.tape_sequence for marks in columns]),
            np.concatenate([marks.tape_row for marks in columns]),
        )


@dataclass(frozen=True, slots=True)
class BarSums:
    """What is known of bars from some of their rows; in columns, by instrument and start, each bar once.

    Attributes
    ----------
    instrument_id
        uint32.
    start
        int64, nanoseconds UTC.
    open, close
        The first and the last price.
    high, low
        int64 in 1e-9.
    volume
        The sum of sizes, in 1e-9.
    turnover
        The sum of price times size, in 1e-18.
    count
        int64, how many rows.
    tape_first, tape_last
        int64, the least and the greatest tape sequence of the rows.
    """

    instrument_id: NDArray[np.uint32]
    start: Int64s
    open: Marks
    close: Marks
    high: Int64s
    low: Int64s
    volume: WideInts
    turnover: WideInts
    count: Int64s
    tape_first: Int64s
    tape_last: Int64s

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, rows: Rows) -> BarSums:
        return BarSums(*(column[rows] for column in self.columns()))

    def __setitem__(self, rows: Rows, sums: BarSums) -> None:
        for column, values in zip(self.columns(), sums.columns(), strict=True):
            column[rows] = values

    def columns(self) -> tuple[Any, ...]:
        """Return the columns, in the order of the attributes."""
        return tuple(getattr(self, name) for name in _COLUMNS)


_COLUMNS: Final = tuple(column.name for column in fields(BarSums))


def sum_rows(ticks: Ticks, periods: Periods) -> BarSums:
    """Sum rows to bars.

    Rows may come in any order. Fastest is by instrument, then in the order of bars;
    next is the order of the tape; others have to be sorted.

    Parameters
    ----------
    ticks
        The rows. Those without a price, and those in none of the periods, are left out.
    periods
        What the bars are of: an `Interval`, or the `TradingDays` of a session.
    """
    blocks = (ticks[first : first + _BLOCK] for first in range(0, len(ticks), _BLOCK))
    return merge([_sum_block(block, periods) for block in blocks])


def merge(parts: Sequence[BarSums]) -> BarSums:
    """Return the sums of all the rows that any of the parts is of.

    The order of the parts does not matter. Each row must be in one part alone.
    """
    parts = [part for part in parts if len(part)]
    if len(parts) < 2:
        return parts[0] if parts else _nothing()
    return _grouped(_concatenated(parts))


def _sum_block(ticks: Ticks, periods: Periods) -> BarSums:
    if ticks.price.max() == ABSENT:
        ticks = ticks[ticks.price != ABSENT]
    ticks = in_bar_order(ticks)
    numbers = periods.numbers(ticks.ts_event)
    if len(ticks) and numbers.max() == ABSENT:
        inside = numbers != ABSENT
        ticks, numbers = ticks[inside], numbers[inside]
    if len(ticks) == 0:
        return _nothing()
    starts = _group_starts(ticks.instrument_id, numbers)
    return _summed(ticks, periods.starts_of(numbers[starts]), starts)


def _summed(ticks: Ticks, bars: Int64s, starts: Places) -> BarSums:
    ends = _group_ends(starts, len(ticks))
    volume, turnover = _totals(ticks.price, ticks.size, starts)
    return BarSums(
        ticks.instrument_id[starts],
        bars,
        _marks(ticks, starts),
        _marks(ticks, ends),
        np.maximum.reduceat(ticks.price, starts),
        np.minimum.reduceat(ticks.price, starts),
        volume,
        turnover,
        (ends - starts + 1).astype(np.int64, copy=False),
        np.minimum.reduceat(ticks.tape_sequence, starts),
        np.maximum.reduceat(ticks.tape_sequence, starts),
    )


def _marks(ticks: Ticks, rows: Places) -> Marks:
    return Marks(ticks.price[rows], ticks.ts_event[rows], ticks.tape_sequence[rows], ticks.tape_row[rows])


def _totals(prices: Int64s, sizes: Int64s, starts: Places) -> tuple[WideInts, WideInts]:
    """Return volume and turnover."""
    most = sizes.max()
    if most == ABSENT:
        sizes = np.where(sizes == ABSENT, 0, sizes)
    elif most == 0 == sizes.min():  # the middles of quotes
        return WideInts.zeros(len(starts)), WideInts.zeros(len(starts))
    return sum_values(sizes, starts), sum_products(prices, sizes, starts)


def _group_starts(ids: NDArray[np.uint32], bars: Int64s) -> Places:
    """Return the place of the first row of each bar, of rows that stand together by bar."""
    first = np.ones(len(ids), dtype=np.bool_)
    np.not_equal(bars[1:], bars[:-1], out=first[1:])
    first[1:] |= ids[1:] != ids[:-1]
    return np.flatnonzero(first)


def _group_ends(starts: Places, rows: int) -> Places:
    """Return the place of the last row of each bar."""
    ends = np.empty_like(starts)
    ends[:-1] = starts[1:]
    ends[-1] = rows
    ends -= 1
    return ends


def _grouped(sums: BarSums) -> BarSums:
    """Return sums with those of one bar made one."""
    if not in_order((sums.instrument_id, sums.start)):
        sums = sums[np.lexsort((sums.start, sums.instrument_id))]
    starts = _group_starts(sums.instrument_id, sums.start)
    if len(starts) == len(sums):
        return sums
    sizes = _group_ends(starts, len(sums)) - starts + 1
    several = sizes > 1
    if np.count_nonzero(several) * 2 > len(starts):
        return _reduced(sums, starts)
    # Most are of one part alone, as they are.
    grouped, parts = sums[starts], sums[np.repeat(several, sizes)]
    grouped[several] = _reduced(parts, _group_starts(parts.instrument_id, parts.start))
    return grouped


def _reduced(sums: BarSums, starts: Places) -> BarSums:
    ends = _group_ends(starts, len(sums))
    return BarSums(
        sums.instrument_id[starts],
        sums.start[starts],
        sums.open[_ranked(sums.open, starts)[starts]],
        sums.close[_ranked(sums.close, starts)[ends]],
        np.maximum.reduceat(sums.high, starts),
        np.minimum.reduceat(sums.low, starts),
        sums.volume.reduceat(starts),
        sums.turnover.reduceat(starts),
        np.add.reduceat(sums.count, starts),
        np.minimum.reduceat(sums.tape_first, starts),
        np.maximum.reduceat(sums.tape_last, starts),
    )


def _ranked(marks: Marks, starts: Places) -> Places:
    """Return the places of marks, in the order of their rows within each group."""
    group = np.zeros(len(marks.price), dtype=np.int64)
    group[starts[1:]] = 1
    group = np.cumsum(group)
    if in_order((group, marks.ts_event, marks.tape_sequence, marks.tape_row)):
        return np.arange(len(group))
    return np.lexsort((marks.tape_row, marks.tape_sequence, marks.ts_event, group))


def _concatenated(parts: Sequence[BarSums]) -> BarSums:
    return BarSums(*(_joined(columns) for columns in zip(*(part.columns() for part in parts), strict=True)))


def _joined(columns: Sequence[Any]) -> Any:
    kind = type(columns[0])
    return np.concatenate(columns) if kind is np.ndarray else kind.concatenate(columns)


def _nothing() -> BarSums:
    ids, none = np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.int64)
    marks = Marks(none, none, none, np.empty(0, dtype=np.int32))
    wide = WideInts.zeros(0)
    return BarSums(ids, none, marks, marks, none, none, wide, wide, none, none, none)
