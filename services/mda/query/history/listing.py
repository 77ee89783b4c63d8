"""The first rows of a time, in order: `ListQuotes` and `ListTrades`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import Batch, concatenate
from mda.lake.layout import Placed
from mda.market.pages import decode_token, encode_token
from mda.query.history.source import Source, Wanted

_FIRST_SPAN_NS: Final = 1_000_000_000
_GROWTH: Final = 8
_PLACE: Final = struct.Struct(">qqqi")
Key = tuple[int, int, int, int]
"""Event time, epoch, sequence and row: the order of rows."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What is to be listed.

    Attributes
    ----------
    wanted
        The rows.
    limit
        How many of them.
    newest_first
        Whether from the newest on.
    after
        The row after which it begins; None for the beginning.
    without
        Verdicts of rows that are left out, as bits.
    standing
        Whether trades are told as they stand.
    """

    wanted: Wanted
    limit: int
    newest_first: bool = False
    after: Key | None = None
    without: int = 0
    standing: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in order, and the place of the last one, where there may be more."""

    batch: Batch | None
    last: Key | None


def list_rows(source: Source, listing: Listing) -> Page:
    """Return the first rows of a listing. Blocks; reads no further than it must."""
    best = _Best(listing.limit + 1, newest_first=listing.newest_first)
    for times in _windows(*_narrowed(source, listing), newest_first=listing.newest_first):
        wanted = replace(listing.wanted, times=times)
        for placed in source.standing(wanted) if listing.standing else source.rows(wanted):
            best.add(_kept(placed, listing))
        if best.is_full:
            break
    return best.page(listing.limit)


def _narrowed(source: Source, listing: Listing) -> tuple[int, int]:
    """Return the times of the rows that there are after the place where the listing begins."""
    first, last = listing.wanted.times
    least, greatest = source.span(listing.wanted.kind)
    first, last = max(first, least), min(last, greatest)
    if listing.after is None:
        return first, last
    at = listing.after[0]
    return (first, min(last, at)) if listing.newest_first else (max(first, at), last)


def _windows(first: int, last: int, *, newest_first: bool) -> Iterator[tuple[int, int]]:
    """Yield stretches of a time, one after the other, each longer than the one before."""
    span = _FIRST_SPAN_NS
    while first <= last:
        if newest_first:
            yield max(first, last - span + 1), last
            last -= span
        else:
            yield first, min(last, first + span - 1)
            first += span
        span *= _GROWTH


def _kept(placed: Placed, listing: Listing) -> Placed:
    keep = np.ones(placed.batch.rows, dtype=np.bool_)
    if listing.without and "verdicts" in placed.batch.columns:
        keep &= (placed.batch["verdicts"] & np.uint32(listing.without)) == 0
    if listing.after is not None:
        keep &= _beyond(placed, listing.after, newest_first=listing.newest_first)
    return placed if keep.all() else placed.take(keep)


def _beyond(placed: Placed, after: Key, *, newest_first: bool) -> NDArray[np.bool_]:
    """Return which rows come after a place."""
    values = (placed.batch["ts_event"], np.full(placed.batch.rows, placed.epoch), placed.sequence, placed.row)
    beyond = np.zeros(placed.batch.rows, dtype=np.bool_)
    equal = np.ones(placed.batch.rows, dtype=np.bool_)
    for column, bound in zip(values, after, strict=True):
        beyond |= equal & (column < bound if newest_first else column > bound)
        equal &= column == bound
    return beyond


class _Best:
    """The first rows, in order, of all that were added."""

    def __init__(self, limit: int, *, newest_first: bool) -> None:
        self._limit = limit
        self._newest_first = newest_first
        self._parts: list[Placed] = []
        self._rows = 0

    def add(self, placed: Placed) -> None:
        """Add rows of a part."""
        if placed.batch.rows > self._limit:
            placed = placed.take(self._order([placed])[: self._limit])
        if placed.batch.rows:
            self._parts.append(placed)
            self._rows += placed.batch.rows
        if self._rows > 8 * self._limit:
            self._shrink()

    @property
    def is_full(self) -> bool:
        """Whether there are as many rows as are wanted."""
        return self._rows >= self._limit

    def _shrink(self) -> None:
        """Keep of each part what is among the first rows of all."""
        order = self._order(self._parts)[: self._limit]
        starts = np.cumsum([0, *(part.batch.rows for part in self._parts)])
        kept = np.sort(order)
        pieces = [kept[(kept >= start) & (kept < end)] - start for start, end in pairwise(starts)]
        self._parts = [part.take(rows) for part, rows in zip(self._parts, pieces, strict=True) if len(rows)]
        self._rows = len(order)

    def _order(self, parts: list[Placed]) -> NDArray[np.intp]:
        keys = [np.concatenate(columns) for columns in zip(*map(_columns, parts), strict=True)]
        order = np.lexsort(keys[::-1])
        return order[::-1] if self._newest_first else order

    def page(self, limit: int) -> Page:
        """Return up to `limit` of the first rows."""
        if not self._parts:
            return Page(None, None)
        order = self._order(self._parts)
        rows = order[:limit]
        batch = concatenate([part.batch for part in self._parts]).take(rows)
        if len(order) <= limit:
            return Page(batch, None)
        keys = [np.concatenate(columns)[rows[-1]] for columns in zip(*map(_columns, self._parts), strict=True)]
        time_ns, epoch, sequence, row = map(int, keys)
        return Page(batch, (time_ns, epoch, sequence, row))


def _columns(placed: Placed) -> Iterator[NDArray[np.int64]]:
    yield placed.batch["ts_event"]
    yield np.full(placed.batch.rows, placed.epoch)
    yield placed.sequence
    yield placed.row.astype(np.int64)


def encode_place(last: Key | None) -> str:
    """Return the token of the page after a row; empty where there is none."""
    return "" if last is None else encode_token(_PLACE.pack(*last))


def decode_place(token: str) -> Key | None:
    """Return the row that a page begins after; None for the empty token.

    Raises
    ------
    MarketDataError
        INVALID_FIELD if `encode_place` did not give the token.
    """
    return _PLACE.unpack(decode_token(token, _PLACE.size)) if token else None
