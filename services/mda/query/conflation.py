"""Conflated subscriptions: the newest row of each instrument, once in each interval."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from marketdata.columns import Batch, Kind, concatenate
from marketdata.query.v1.query_service_pb2 import SubscribeResponse
from marketdata.v1.gap_pb2 import Gap
from mda.market.corrections import corrections_of
from mda.market.latest import latest_rows
from mda.query.hub import Hub
from mda.query.ring import ReadEntry
from mda.query.stream import ENTRIES_AT_ONCE, serialize
from mda.query.subscription import Change, Subscription
from mda.tape.payload import encode_payload

_STEP_S: Final = 0.25
_FOLD_ROWS: Final = 65_536
"""Rows are folded whenever so many have gathered, so that memory is bounded."""
_MOST_GAPS: Final = 1_000
"""Once so many gaps have gathered, they are sent, and the rows with them, even if more are to be folded."""


def fold(batch: Batch) -> Batch:
    """Return the newest row of each instrument, and every correction, in the order of the tape.

    Rows that came out of order are no instrument's newest.
    """
    corrections = corrections_of(batch)
    newest = latest_rows(batch)
    return batch.take(newest if corrections is None else np.union1d(newest, np.flatnonzero(corrections)))


class ConflatedSubscription(Subscription):
    """A subscription that tells the newest row of each instrument and kind, once in each interval.

    Rows before the newest are folded into it, and counted. A reader that is behind folds
    all that it missed into one message.

    Parameters
    ----------
    hub, position, heartbeat_s, kinds, snapshot, corrected
        As in `Subscription`.
    interval_s
        The interval, in seconds.
    """

    def __init__(
        self,
        hub: Hub,
        position: int,
        heartbeat_s: float,
        kinds: frozenset[Kind],
        *,
        snapshot: bool,
        interval_s: float,
        corrected: bool = False,
    ) -> None:
        super().__init__(hub, position, heartbeat_s, kinds, snapshot=snapshot, corrected=corrected)
        self._interval_s = interval_s
        self._due_s = time.monotonic()
        self._gathered: dict[Kind, list[Batch]] = {}
        self._gathered_rows = 0
        self._seen_rows = 0
        self._gathers_after = position
        self._gaps: list[Gap] = []

    def _from_ring(self) -> bytes | None:
        if time.monotonic() < self._due_s:
            return b""
        entries = self.hub.in_ring(self.position, ENTRIES_AT_ONCE)
        return None if entries is None else self._next(entries)

    def _next(self, entries: Sequence[ReadEntry]) -> bytes:
        for entry in entries:
            self._gather(entry)
            if len(self._gaps) >= _MOST_GAPS:
                return self._folded()
        if self.position < self.hub.head:
            return b""
        if self._seen_rows or self._gaps:
            self._due_s = time.monotonic() + self._interval_s
        return self._folded()

    async def _pause(self, place: int) -> None:
        if self.position < self.hub.head:
            # In steps, so that an end does not wait for long.
            await asyncio.sleep(min(max(0.0, self._due_s - time.monotonic()), _STEP_S))
        else:
            await super()._pause(place)

    def _apply(self, change: Change) -> None:
        folded = self._folded()  # of the symbols before the change
        if folded:
            self._outbox.append(folded)
        super()._apply(change)

    @property
    def _untold(self) -> int:
        return self._gathers_after

    def _gather(self, entry: ReadEntry) -> None:
        self._move(entry)
        self._gaps += entry.gaps
        for batch in self._standing(self._selection.filter(entry.batches)):
            self._gathered.setdefault(batch.kind, []).append(batch)
            self._gathered_rows += batch.rows
            self._seen_rows += batch.rows
        if self._gathered_rows > _FOLD_ROWS:
            self._gathered = {kind: [fold(concatenate(batches))] for kind, batches in self._gathered.items()}
            self._gathered_rows = sum(batches[0].rows for batches in self._gathered.values())

    def _folded(self) -> bytes:
        """Return the message of what was gathered; empty if that is nothing."""
        self._gathers_after = self.position
        if not self._seen_rows and not self._gaps:
            return b""
        # A trade that was gathered may have been cancelled since.
        gathered = self._standing(concatenate(batches) for _, batches in sorted(self._gathered.items()))
        batches = [batch for batch in map(fold, gathered) if batch.rows]
        rows = sum(batch.rows for batch in batches)
        folded = self._seen_rows - rows
        self.delivered_rows += rows
        self.conflated_rows += folded
        head = serialize(SubscribeResponse(folded_rows=folded, gaps=self._gaps, cursor=self.cursor))
        self._gathered, self._gathered_rows, self._seen_rows, self._gaps = {}, 0, 0, []
        return encode_payload(batches) + head
