"""Each instrument's row as of a time."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import NANOS, Batch, Kind, concatenate
from mda.lake.layout import Placed
from mda.market.ticks import in_order
from mda.query.history.source import Ids, Source, Wanted

_SPANS: Final = tuple(seconds * NANOS for seconds in (10, 60, 600, 3_600, 6 * 3_600, 86_400, 7 * 86_400))
"""Looked through one after the other, backwards, until each instrument has a row; then all that is before."""


def rows_as_of(source: Source, kind: Kind, ids: Ids, time_ns: int, *, standing: bool = False) -> Batch | None:
    """Return the last row of each instrument whose event was not after a time. Blocks.

    Parameters
    ----------
    source
        The dataset.
    kind
        The kind.
    ids
        The instruments, ascending.
    time_ns
        The time, in nanoseconds since the epoch.
    standing
        Whether trades are told as they stand.

    Returns
    -------
    Batch or None
        By instrument; those without a row are left out. None if none has one.
    """
    found: list[Placed] = []
    missing = ids
    least, greatest = source.span(kind)
    until = min(time_ns, greatest)
    for span in (*_SPANS, until + 1):
        start = max(least, until - span + 1)
        wanted = Wanted(kind, missing, (start, until))
        rows = source.standing(wanted) if standing else source.rows(wanted)
        found += [placed.take(_last_of_each(placed)) for placed in rows if placed.batch.rows]
        have = [placed.batch["instrument_id"] for placed in found]
        missing = np.setdiff1d(ids, np.concatenate(have)) if have else ids
        if not len(missing) or start <= least:
            break
        until = start - 1
    return _latest(found)


def _last_of_each(placed: Placed) -> NDArray[np.intp]:
    """Return the last row of each instrument, by event time and place."""
    ids, times = placed.batch["instrument_id"], placed.batch["ts_event"]
    if in_order((ids, times, placed.sequence, placed.row)):
        return _ends(ids)
    order = np.lexsort((placed.row, placed.sequence, times, ids))
    return order[_ends(ids[order])]


def _latest(found: list[Placed]) -> Batch | None:
    if not found:
        return None
    batch = concatenate([placed.batch for placed in found])
    epochs = np.repeat([placed.epoch for placed in found], [placed.batch.rows for placed in found])
    sequence = np.concatenate([placed.sequence for placed in found])
    row = np.concatenate([placed.row for placed in found])
    ids = batch["instrument_id"]
    order = np.lexsort((row, sequence, epochs, batch["ts_event"], ids))
    return batch.take(order[_ends(ids[order])])


def _ends(sorted_ids: Ids) -> NDArray[np.intp]:
    """Return the place of the last of each id."""
    return np.append(np.flatnonzero(sorted_ids[1:] != sorted_ids[:-1]), len(sorted_ids) - 1)
