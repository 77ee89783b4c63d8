"""Bars: open, high, low and close of an interval, its volume and VWAP, and why it is as it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import ABSENT
from mda.market.bar_sums import BarSums
from mda.market.bits import Mask
from mda.market.exact import WideInts, divide
from mda.market.intervals import Periods
from mda.market.sessions import Session

Ids = NDArray[np.uint32]
Int64s = NDArray[np.int64]
Codes = NDArray[np.uint8]

ALL_INSTRUMENTS: Final = 0
"""The instrument id of a gap that all instruments have; instruments count from 1."""


class Fill(Enum):
    """What is told of bars without rows."""

    NONE = "none"
    """They are left out."""
    NULL = "null"
    """They are there, without prices."""
    PREVIOUS = "previous"
    """Their prices are the close of the bar before; they have none where nothing came before."""


class State(IntEnum):
    """Whether a bar can change."""

    FINAL = 1
    """All of it is in the range that was asked for, and before the watermark."""
    PARTIAL = 2
    """It is not."""


class Empty(IntEnum):
    """Why a bar has no rows."""

    NOT = 0
    """It has some."""
    NO_TRADES = 1
    """None came."""
    CLOSED = 2
    """No instant of it is within the session."""
    GAP = 3
    """None came, but rows are known to be missing."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """Times for which rows are missing, in columns of one length.

    Attributes
    ----------
    instrument_id
        uint32; `ALL_INSTRUMENTS` where it is not of one alone.
    start, end
        int64, nanoseconds UTC; a gap lasts until just before its end, `ABSENT` where it is open.
    """

    instrument_id: Ids
    start: Int64s
    end: Int64s


def no_gaps() -> Gaps:
    """Return the gaps of a range that is whole."""
    none = np.empty(0, dtype=np.int64)
    return Gaps(np.empty(0, dtype=np.uint32), none, none)


@dataclass(frozen=True, slots=True)
class Grid:
    """The bars that are asked for: those of each instrument that have a part in [start_ns, end_ns).

    Attributes
    ----------
    instruments
        uint32, each once, ascending.
    periods
        What the bars are of.
    start_ns, end_ns
        Nanoseconds UTC.

    Raises
    ------
    ValueError
        If the instruments are not ascending.
    """

    instruments: Ids
    periods: Periods
    start_ns: int
    end_ns: int

    def __post_init__(self) -> None:
        if (self.instruments[1:] <= self.instruments[:-1]).any():
            raise ValueError("instruments: they are not ascending. Send each once, sorted by id.")

    @property
    def numbers(self) -> range:
        """The numbers of the periods."""
        return self.periods.between(self.start_ns, self.end_ns)

    @property
    def size(self) -> int:
        """How many bars there are with those that are empty: known before any of them is made."""
        return len(self.instruments) * len(self.numbers)


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars in columns, by instrument and start.

    Attributes
    ----------
    instrument_id
        uint32.
    start, end
        int64, nanoseconds UTC; a bar lasts until just before its end.
    open, high, low, close
        int64 in 1e-9; `ABSENT` where there is none.
    volume
        The sum of sizes, in 1e-9.
    turnover
        The sum of price times size, in 1e-18.
    vwap
        int64 in 1e-9: turnover by volume, rounded half to even; `ABSENT` where
        volume is not positive.
    count
        int64, how many rows.
    tape_first, tape_last
        int64, the least and the greatest tape sequence of its rows; `ABSENT` where there are none.
    state
        uint8, values of `State`.
    empty
        uint8, values of `Empty`.
    in_gap
        bool, whether rows of some time of it are known to be missing, be it empty or not.
    """

    instrument_id: Ids
    start: Int64s
    end: Int64s
    open: Int64s
    high: Int64s
    low: Int64s
    close: Int64s
    volume: WideInts
    turnover: WideInts
    vwap: Int64s
    count: Int64s
    tape_first: Int64s
    tape_last: Int64s
    state: Codes
    empty: Codes
    in_gap: Mask

    def __len__(self) -> int:
        return len(self.start)


def finish(
    sums: BarSums,
    grid: Grid,
    fill: Fill = Fill.NONE,
    *,
    watermark_ns: int = ABSENT,
    session: Session | None = None,
    gaps: Gaps | None = None,
    previous: Int64s | None = None,
) -> Bars:
    """Make bars of sums.

    Parameters
    ----------
    sums
        All that is known; what is not in the grid is left out.
    grid
        The bars that are asked for. Unless `fill` is NONE all of them are made: look at
        `grid.size` first.
    fill
        What is told of empty bars.
    watermark_ns
        Rows before this time have come, in nanoseconds UTC: bars that end later are PARTIAL.
    session
        The hours of trading, to tell which empty bars are CLOSED; round the clock if None.
    gaps
        What is known to be missing; None if nothing is.
    previous
        int64 in 1e-9 by the grid's instruments: the close before the grid, for
        `Fill.PREVIOUS`; `ABSENT` where there is none.

    Raises
    ------
    ValueError
        If the sums are not of the grid's periods.
    """
    rows, places = _placed(sums, grid)
    if fill is Fill.NONE:
        bars = _bars(sums[rows], grid, places, np.arange(len(places)))
    else:
        bars = _bars(sums[rows], grid, np.arange(grid.size), places)
    _explain(bars, grid, watermark_ns, session, gaps or no_gaps())
    if fill is Fill.PREVIOUS:
        _carry(bars, grid, previous)
    return bars


