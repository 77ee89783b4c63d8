"""All cancels and corrections of a dataset, or of some instruments: more than those that are known as they come."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import Batch
from mda.market.corrections import KEPT, Corrections, Found, KnownCorrections, Slots

_SLOTS_LOG2: Final = (10, 24)
_SLOTS_EACH_LOG2: Final = 4
_versions: Final = itertools.count(1)


class Changes:
    """Cancels and corrections, of each trade the newest. They never change.

    Parameters
    ----------
    batch
        Rows of cancels and corrections, in the order of the tape.
    """

    def __init__(self, batch: Batch) -> None:
        order = np.lexsort((batch["refers_to"], batch["instrument_id"]))  # stable: of one trade the newest is last
        ids, references = batch["instrument_id"][order], batch["refers_to"][order]
        newest = np.ones(len(order), dtype=np.bool_)
        newest[:-1] = (ids[1:] != ids[:-1]) | (references[1:] != references[:-1])
        chosen = order[newest]
        self._rows = Batch(batch.kind, len(chosen), {name: batch[name][chosen] for name in KEPT})
        self._references = np.unique(references)
        self._keys = self._keys_of(ids[newest], np.searchsorted(self._references, references[newest]))
        least, most = _SLOTS_LOG2
        self._slots = Slots(min(max(len(chosen).bit_length() + _SLOTS_EACH_LOG2, least), most))
        self._slots.add(self._references)

    def __len__(self) -> int:
        """Return of how many trades."""
        return self._rows.rows

    def find(self, batch: Batch) -> Iterator[Found]:
        """Yield which trades of a batch are changed, and how."""
        rows = self._slots.candidates(batch) if len(self) else np.zeros(0, dtype=np.intp)
        rows, at = _matches(self._references, batch["sequence"][rows], rows)
        rows, at = _matches(self._keys, self._keys_of(batch["instrument_id"][rows], at), rows)
        if len(rows):
            yield rows, self._rows.take(at)

    def _keys_of(self, ids: NDArray[np.uint32], at: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return a number for each instrument and place among the references: their order is that of both."""
        return ids.astype(np.int64) * len(self._references) + at


def _matches(
    among: NDArray[np.int64] | NDArray[np.uint64],
    values: NDArray[np.int64] | NDArray[np.uint64],
    rows: NDArray[np.intp],
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows whose values are among others, which are ascending, and where there."""
    at = np.searchsorted(among, values)
    at[at == len(among)] = 0
    same = among[at] == values if len(among) else np.zeros(len(rows), dtype=np.bool_)
    return rows[same], at[same]


class AllCorrections(KnownCorrections):
    """All cancels and corrections: those that were found, and those that have come since.

    Parameters
    ----------
    changes
        Those that were found, by reading the dataset up to a place on its tape.
    newest
        Those that come.
    after
        What stands no later than there on the tape is not taken of these.
    stretch
        The places on the tape from which, and up to which, the dataset was read.
    """

    def __init__(self, changes: Changes, newest: Corrections, after: int, stretch: tuple[int, int]) -> None:
        self._stretch = stretch
        self._changes = changes
        self._newest = newest
        self._after = after
        self._number = next(_versions)

    @property
    def version(self) -> Hashable:
        """As of the base class."""
        return (self._number, self._newest.version)

    def is_whole(self, place: int) -> bool:
        """Return whether all are known that change trades after a place on the tape: also those that came since."""
        first, last = self._stretch
        return first <= place and self._newest.complete_after <= last

    def find(self, batch: Batch) -> Iterator[Found]:
        """Yield which trades of a batch were changed, and how."""
        yield from self._changes.find(batch)
        yield from self._newest.find(batch, self._after)
