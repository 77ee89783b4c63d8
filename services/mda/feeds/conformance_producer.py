"""A producer that dies on demand, and goes on from what the server says that it has."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, Self

from marketdata.client import Client
from marketdata.columns import Batch
from marketdata.errors import ApiError
from marketdata.publisher import Publisher

_KEPT_ROWS: Final = 1 << 18
"""When so many rows are kept, the producer waits until they are acknowledged."""


class ConformanceError(ValueError):
    """The server did what it may not. The message says what."""


class _DiedError(Exception):
    """Leaves a publisher as the death of its process does: nothing is waited for."""


class _Connection:
    """A publisher that can be dropped as if its process had died."""

    def __init__(self, manager: AbstractAsyncContextManager[Publisher], publisher: Publisher) -> None:
        self._manager = manager
        self.publisher = publisher

    @classmethod
    async def open(cls, client: Client, dataset: str, producer: str) -> Self:
        manager = client.publisher(dataset, producer)
        return cls(manager, await manager.__aenter__())

    async def drop(self) -> None:
        """Break the connection off, and forget what was not acknowledged."""
        await self._manager.__aexit__(_DiedError, _DiedError(), None)


class Producer:
    """Publishes batches, each once, whichever of its connections dies. Make it with `open`.

    A publisher keeps what is not acknowledged, but dies with its process. So this keeps
    its batches itself, as a producer does that reads them from a file or a log.

    Attributes
    ----------
    unacknowledged_rows
        How many rows were given and not acknowledged yet when a connection died; those
        that died with several connections count each time.
    sent_again
        How many batches the server did not have then, so that the next connection sent
        them.
    """

    def __init__(self, connect: Callable[[], Awaitable[_Connection]], connection: _Connection) -> None:
        self._connect = connect
        self._connection = connection
        self._kept: deque[tuple[int, Batch]] = deque()
        self._kept_rows = 0
        self._given_rows = 0  # to the connection at hand
        self.unacknowledged_rows = 0
        self.sent_again = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, client: Client, dataset: str, name: str) -> AsyncGenerator[Self]:
        """Open a producer; `flush` before the end, as nothing is waited for there.

        Parameters
        ----------
        client, dataset, name
            As in `Client.publisher`.
        """
        connect = partial(_Connection.open, client, dataset, name)
        producer = cls(connect, await connect())
        try:
            yield producer
        finally:
            await producer._connection.drop()

    async def publish(self, batch: Batch) -> int:
        """Give a batch to be sent; return its number."""
        number = await self._give(batch)
        self._keep(number, batch)
        if self._kept_rows >= _KEPT_ROWS:
            await self.flush()
        return number

    async def flush(self) -> None:
        """Wait until all batches are acknowledged."""
        await self._connection.publisher.flush()
        self._kept.clear()
        self._kept_rows = 0

    async def crash(self) -> None:
        """Die, and go on in a new connection."""
        await self._connection.drop()
        self._count_death()
        self._connection = await self._connect()
        await self._send_again()

    async def take_over(self, batch: Batch) -> int:
        """Open a second connection, send a batch by the older one, and go on with the newer.

        Returns
        -------
        int
            The batch's number.

        Raises
        ------
        ConformanceError
            If the older connection is not fenced off.
        """
        self._count_death()
        older, self._connection = self._connection, await self._connect()
        number = older.publisher.last_number + 1
        try:
            await _expect_fenced(older.publisher, batch)
        finally:
            await older.drop()
        self._keep(number, batch)
        await self._send_again()
        return number

    def _count_death(self) -> None:
        self.unacknowledged_rows += self._given_rows - self._connection.publisher.acknowledged_rows
        self._given_rows = 0

    async def _give(self, batch: Batch) -> int:
        self._given_rows += batch.rows
        return await self._connection.publisher.publish(batch)

    def _keep(self, number: int, batch: Batch) -> None:
        self._kept.append((number, batch))
        self._kept_rows += batch.rows

    async def _send_again(self) -> None:
        there = self._connection.publisher.last_number
        missing = [(number, batch) for number, batch in self._kept if number > there]
        self.sent_again += len(missing)
        for number, batch in missing:
            if (given := await self._give(batch)) != number:
                raise ConformanceError(f"The server has lost batches {given} to {number - 1}, acknowledged before.")


async def _expect_fenced(publisher: Publisher, batch: Batch) -> None:
    try:
        await publisher.publish(batch)
        await publisher.flush()
    except ApiError as error:
        if error.reason != "FENCED":
            raise
    else:
        raise ConformanceError("The older of two connections of one producer was not fenced off.")
