"""Sums of prices, sizes and their products that never overflow and are never rounded.

A number is held in four limbs of 32 bits, in columns: room for the sum of 2^32 products
of any two int64, and adding needs no look at carries until the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import ABSENT
from mda.market.bits import some

_LIMBS: Final = 4
_LIMB_BITS: Final = 32
_LIMB: Final = (1 << _LIMB_BITS) - 1
_WORD: Final = 2.0**64

MAX_ROWS: Final = 1 << 16
"""The most rows that `sum_products` takes at once: its error bound rests on it."""

_PIECE_BITS: Final = 16
_PIECE: Final = (1 << _PIECE_BITS) - 1
_CERTAIN: Final = 2.0**62

Int64s = NDArray[np.int64]
Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class WideInts:
    """A column of integers of up to 160 bits.

    Attributes
    ----------
    limbs
        int64 of shape (4, n), the lowest first: 32 bits each, the last one signed.
    """

    limbs: Int64s

    @classmethod
    def zeros(cls, count: int) -> WideInts:
        """Return `count` times zero."""
        return cls(np.zeros((_LIMBS, count), dtype=np.int64))

    @classmethod
    def of(cls, values: Int64s) -> WideInts:
        """Return the values of an int64 column."""
        return _of_words(values, 0)

    @classmethod
    def of_ints(cls, values: Sequence[int]) -> WideInts:
        """Return the values of Python integers."""
        limbs = [
            [value >> place * _LIMB_BITS & (_LIMB if place < _LIMBS - 1 else -1) for value in values]
            for place in range(_LIMBS)
        ]
        return cls(np.array(limbs, dtype=np.int64).reshape(_LIMBS, len(values)))

    @classmethod
    def concatenate(cls, columns: Iterable[WideInts]) -> WideInts:
        """Return the values of columns, one after the other."""
        return cls(np.concatenate([column.limbs for column in columns], axis=1))

    def __len__(self) -> int:
        return self.limbs.shape[1]

    def __add__(self, other: WideInts) -> WideInts:
        return WideInts(_carried(self.limbs + other.limbs))

    def __getitem__(self, rows: NDArray[Any] | slice) -> WideInts:
        return WideInts(self.limbs[:, rows])

    def __setitem__(self, rows: NDArray[Any] | slice, values: WideInts) -> None:
        self.limbs[:, rows] = values.limbs

    def reduceat(self, starts: Places) -> WideInts:
        """Return the sum of each group of neighbours; `starts` has the place of each group's first."""
        return WideInts(_carried(np.add.reduceat(self.limbs, starts, axis=1)))

    def times(self, factor: int) -> WideInts:
        """Return each value times a factor of fewer than 31 bits."""
        return WideInts(_carried(self.limbs * factor))

    def low_words(self) -> Int64s:
        """Return each value modulo 2^64, as int64."""
        return self.limbs[0] | self.limbs[1] << _LIMB_BITS

    def to_floats(self) -> Floats:
        """Return the values as float64, off by less than 2^-50 of each."""
        low, *others = self.limbs.astype(np.float64)
        # From the highest limb down: a sum of terms of unlike sign loses nothing, as the lower are the smaller.
        return ((others[2] * 2.0**32 + others[1]) * 2.0**32 + others[0]) * 2.0**32 + low

    def to_ints(self) -> list[int]:
        """Return the values as Python integers."""
        total: list[int] = [0] * len(self)
        for limb in reversed(self.limbs.tolist()):
            total = [(high << _LIMB_BITS) + low for high, low in zip(total, limb, strict=True)]
        return total


def _carried(limbs: Int64s) -> Int64s:
    for low, high in pairwise(limbs):
        high += low >> _LIMB_BITS
        low &= _LIMB
    return limbs


def _of_words(low: Int64s, high: Int64s | int) -> WideInts:
    """Return high * 2^64 + low."""
    limbs = np.empty((_LIMBS, len(low)), dtype=np.int64)
    np.bitwise_and(low, _LIMB, out=limbs[0])
    np.right_shift(low, _LIMB_BITS, out=limbs[1])
    limbs[2] = high
    limbs[3] = 0
    return WideInts(_carried(limbs))


