"""Which rows are the latest of their instrument."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import Batch
from mda.market.bits import OUT_OF_ORDER, Mask
from mda.market.corrections import corrections_of


def candidates(batch: Batch) -> Mask | None:
    """Return which rows may become the latest; None where all may."""
    corrections = corrections_of(batch)
    may = None if corrections is None else ~corrections
    if "verdicts" in batch.columns:
        in_order: Mask = (batch["verdicts"] & np.uint32(OUT_OF_ORDER)) == 0
        if not in_order.all():
            may = in_order if may is None else may & in_order
    return may


def latest_rows(batch: Batch) -> NDArray[np.intp]:
    """Return the place of the newest row of each instrument that may be the latest, ascending."""
    may = candidates(batch)
    rows = np.arange(batch.rows) if may is None else np.flatnonzero(may)
    _, from_the_end = np.unique(batch["instrument_id"][rows][::-1], return_index=True)
    return np.sort(rows[len(rows) - 1 - from_the_end])
