"""Prices as they go into bars: those of trades, or the middles of quotes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mda.market.bits import some
from mda.market.exact import middles

_SMALL_IDS: Final = 1 << 16
"""NumPy sorts numbers of 16 bits in linear time."""

Int64s = NDArray[np.int64]
Places = NDArray[np.intp]
Rows = NDArray[Any] | slice


@dataclass(frozen=True, slots=True)
class Ticks:
    """Prices to make bars of, in columns of one length: trades, or the middles of quotes.

    Attributes
    ----------
    instrument_id
        uint32.
    ts_event
        int64, nanoseconds UTC.
    tape_sequence, tape_row
        int64 and int32: the place on the tape. Rows of one bar are in the order of
        (ts_event, tape_sequence, tape_row).
    price
        int64 in 1e-9; rows where it is `ABSENT` are left out.
    size
        int64 in 1e-9; `ABSENT` counts as 0.
    """

    instrument_id: NDArray[np.uint32]
    ts_event: Int64s
    tape_sequence: Int64s
    tape_row: NDArray[np.int32]
    price: Int64s
    size: Int64s

    def __len__(self) -> int:
        return len(self.ts_event)

    def __getitem__(self, rows: Rows) -> Ticks:
        return Ticks(
            self.instrument_id[rows],
            self.ts_event[rows],
            self.tape_sequence[rows],
            self.tape_row[rows],
            self.price[rows],
            self.size[rows],
        )

    @classmethod
    def concatenate(cls, pieces: Sequence[Ticks]) -> Ticks:
        """Return the rows of pieces, one after the other."""
        return cls(*(np.concatenate([getattr(piece, name) for piece in pieces]) for name in _COLUMNS))


_COLUMNS: Final = tuple(column.name for column in fields(Ticks))


def in_pieces(pieces: Iterable[Ticks], rows: int) -> Iterator[Ticks]:
    """Yield the rows of pieces, small ones joined until there are so many rows: each costs much, however small."""
    joined: list[Ticks] = []
    missing = rows
    for piece in pieces:
        joined.append(piece)
        missing -= len(piece)
        if missing <= 0:
            yield Ticks.concatenate(joined) if len(joined) > 1 else piece
            joined, missing = [], rows
    if joined:
        yield Ticks.concatenate(joined)


def quote_mids(
    instrument_id: NDArray[np.uint32],
    ts_event: Int64s,
    tape_sequence: Int64s,
    tape_row: NDArray[np.int32],
    bid_price: Int64s,
    ask_price: Int64s,
) -> Ticks:
    """Return the middles of quotes as ticks of size 0.

    A middle of half a unit of 1e-9 is rounded to the even one. A quote without one of
    its sides has no middle and is left out of bars.

    Parameters
    ----------
    instrument_id, ts_event, tape_sequence, tape_row
        As of `Ticks`.
    bid_price, ask_price
        int64 in 1e-9; `ABSENT` where there is none.
    """
    mids = middles(bid_price, ask_price)
    return Ticks(instrument_id, ts_event, tape_sequence, tape_row, mids, np.broadcast_to(np.int64(0), mids.shape))


def in_bar_order(ticks: Ticks) -> Ticks:
    """Return rows by instrument, time and place on the tape."""
    if in_order((ticks.instrument_id, ticks.ts_event, ticks.tape_sequence, ticks.tape_row)):
        return ticks
    order: Places | None = None
    if not in_order((ticks.tape_sequence, ticks.tape_row)):
        order = np.lexsort((ticks.tape_row, ticks.tape_sequence))
    times = ticks.ts_event if order is None else ticks.ts_event[order]
    if not in_order((times,)):
        by_time = np.argsort(times, kind="stable")
        order = by_time if order is None else order[by_time]
    ids = ticks.instrument_id if order is None else ticks.instrument_id[order]
    by_id = np.argsort(ids.astype(np.uint16) if ids.max() < _SMALL_IDS else ids, kind="stable")
    return ticks[by_id if order is None else order[by_id]]


def in_order(keys: Iterable[NDArray[Any]]) -> bool:
    """Return whether rows are in the order of some columns, the most significant first."""
    tied: NDArray[np.bool_] | None = None
    for key in keys:
        later, before = key[1:], key[:-1]
        falls, same = later < before, later == before
        if tied is not None:
            falls &= tied
            same &= tied
        if some(falls):
            return False
        if not some(same):
            break
        tied = same
    return True
