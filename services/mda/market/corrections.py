"""Cancels and corrections of trades: rows of their own that refer to the trade that they change."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
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
_KEPT: Final = ("instrument_id", "ts_event", "refers_to", "action", *_REPLACED)
_SLOTS_LOG2: Final = 20
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)


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


class Corrections:
    """The newest cancels and corrections of a dataset.

    Parameters
    ----------
    limit
        How many trades' to know; of one trade the newest counts.

    Attributes
    ----------
    version
        Grows with each change; 0 while there is none.
    """

    def __init__(self, limit: int = MAX_ROWS) -> None:
        self.version = 0
        self._limit = limit
        self._known: OrderedDict[tuple[int, int], tuple[int, ...]] = OrderedDict()
        self._evicted = 0
        # Which sequence numbers may be known: few rows have to be looked up one by one.
        self._slots: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def add(self, batch: Batch) -> None:
        """Take in the cancels and corrections of a batch."""
        changes = corrections_of(batch)
        if changes is None:
            return
        batch = batch.take(changes)
        for row in zip(*(batch[name].tolist() for name in _KEPT), strict=True):
            key = (row[0], row[2])
            self._known.pop(key, None)
            self._known[key] = row
        self._shrink()
        if not len(self._slots):
            self._slots = np.zeros(1 << _SLOTS_LOG2, dtype=np.bool_)
        self._slots[_slots_of(batch["refers_to"])] = True
        self.version += 1

    def apply(self, batch: Batch) -> Batch:
        """Return rows as they stand: cancelled trades left out, corrected ones changed; the batch itself if none is."""
        changed, stays = self.stand(batch)
        return batch if changed is batch else changed.take(stays)

    def stand(self, batch: Batch) -> tuple[Batch, Mask]:
        """Return rows with corrected ones changed, and which of them were not cancelled."""
        stays = np.ones(batch.rows, dtype=np.bool_)
        found = self._find(batch) if self._known and batch.kind is Kind.TRADE else []
        if not found:
            return batch, stays
        columns = dict(batch.columns) | {name: np.array(batch[name]) for name in _REPLACED}
        for row, change in found:
            values = dict(zip(_KEPT, change, strict=True))
            stays[row] = values["action"] != CANCEL
            for name in _REPLACED:
                columns[name][row] = values[name]
        return Batch(batch.kind, batch.rows, columns), stays

    def apply_to(self, batches: Iterable[Batch]) -> list[Batch]:
        """Return rows of several batches as they stand; batches without any are left out."""
        return [batch for batch in map(self.apply, batches) if batch.rows]

    def kept(self) -> list[Batch]:
        """Return what is known, oldest first, as at most one batch: for `add` of another."""
        if not self._known:
            return []
        columns = zip(*self._known.values(), strict=True)
        return [make_batch(Kind.TRADE, dict(zip(_KEPT, map(list, columns), strict=True)))]

    def _find(self, batch: Batch) -> list[tuple[int, tuple[int, ...]]]:
        sequences = batch["sequence"]
        rows = np.flatnonzero(self._slots[_slots_of(sequences)] & (batch["action"] == TRADE))
        keys = zip(batch["instrument_id"][rows].tolist(), sequences[rows].tolist(), strict=True)
        changes = ((row, self._known.get(key)) for row, key in zip(rows.tolist(), keys, strict=True))
        return [(row, change) for row, change in changes if change is not None]

    def _shrink(self) -> None:
        while len(self._known) > self._limit:
            self._known.popitem(last=False)
            self._evicted += 1
        if self._evicted > self._limit:
            self._evicted = 0
            slots = np.zeros_like(self._slots)  # a new one: threads may be looking at the old one
            slots[_slots_of(np.array([key[1] for key in self._known], dtype=np.uint64))] = True
            self._slots = slots


def _slots_of(sequences: NDArray[np.uint64]) -> NDArray[Any]:
    return (sequences * _SPREAD) >> np.uint64(64 - _SLOTS_LOG2)
