"""All cancels and corrections that who reads the past has to know: from the lake, and from the tape after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import Batch, Kind, concatenate
from marketdata.v1 import error_reason_pb2 as reasons
from mda.lake.files import Range
from mda.lake.lake import Lake, View
from mda.lake.layout import TABLES, Placed
from mda.market.all_corrections import AllCorrections, Changes
from mda.market.corrections import KEPT, Corrections, KnownCorrections, corrections_of
from mda.market.errors import MarketDataError

MOST: Final = 1 << 20
"""So many are held for a query."""

_EVERY: Final = (np.iinfo(np.int64).min, np.iinfo(np.int64).max)
_NONE: Final = (1, 0)
_Ids = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found last, and of which trades."""

    ids: _Ids | None
    references: Range
    corrections: AllCorrections

    def covers(self, ids: _Ids | None, references: Range) -> bool:
        """Return whether it is all that changes other trades, too."""
        if not self.references[0] <= references[0] <= references[1] <= self.references[1]:
            return False
        return self.ids is None or (ids is not None and bool(np.isin(ids, self.ids).all()))


class ChangeFinder:
    """Finds the cancels and corrections of trades of a dataset, as it was at one moment. Its methods block.

    Parameters
    ----------
    lake, view
        The lake; None where there is none.
    recent
        The trades that the lake does not have.
    newest
        The newest ones, which are known as they come.
    until
        The sequence number of the tape's newest entry whose rows are there.
    """

    def __init__(
        self, lake: Lake | None, view: View | None, recent: Sequence[Placed], newest: Corrections, until: int
    ) -> None:
        self._lake = lake
        self._view = view
        self._recent = recent
        self._changes: list[Placed] | None = None  # of the recent ones
        self._newest = newest
        # Who opens a dataset learns nothing of what was on older tapes.
        self._of_one_tape = view is None or view.is_of_one_tape(TABLES[Kind.TRADE])
        self._until = until
        self._found: _Found | None = None

    def of_trades(self, ids: _Ids | None, times: Range) -> KnownCorrections:
        """Return what changes the trades of some instruments, or of all, and of a range of event times.

        Raises
        ------
        LakeError
        MarketDataError
            RANGE_TOO_LARGE if that is too much to be held.
        """
        if self._is_known():
            return self._newest
        references = self._sequences(ids, times)
        if references is None:
            return self._newest
        if self._found is None or not self._found.covers(ids, references):
            self._found = None  # so that not both are held
            self._found = _Found(ids, references, self._find(ids, references, 0))
        return self._found.corrections

    def after(self, place: int, ids: _Ids | None, times: Range | None) -> AllCorrections:
        """Return what changes trades after a place on the tape: otherwise as `of_trades`; None for all times."""
        references = _EVERY if times is None else self._sequences(ids, times) or _NONE
        return self._find(ids, references, place)

    def has_lost(self, corrections: KnownCorrections) -> bool:
        """Return whether what `of_trades` gave has become less meanwhile, as more came than are known."""
        return corrections is self._newest and not self._is_known()

    def _is_known(self) -> bool:
        """Return whether the lake need not be asked."""
        return self._of_one_tape and not self._newest.complete_after

    def _find(self, ids: _Ids | None, references: Range, after: int) -> AllCorrections:
        parts: list[Placed] = []
        rows = 0
        for placed in self._parts(ids, references, after):
            parts.append(placed)
            rows += placed.batch.rows
            if rows > MOST:
                raise _too_many()
        archived = self._view.archived if self._view is not None else 0
        return AllCorrections(Changes(_in_order(parts)), self._newest, archived, (after, self._until))

    def _parts(self, ids: _Ids | None, references: Range, after: int) -> Iterator[Placed]:
        if self._lake is not None and self._view is not None:
            yield from self._lake.changes(self._view, ids, references, after)
        if self._changes is None:
            self._changes = list(changes_alone(self._recent))
        for placed in self._changes:
            yield placed if ids is None else placed.take(np.isin(placed.batch["instrument_id"], ids))

    def _sequences(self, ids: _Ids | None, times: Range) -> Range | None:
        """Return bounds of the trades' sequence numbers, as the lake has them; None where there are no trades."""
        found: list[Range] = []
        if self._lake is not None and self._view is not None:
            bounds = self._lake.sequences(self._view, ids, times)
            found += [bounds] if bounds is not None else []
        for placed in self._recent:
            sequences = _wanted(placed.batch, ids, times).view(np.int64)
            found += [(int(sequences.min()), int(sequences.max()))] if len(sequences) else []
        return (min(least for least, _ in found), max(greatest for _, greatest in found)) if found else None


def changes_alone(parts: Sequence[Placed]) -> Iterator[Placed]:
    """Yield the cancels and corrections among trades."""
    for placed in parts:
        changes = corrections_of(placed.batch)
        if changes is not None:
            yield placed.take(changes)


def _wanted(batch: Batch, ids: _Ids | None, times: Range) -> NDArray[np.uint64]:
    """Return the sequence numbers of the rows of some instruments and times."""
    keep = (batch["ts_event"] >= times[0]) & (batch["ts_event"] <= times[1])
    if ids is not None:
        keep &= np.isin(batch["instrument_id"], ids)
    return batch["sequence"][keep]


def _in_order(parts: Sequence[Placed]) -> Batch:
    """Return rows of several tapes as one, in the order of these."""
    if not parts:
        return Batch(Kind.TRADE, 0, {})
    batch = concatenate(
        [Batch(Kind.TRADE, part.batch.rows, {name: part.batch[name] for name in KEPT}) for part in parts]
    )
    epochs = np.repeat([part.epoch for part in parts], [part.batch.rows for part in parts])
    sequence = np.concatenate([part.sequence for part in parts])
    row = np.concatenate([part.row for part in parts])
    return batch.take(np.lexsort((row, sequence, epochs)))


def _too_many() -> MarketDataError:
    return MarketDataError(
        reasons.ERROR_REASON_RANGE_TOO_LARGE,
        f"symbols: to tell their trades as they stand, more than {MOST:,} cancels and corrections would have to be "
        "held. Ask for fewer symbols or for less time, or start later; or take the raw view, in which they are rows.",
        field="symbols",
        limit=MOST,
    )