def _placed(sums: BarSums, grid: Grid) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which sums are in the grid, and the place of each in it."""
    numbers = grid.numbers
    within = grid.periods.numbers(sums.start)
    which = np.searchsorted(grid.instruments, sums.instrument_id)
    wanted = (within >= numbers.start) & (within < numbers.stop) & (which < len(grid.instruments))
    rows = np.flatnonzero(wanted)
    rows = rows[grid.instruments[which[rows]] == sums.instrument_id[rows]]
    within = within[rows]
    if (grid.periods.starts_of(within) != sums.start[rows]).any():
        raise ValueError("sums: they are not of the grid's bars. Sum rows to its periods.")
    return rows, which[rows] * len(numbers) + (within - numbers.start)


def _bars(sums: BarSums, grid: Grid, places: NDArray[np.intp], rows: NDArray[np.intp]) -> Bars:
    """Return the bars of some places of a grid; `rows` tells which of them the sums are of."""
    bars = len(places)

    def spread(values: Int64s, rest: int) -> Int64s:
        spread = np.full(bars, rest, dtype=np.int64)
        spread[rows] = values
        return spread

    def spread_wide(values: WideInts) -> WideInts:
        spread = WideInts.zeros(bars)
        spread[rows] = values
        return spread

    which, numbers = np.divmod(places, max(1, len(grid.numbers)))
    numbers += grid.numbers.start
    return Bars(
        grid.instruments[which],
        grid.periods.starts_of(numbers),
        grid.periods.ends_of(numbers),
        spread(sums.open.price, ABSENT),
        spread(sums.high, ABSENT),
        spread(sums.low, ABSENT),
        spread(sums.close.price, ABSENT),
        spread_wide(sums.volume),
        spread_wide(sums.turnover),
        spread(divide(sums.turnover, sums.volume), ABSENT),
        spread(sums.count, 0),
        spread(sums.tape_first, ABSENT),
        spread(sums.tape_last, ABSENT),
        np.full(bars, State.FINAL, dtype=np.uint8),
        np.full(bars, Empty.NOT, dtype=np.uint8),
        np.zeros(bars, dtype=np.bool_),
    )


def _explain(bars: Bars, grid: Grid, watermark_ns: int, session: Session | None, gaps: Gaps) -> None:
    """Set `state`, `empty` and `in_gap`."""
    partial = (bars.end > min(watermark_ns, grid.end_ns)) | (bars.start < grid.start_ns)
    bars.state[partial] = State.PARTIAL
    _mark_gaps(bars, gaps)
    empty = bars.count == 0
    bars.empty[empty] = Empty.NO_TRADES
    bars.empty[empty & bars.in_gap] = Empty.GAP
    if session is None or not empty.any():
        return
    open_days = session.days(int(bars.start.min()), int(bars.end.max()))
    bars.empty[empty & ~open_days.overlap(bars.start, bars.end)] = Empty.CLOSED


def _mark_gaps(bars: Bars, gaps: Gaps) -> None:
    for instrument in np.unique(gaps.instrument_id).tolist():
        own = gaps.instrument_id == instrument
        rows = _rows_of(bars, instrument)
        # A gap that is over before a bar has begun before it too: the others lie in it.
        begun = np.searchsorted(np.sort(gaps.start[own]), bars.end[rows], side="left")
        over = np.searchsorted(np.sort(gaps.end[own]), bars.start[rows], side="right")
        bars.in_gap[rows] |= begun > over


def _rows_of(bars: Bars, instrument: int) -> slice:
    if instrument == ALL_INSTRUMENTS:
        return slice(None)
    first, last = (int(np.searchsorted(bars.instrument_id, instrument, side=side)) for side in ("left", "right"))
    return slice(first, last)


def _carry(bars: Bars, grid: Grid, previous: Int64s | None) -> None:
    """Give empty bars the close of the bar before."""
    there = bars.count > 0
    latest = np.where(there, np.arange(len(bars)), -1).reshape(len(grid.instruments), len(grid.numbers))
    latest = np.maximum.accumulate(latest, axis=1).ravel()
    before: Any = ABSENT if previous is None else np.repeat(previous, len(grid.numbers))
    closes = np.where(latest < 0, before, bars.close[latest])
    for prices in (bars.open, bars.high, bars.low, bars.close):
        np.copyto(prices, closes, where=~there)
