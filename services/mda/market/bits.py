"""Verdicts as bits of the `verdicts` column."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from marketdata.v1.verdict_pb2 import Verdict


def bit(verdict: Verdict) -> int:
    """Return a verdict's bit."""
    return 1 << (verdict - 1)


UNKNOWN_INSTRUMENT: Final = bit(Verdict.VERDICT_UNKNOWN_INSTRUMENT)
NOT_A_PRICE: Final = bit(Verdict.VERDICT_NOT_A_PRICE)
CROSSED: Final = bit(Verdict.VERDICT_CROSSED)
OUT_OF_ORDER: Final = bit(Verdict.VERDICT_OUT_OF_ORDER)
LOCKED: Final = bit(Verdict.VERDICT_LOCKED)
STALE: Final = bit(Verdict.VERDICT_STALE)
FUTURE: Final = bit(Verdict.VERDICT_FUTURE)
OUTLIER: Final = bit(Verdict.VERDICT_OUTLIER)
DUPLICATE_SEQUENCE: Final = bit(Verdict.VERDICT_DUPLICATE_SEQUENCE)
MISSING_SIDE: Final = bit(Verdict.VERDICT_MISSING_SIDE)
RELEASED: Final = bit(Verdict.VERDICT_RELEASED)

Bits = NDArray[np.uint32]
Mask = NDArray[np.bool_]


def some(mask: Mask) -> bool:
    """Return whether any row is in a mask; several times as fast as `any` for batches as they come."""
    return bool(np.count_nonzero(mask))


class Findings:
    """The verdicts of some rows, as they are found.

    Attributes
    ----------
    bits
        The column; None while nothing was found, which is the usual case.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.bits: Bits | None = None

    def add(self, verdict: int, rows: Mask, order: NDArray[np.intp] | None = None) -> None:
        """Add a verdict, or none, to the rows of a mask; where that is of sorted rows, `order` tells which they are."""
        if not verdict or not some(rows):
            return
        if self.bits is None:
            self.bits = np.zeros(self._rows, dtype=np.uint32)
        self.bits[rows if order is None else order[rows]] |= np.uint32(verdict)
