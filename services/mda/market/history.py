"""What was seen last of each instrument and kind, and rows compared with it, column by column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import ABSENT, Batch, Kind
from mda.market.bits import DUPLICATE_SEQUENCE, OUT_OF_ORDER, OUTLIER, Bits, Findings, Mask, some
from mda.market.instruments import Directory
from mda.market.policy import Rules
from mda.market.venue_bars import moments

_SMALL_IDS: Final = 1 << 16
"""NumPy sorts numbers of 16 bits in linear time."""

_MOST: Final = 1 << 62
Times = NDArray[np.int64]
Prices = NDArray[np.float64]
Sequences = NDArray[np.uint64]
V = TypeVar("V", bound=NDArray[Any])


class Newest:
    """What was seen last of one kind, by instrument id.

    Attributes
    ----------
    times
        The newest event time, in nanoseconds; 0 where there is none.
    prices
        The newest price, or middle of a quote, in units of 1e-9; NaN where there is none.
    sequences
        The sequence number of the newest row; `ABSENT` where there is none.
    """

    def __init__(self) -> None:
        self.times: Times = np.zeros(1, dtype=np.int64)
        self.prices: Prices = np.full(1, np.nan)
        self.sequences: Sequences = np.full(1, ABSENT, dtype=np.uint64)

    def grow(self, instruments: int) -> None:
        """Make room for ids up to `instruments`."""
        missing = instruments + 1 - len(self.times)
        if missing > 0:
            self.times = np.concatenate([self.times, np.zeros(missing, dtype=np.int64)])
            self.prices = np.concatenate([self.prices, np.full(missing, np.nan)])
            self.sequences = np.concatenate([self.sequences, np.full(missing, ABSENT, dtype=np.uint64)])


class History:
    """What was seen last of each instrument and kind: bounded by the number of instruments."""

    def __init__(self) -> None:
        self._newest = {kind: Newest() for kind in Kind}

    def of(self, kind: Kind, instruments: int) -> Newest:
        """Return what was seen of a kind, with room for `instruments` ids."""
        newest = self._newest[kind]
        newest.grow(instruments)
        return newest

    def forget_rows(self) -> None:
        """Forget prices and sequence numbers: under other rules they were not looked at."""
        for newest in self._newest.values():
            newest.prices.fill(np.nan)
            newest.sequences.fill(ABSENT)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comes of comparing rows with those before them.

    Attributes
    ----------
    bits
        The verdicts of each row that something is done about; None if there are none.
    """

    bits: Bits | None
    _newest: Newest
    _ids: NDArray[np.uint32]
    _times: Times
    _prices: Prices | None = None
    _sequences: Sequences | None = None

    def keep(self) -> None:
        """Take the rows into the history that they were compared with."""
        self._newest.times[self._ids] = self._times  # of an id that is there twice the last one wins
        if self._prices is not None:
            self._newest.prices[self._ids] = self._prices
        if self._sequences is not None:
            self._newest.sequences[self._ids] = self._sequences


def compare(batch: Batch, history: History, directory: Directory, rules: Rules) -> Comparison:
    """Compare rows with those before them, of the same instrument each. Changes nothing.

    Every instrument must be known.
    """
    found = Findings(batch.rows)
    ids, times = batch["instrument_id"], moments(batch)
    newest = history.of(batch.kind, len(directory))
    share = rules.outlier_share if rules.sought & OUTLIER else None
    repeats = bool(rules.sought & DUPLICATE_SEQUENCE)
    if share is None and not repeats and not some(times[1:] < times[:-1]):
        # In order as they stand: nothing to sort.
        known = newest.times[ids]
        found.add(rules.sought & OUT_OF_ORDER, times < known)
        return Comparison(found.bits, newest, ids, np.maximum(known, times))
    segments = _segments_of(ids, len(directory))
    times = times[segments.order]
    late, latest = _late(segments, times, newest.times)
    found.add(rules.sought & OUT_OF_ORDER, late, segments.order)
    prices = sequences = None
    if repeats:
        sequences = batch["sequence"][segments.order]
        found.add(DUPLICATE_SEQUENCE, _repeated(segments, sequences, newest.sequences), segments.order)
        sequences = sequences[segments.ends]
    if share is not None:
        prices = _filled(segments, _prices_of(batch, directory)[segments.order], late, newest.prices)
        found.add(OUTLIER, _distant(segments, prices, newest.prices, share), segments.order)
        prices = prices[segments.ends]
    return Comparison(found.bits, newest, segments.instruments, latest, prices, sequences)


