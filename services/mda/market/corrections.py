"""Cancels and corrections of trades: rows of their own that refer to the trade that they change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import ABSENT, MAX_ROWS, Batch, Kind, make_batch
from marketdata.v1.batch_pb2 import TradeAction
from mda.market.bits import Mask, some
from mda.market.refusals import bad_action, bad_reference

TRADE: Final = TradeAction.TRADE_ACTION_UNSPECIFIED
CANCEL: Final = TradeAction.TRADE_ACTION_CANCEL
_HIGHEST: Final = max(TradeAction.values())
_REPLACED: Final = ("price", "size", "side")
KEPT: Final = ("instrument_id", "ts_event", "refers_to", "action", *_REPLACED)
"""The columns of a cancel or correction that are known of it."""
_SLOTS_LOG2: Final = 20
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)

Found = tuple[NDArray[np.intp], Batch]
"""The places of trades that were changed, and of each the row that changes it."""


def corrections_of(batch: Batch) -> Mask | None:
    """Return which rows are cancels or corrections; None if none is, the usual case."""
    action = batch.columns.get("action")
    if action is None or not some(changes := action != TRADE):
        return None
    return changes


def check_corrections(batch: Batch) -> None:
    """See that each row's `action` is one, and refers to a trade exactly where it changes one.

    Raises
    ------
    MarketDataError
        BAD_CORRECTION for the first row of which that is not true.
    """
    if "action" not in batch.columns and "refers_to" not in batch.columns:
        return
    action = batch["action"]
    if some(unknown := action > _HIGHEST):
        raise bad_action(batch, int(unknown.argmax()))
    if some(wrong := (action != TRADE) != (batch["refers_to"] != ABSENT)):
        raise bad_reference(batch, int(wrong.argmax()))


class Slots:
    """Which sequence numbers may be among some: few rows have to be looked up one by one.

    Parameters
    ----------
    log2
        How many slots there are, as a power of two: several for each number.
    """

    def __init__(self, log2: int) -> None:
        self._log2 = log2
        self._taken: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def __len__(self) -> int:
        """Return how many are taken."""
        return int(np.count_nonzero(self._taken))

    def add(self, sequences: NDArray[np.uint64]) -> None:
        """Take in numbers."""
        taken = self._taken if len(self._taken) else np.zeros(1 << self._log2, dtype=np.bool_)
        taken[self._of(sequences)] = True
        self._taken = taken

    def candidates(self, batch: Batch) -> NDArray[np.intp]:
        """Return the trades of a batch whose `sequence` may be among them."""
        if not len(self._taken):
            return np.zeros(0, dtype=np.intp)
        return np.flatnonzero(self._taken[self._of(batch["sequence"])] & (batch["action"] == TRADE))

    def _of(self, sequences: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return (sequences * _SPREAD) >> np.uint64(64 - self._log2)


class KnownCorrections(ABC):
    """Cancels and corrections, for who wants trades as they stand.

    Attributes
    ----------
    version
        Another one whenever rows may stand otherwise; falsy while nothing is known.
    """

    @property
    @abstractmethod
    def version(self) -> Hashable:
        """As above."""

    @abstractmethod
    def find(self, batch: Batch) -> Iterator[Found]:
        """Yield which trades of a batch were changed, and how; of one trade the last one yielded counts."""

    def apply(self, batch: Batch) -> Batch:
        """Return rows as they stand: cancelled trades left out, corrected ones changed; the batch itself if none is."""
        changed, stays = self.stand(batch)
        return batch if changed is batch else changed.take(stays)

    def stand(self, batch: Batch) -> tuple[Batch, Mask]:
        """Return rows with corrected ones changed, and which of them were not cancelled."""
        stays = np.ones(batch.rows, dtype=np.bool_)
        columns: dict[str, NDArray[Any]] = {}
        for rows, changes in self.find(batch) if batch.kind is Kind.TRADE else ():
            columns = columns or {name: np.array(batch[name]) for name in _REPLACED}
            stays[rows] = changes["action"] != CANCEL
            for name in _REPLACED:
                columns[name][rows] = changes[name]
        return (Batch(batch.kind, batch.rows, dict(batch.columns) | columns) if columns else batch), stays

    def apply_to(self, batches: Iterable[Batch]) -> list[Batch]:
        """Return rows of several batches as they stand; batches without any are left out."""
        return [batch for batch in map(self.apply, batches) if batch.rows]


class Corrections(KnownCorrections):
    """The newest cancels and corrections of a dataset, as they come.

    Parameters
    ----------
    limit
        How many trades' to know; of one trade the newest counts.

    Attributes
    ----------
    version
        Grows with each change; 0 while there is none.
    complete_after
        Every one that stands after this place on the tape is known: 0 while none was
        dropped or missed. For who reads rows from there on these are all that matter, as
        a trade is changed by what comes after it.
    """

    def __init__(self, limit: int = MAX_ROWS) -> None:
        self.complete_after = 0
        self._limit = limit
        self._known: OrderedDict[tuple[int, int], tuple[int, tuple[int, ...]]] = OrderedDict()
        self._evicted = 0
        self._version = 0
        self._slots = Slots(_SLOTS_LOG2)

    @property
    def version(self) -> int:
        """As above."""
        return self._version

    def add(self, batch: Batch, place: int) -> None:
        """Take in the cancels and corrections of a batch, which stand at a place on the tape, or before it."""
        changes = corrections_of(batch)
        if changes is None:
            return
        batch = batch.take(changes)
        for row in zip(*(batch[name].tolist() for name in KEPT), strict=True):
            key = (row[0], row[2])
            self._known.pop(key, None)
            self._known[key] = (place, row)
        self._shrink()
        self._slots.add(batch["refers_to"])
        self._version += 1

    def restore(self, batches: Sequence[Batch], place: int, complete_after: int | None) -> None:
        """Take in what `kept` gave when the tape was read up to a place.

        Parameters
        ----------
        batches, place
            That.
        complete_after
            As it was then; None where that was not noted. Then some may have been dropped
            if there are as many as may be known.
        """
        for batch in batches:
            self.add(batch, place)
        is_full = sum(batch.rows for batch in batches) >= self._limit
        self.miss(complete_after if complete_after is not None else place * is_full)

    def miss(self, place: int) -> None:
        """Note that some up to a place on the tape may not be known."""
        self.complete_after = max(self.complete_after, place)

    def go_back(self, place: int) -> None:
        """Note that the tape ends at a place now, before some that are known; or that it is another one."""
        self.complete_after = min(self.complete_after, place)
        for key, (at, row) in self._known.items():
            self._known[key] = (min(at, place), row)

    def kept(self) -> list[Batch]:
        """Return what is known, oldest first, as at most one batch: for `restore` of another."""
        return [_batch_of([row for _, row in self._known.values()])] if self._known else []

    def find(self, batch: Batch, after: int = -1) -> Iterator[Found]:
        """Yield which trades were changed, and how: by what stands after a place on the tape."""
        rows = self._slots.candidates(batch)
        keys = zip(batch["instrument_id"][rows].tolist(), batch["sequence"][rows].tolist(), strict=True)
        changes = ((row, self._known.get(key)) for row, key in zip(rows.tolist(), keys, strict=True))
        found = [(row, change[1]) for row, change in changes if change is not None and change[0] > after]
        if found:
            yield np.array([row for row, _ in found]), _batch_of([change for _, change in found])

    def _shrink(self) -> None:
        while len(self._known) > self._limit:
            _, (place, _) = self._known.popitem(last=False)
            self.miss(place)
            self._evicted += 1
        if self._evicted > self._limit:
            self._evicted = 0
            slots = Slots(_SLOTS_LOG2)  # new ones: threads may be looking at the old ones
            slots.add(np.array([key[1] for key in self._known], dtype=np.uint64))
            self._slots = slots


def _batch_of(rows: Sequence[tuple[int, ...]]) -> Batch:
    columns = zip(*rows, strict=True)
    return make_batch(Kind.TRADE, dict(zip(KEPT, map(list, columns), strict=True)))
