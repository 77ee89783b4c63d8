"""The latest row of each instrument."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import COLUMNS, MAX_ROWS, Batch, Kind, concatenate
from mda.market.corrections import Corrections
from mda.market.latest import candidates, latest_rows


class LatestRows:
    """The latest row of each instrument, of one kind, in columns indexed by id.

    Rows that came out of order do not become the latest, nor do corrections of trades.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._present = np.zeros(0, dtype=np.bool_)
        self._columns: dict[str, NDArray[Any]] = {
            column.name: np.zeros(0, dtype=column.dtype) for column in COLUMNS[kind]
        }

    def update(self, batch: Batch) -> None:
        """Take in a batch of the kind."""
        may = candidates(batch)
        if may is not None:
            batch = batch.take(may)
        if batch.rows == 0:
            return
        ids = batch["instrument_id"]
        self._grow(int(ids.max()) + 1)
        rows: NDArray[np.intp] | slice = slice(None)
        if batch.rows > len(self._present):
            # Many rows of few instruments: find the last of each, and copy those alone.
            last = np.full(len(self._present), -1, dtype=np.intp)
            last[ids] = np.arange(batch.rows)
            rows = last[last >= 0]
            ids = ids[rows]
        # Where an id is there several times, NumPy lets the last one win.
        self._present[ids] = True
        for name, values in self._columns.items():
            values[ids] = batch[name][rows]

    def take(self, ids: Iterable[int] | None) -> Batch | None:
        """Return the latest rows of some instruments, in their order, or of all, by id.

        Instruments without a row are left out; None if none has one.
        """
        if ids is None:
            chosen = np.flatnonzero(self._present)
        else:
            asked = np.fromiter(ids, dtype=np.int64)
            asked = asked[asked < len(self._present)]
            chosen = asked[self._present[asked]]
        if len(chosen) == 0:
            return None
        return Batch(self._kind, len(chosen), {name: values[chosen] for name, values in self._columns.items()})

    def _grow(self, size: int) -> None:
        missing = size - len(self._present)
        if missing <= 0:
            return
        missing = max(missing, len(self._present))  # doubling
        self._present = np.concatenate([self._present, np.zeros(missing, dtype=np.bool_)])
        for name, values in self._columns.items():
            self._columns[name] = np.concatenate([values, np.zeros(missing, dtype=values.dtype)])


def split(batch: Batch) -> list[Batch]:
    """Return a batch as batches of at most `MAX_ROWS` rows."""
    starts = range(0, batch.rows, MAX_ROWS)
    return [batch.slice(start, min(start + MAX_ROWS, batch.rows)) for start in starts]


def latest_standing(
    raw: Batch | None, corrections: Corrections, newest_first: Iterable[Sequence[Batch]]
) -> Batch | None:
    """Return the latest trades as they stand: where one was cancelled, the newest before it that was not.

    Parameters
    ----------
    raw
        The latest trades as they came.
    corrections
        What is known to have changed.
    newest_first
        The batches of recent entries of the tape, from the newest entry on. A trade that
        they do not hold is left out.
    """
    standing = corrections.apply(raw) if raw is not None else None
    if raw is None or standing is None or standing.rows == raw.rows:
        return standing
    order = raw["instrument_id"]
    parts = [standing]
    missing = np.setdiff1d(order, standing["instrument_id"])
    for batches in newest_first:
        for batch in reversed(batches):
            if batch.kind is Kind.TRADE and len(missing):
                wanted = corrections.apply(batch.take(np.isin(batch["instrument_id"], missing)))
                parts.append(wanted.take(latest_rows(wanted)))
                missing = np.setdiff1d(missing, parts[-1]["instrument_id"])
        if not len(missing):
            break
    found = concatenate(parts)
    places = {instrument: place for place, instrument in enumerate(found["instrument_id"].tolist())}
    rows = [places[instrument] for instrument in order.tolist() if instrument in places]
    return found.take(np.array(rows, dtype=np.intp)) if rows else None
