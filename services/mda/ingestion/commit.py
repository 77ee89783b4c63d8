"""Group commit: while an append is under way, what comes is joined into the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from opentelemetry.context import Context

from marketdata.columns import MAX_ROWS, Batch, Kind
from marketdata.v1.gap_pb2 import Gap

MAX_WAITING_ROWS: Final = 4 * MAX_ROWS
"""How many rows may wait for the tape in one queue, before its producer has to wait."""

NO_ROWS: Final = Batch(Kind.QUOTE, 0, {})
"""The batch of a producer that tells of its source alone."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """A batch with its producer's number.

    Attributes
    ----------
    number, batch
        The two; `NO_ROWS` where a producer tells of its source alone.
    trace
        The trace that it belongs to, where the group that it joins is made durable in
        another task than its caller's.
    gaps, position
        What a producer tells of its source: gaps before the rows, and where it stands after
        them; empty where it tells nothing.
    """

    number: int
    batch: Batch
    trace: Context | None = None
    gaps: tuple[Gap, ...] = ()
    position: str = ""

    @property
    def rows(self) -> int:
        """How many rows the batch has; 1 where it has none, so that it takes room, too."""
        return self.batch.rows or 1


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
