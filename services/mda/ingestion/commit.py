"""Group commit: while an append is under way, what comes is joined into the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import numpy as np
from opentelemetry.context import Context

from marketdata.columns import MAX_ROWS, Batch
from mda.ingestion.datasets import Dataset
from mda.market.errors import MarketDataError
from mda.tape.payload import encode_payload, merge_neighbours

MAX_WAITING_ROWS: Final = 4 * MAX_ROWS
"""How many rows may wait for the tape in one queue, before its producer has to wait."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """A batch with its producer's number.

    Attributes
    ----------
    number, batch
        The two.
    trace
        The trace that it belongs to, where the group that it joins is made durable in
        another task than its caller's.
    """

    number: int
    batch: Batch
    trace: Context | None = None

    @property
    def rows(self) -> int:
        """How many rows the batch has."""
        return self.batch.rows


class HasRows(Protocol):
    """What may wait in a queue that is bounded by rows."""

    @property
    def rows(self) -> int:
        """How many rows it has."""
        ...


T = TypeVar("T", bound=HasRows)


class CommitQueue(Generic[T]):
    """What waits for the tape, in order, bounded by rows."""

    def __init__(self) -> None:
        self._waiting: deque[T] = deque()
        self._rows = 0
        self._wanted = 1
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False
        self._error: Exception | None = None

    async def put(self, item: T) -> None:
        """Add an item, once there is room; drop it if the queue takes no more."""
        await self._room.wait()
        if self._closed:
            return
        self._waiting.append(item)
        self._rows += item.rows
        if self._rows >= MAX_WAITING_ROWS:
            self._room.clear()
        self._changed.set()

    def close(self, error: Exception | None = None) -> None:
        """Take no more. `take` gives what waits, then raises the error, if there is one."""
        if not self._closed:
            self._closed, self._error = True, error
        self._changed.set()

    def want(self, rows: int) -> None:
        """Let `take` wait for so many rows; 1 for any. What waits when the queue closes is enough."""
        self._wanted = rows
        self._changed.set()

    async def take(self) -> list[T]:
        """Return the next group, of up to `MAX_ROWS` rows; empty once closed and empty.

        Raises
        ------
        Exception
            The one that the queue was closed with.
        """
        while self._rows < self._wanted and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        if not self._waiting:
            if self._error is not None:
                raise self._error
            return []
        group = [self._pop()]
        rows = group[0].rows
        while self._waiting and rows + self._waiting[0].rows <= MAX_ROWS:
            rows += self._waiting[0].rows
            group.append(self._pop())
        return group

    def _pop(self) -> T:
        item = self._waiting.popleft()
        self._rows -= item.rows
        if self._rows < MAX_WAITING_ROWS:
            self._room.set()
        return item


@dataclass(frozen=True, slots=True)
class Prepared:
    """A group that may go on the tape.

    Attributes
    ----------
    payload
        Its bytes.
    flagged_rows
        Per batch of the group, how many rows have a verdict.
    """

    payload: bytes
    flagged_rows: list[int]


async def first_error(dataset: Dataset, batches: Sequence[Batch]) -> tuple[int, MarketDataError] | None:
    """Return the position and the error of the first batch that may not go on the tape."""
    try:
        for run in merge_neighbours(batches):
            await dataset.check(run)
    except MarketDataError:
        # Somewhere; one by one now, so that the error names the batch's own row.
        for position, batch in enumerate(batches):
            try:
                await dataset.check(batch)
            except MarketDataError as error:
                return position, error
    return None


def prepare(dataset: Dataset, batches: Sequence[Batch]) -> Prepared:
    """Flag and encode the checked batches of a group, as one."""
    validated = [dataset.flag(run) for run in merge_neighbours(batches)]
    payload = encode_payload(part.batch for part in validated)
    if all(part.flagged is None for part in validated):
        return Prepared(payload, [0] * len(batches))
    flags = [p.flagged if p.flagged is not None else np.zeros(p.batch.rows, dtype=np.bool_) for p in validated]
    starts = np.cumsum([0] + [batch.rows for batch in batches[:-1]])
    flagged = np.add.reduceat(np.concatenate(flags).astype(np.int64), starts)
    return Prepared(payload, [int(count) for count in flagged])