def sum_values(values: Int64s, starts: Places) -> WideInts:
    """Return the sum of each group of neighbours.

    Parameters
    ----------
    values
        int64.
    starts
        The place of each group's first.
    """
    most = max(int(values.max()), -int(values.min()))
    if most * len(values) <= ABSENT:
        return WideInts.of(np.add.reduceat(values, starts))
    high = WideInts.of(np.add.reduceat(values >> _LIMB_BITS, starts))
    low = WideInts.of(np.add.reduceat(values & _LIMB, starts))
    return high.times(1 << _PIECE_BITS).times(1 << _PIECE_BITS) + low


def sum_products(values: Int64s, factors: Int64s, starts: Places) -> WideInts:
    """Return the sum of value times factor of each group of neighbours.

    Parameters
    ----------
    values, factors
        int64, at most `MAX_ROWS` of each; any numbers.
    starts
        The place of each group's first.
    """
    sums = _certain_sums(values, factors, starts)
    if sums is None:  # too large for the quick way: so values are cut in pieces that are not
        sums = WideInts.zeros(len(starts))
        for shift in (48, 32, 16, 0):
            piece = values >> shift
            part = _certain_sums(piece if shift == 48 else piece & _PIECE, factors, starts)  # the highest has the sign
            if part is None:
                raise ValueError(f"sum_products takes at most {MAX_ROWS} rows at once; it was given {len(values)}")
            sums = sums.times(1 << _PIECE_BITS) + part
    return sums


def _certain_sums(values: Int64s, factors: Int64s, starts: Places) -> WideInts | None:
    """Return the sums of products, if they are small enough to tell them from two words.

    The low 64 bits come from arithmetic that wraps, the rest from one in floats that is
    off by less than 2^62: both together are exact. Each product is rounded three times
    and each sum once per row at most, by 2^-53 each. None where that may be more than 2^62.
    """
    products = values.astype(np.float64)
    products *= factors
    near = np.add.reduceat(products, starts)
    magnitude = near if products.min() >= 0 else np.add.reduceat(np.abs(products), starts)
    if (len(values) + 8) * magnitude.max() * 2.0**-53 >= _CERTAIN:
        return None
    low = np.add.reduceat(values * factors, starts)
    return _of_words(low, np.rint((near - low) / _WORD).astype(np.int64))


def divide(numerators: WideInts, denominators: WideInts) -> Int64s:
    """Return numerator / denominator, rounded half to even.

    Returns
    -------
    Int64s
        int64; `ABSENT` where the denominator is not positive or the quotient does not fit.
    """
    tops, bottoms = numerators.to_floats(), denominators.to_floats()
    positive = bottoms > 0
    near = np.rint(tops / np.where(positive, bottoms, 1.0))
    # The remainder is told from its low 64 bits where what is off in `near` leaves it small.
    small = positive & (bottoms * (np.abs(near) * 2.0**-48 + 1) < 2.0**61) & (np.abs(near) < 2.0**61)
    quotients = np.where(small, near, 0).astype(np.int64)
    divisors = np.where(small, denominators.low_words(), 1)
    shifts, remainders = np.divmod(numerators.low_words() - quotients * divisors, divisors)
    quotients += shifts
    beyond = remainders - (divisors - remainders)
    quotients += (beyond > 0) | ((beyond == 0) & (quotients & 1 == 1))
    quotients[~positive] = ABSENT
    rest = np.flatnonzero(positive & ~small)
    if len(rest):
        pairs = zip(numerators[rest].to_ints(), denominators[rest].to_ints(), strict=True)
        quotients[rest] = [_divided(top, bottom) for top, bottom in pairs]
    return quotients


def _divided(top: int, bottom: int) -> int:
    quotient, remainder = divmod(top, bottom)
    quotient += 2 * remainder + (quotient & 1) > bottom
    return quotient if -ABSENT <= quotient < ABSENT else ABSENT


def middles(bids: Int64s, asks: Int64s) -> Int64s:
    """Return the middles of two int64 columns, rounded half to even; `ABSENT` where either is."""
    found = np.empty(len(bids), dtype=np.int64)
    for first in range(0, len(bids), MAX_ROWS):  # so many stay in the processor's cache
        block = slice(first, first + MAX_ROWS)
        found[block] = _middles(bids[block], asks[block])
    return found


def _middles(bids: Int64s, asks: Int64s) -> Int64s:
    halves = bids ^ asks
    middles = (bids & asks) + (halves >> 1)  # rounded down, and never out of range
    middles += halves & middles & 1
    absent = (bids == ABSENT) | (asks == ABSENT)
    return np.where(absent, ABSENT, middles) if some(absent) else middles