@dataclass(frozen=True, slots=True)
class _Segments:
    """Rows sorted by instrument, each instrument's in their order.

    Attributes
    ----------
    order
        The rows' indices, sorted.
    ids
        Their instruments.
    first
        Whether a row is its instrument's first.
    starts, ends
        The places of each instrument's first and last row.
    instruments
        The instrument of each segment.
    """

    order: NDArray[np.intp]
    ids: NDArray[np.uint32]
    first: Mask
    starts: NDArray[np.intp]
    ends: NDArray[np.intp]
    instruments: NDArray[np.uint32]

    def before(self, values: V, newest: V) -> V:
        """Return the value before each: of the row before it, or the newest so far of its instrument."""
        before = np.empty_like(values)
        before[1:] = values[:-1]
        before[self.starts] = newest[self.instruments]
        return before


def _segments_of(ids: NDArray[np.uint32], known: int) -> _Segments:
    order = np.argsort(ids.astype(np.uint16) if known < _SMALL_IDS else ids, kind="stable")
    found = ids[order]
    first = np.ones(len(ids), dtype=np.bool_)
    np.not_equal(found[1:], found[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    ends = np.empty_like(starts)
    ends[:-1] = starts[1:] - 1
    ends[-1] = len(ids) - 1
    return _Segments(order, found, first, starts, ends, found[starts])


def _late(segments: _Segments, times: Times, newest: Times) -> tuple[Mask, Times]:
    """Return which rows are older than one before them, and the newest time of each segment."""
    late = times < newest[segments.ids]
    known = newest[segments.instruments]
    backwards = (times[1:] < times[:-1]) & ~segments.first[1:]
    if not some(backwards):
        return late, np.maximum(known, times[segments.ends])
    # The running maximum of all segments at once: each segment's times are lifted above those before it.
    least = int(times.min())
    span = int(times.max()) - least + 1
    if span * len(segments.starts) < _MOST:
        lifted = (times - least) + np.cumsum(segments.first) * span
    else:  # too far apart for that: their ranks, in which the first of equal times is the least
        ranks = np.empty(len(times), dtype=np.int64)
        ranks[np.argsort(times, kind="stable")] = np.arange(len(times))
        lifted = ranks + np.cumsum(segments.first) * len(times)
    late |= lifted < np.maximum.accumulate(lifted)
    return late, np.maximum(known, np.maximum.reduceat(times, segments.starts))


def _repeated(segments: _Segments, sequences: Sequences, newest: Sequences) -> Mask:
    """Return which rows have the sequence number of the row before them."""
    return (sequences == segments.before(sequences, newest)) & (sequences != ABSENT)


def _prices_of(batch: Batch, directory: Directory) -> Prices:
    """Return the price or the middle of each row; NaN where there is none to compare."""
    if batch.kind is not Kind.QUOTE:
        prices = batch["price" if batch.kind is Kind.TRADE else "close"].astype(np.float64)
    else:
        bid, ask = batch["bid_price"], batch["ask_price"]
        prices = (bid.astype(np.float64) + ask) * 0.5
        _clear(prices, (bid == ABSENT) | (ask == ABSENT))
    _clear(prices, directory.takes_negative_prices(batch["instrument_id"]))
    return prices


def _clear(prices: Prices, rows: Mask) -> None:
    if some(rows):
        prices[rows] = np.nan


def _filled(segments: _Segments, prices: Prices, late: Mask, newest: Prices) -> Prices:
    """Return the newest price as of each row: rows without one, and late ones, are passed over."""
    passed_over = np.isnan(prices) | late
    if not some(passed_over):
        return prices
    places = np.arange(len(prices))
    start = np.maximum.accumulate(np.where(segments.first, places, 0))
    latest = np.maximum.accumulate(np.where(passed_over, -1, places))
    return np.where(latest >= start, prices[latest], newest[segments.ids])


def _distant(segments: _Segments, prices: Prices, newest: Prices, share: float) -> Mask:
    """Return which rows have a price far from the one before it. Where a price is filled in, it is the one before."""
    before = segments.before(prices, newest)
    return np.abs(prices - before) > before * share  # no comparison with NaN is true
