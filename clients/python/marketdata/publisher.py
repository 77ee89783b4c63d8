"""A publisher: numbered batches, resent until they are acknowledged."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import grpc

from marketdata.backoff import Backoff
from marketdata.columns import Batch, fill_message
from marketdata.errors import ApiError, api_error
from marketdata.ingestion.v1.ingestion_service_pb2 import PublishRequest, PublishResponse
from marketdata.tokens import TokenSource
from marketdata.wire import view

_METHOD: Final = "/marketdata.ingestion.v1.IngestionService/Publish"
_REQUEST: Final = view(PublishRequest)
_OPEN_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Sent:
    number: int
    rows: int
    data: bytes


class Publisher:
    """Publishes batches of one producer, each on the tape exactly once.

    Batches are kept until they are acknowledged. When the connection breaks, those that
    are not are sent again with their numbers, and the server knows those that it has.

    Attributes
    ----------
    acknowledged_rows
        Rows of batches that are durable by this publisher's doing.
    duplicate_batches
        Batches that were on the tape already when they came.
    flagged_rows
        Rows that were kept with a verdict.
    """

    def __init__(
        self, channel: grpc.aio.Channel, tokens: TokenSource, dataset: str, producer: str, max_rows: int
    ) -> None:
        self._channel = channel
        self._tokens = tokens
        self._dataset = dataset
        self._producer = producer
        self._max_rows = max_rows
        self._unacknowledged: deque[_Sent] = deque()
        self._rows = 0
        self._next_to_send = 1
        self._changed = asyncio.Condition()
        self._opened = False
        self._last_number = 0
        self._failure: Exception | None = None
        self.acknowledged_rows = 0
        self.duplicate_batches = 0
        self.flagged_rows = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        channel: grpc.aio.Channel,
        tokens: TokenSource,
        dataset: str,
        producer: str,
        *,
        max_rows: int = 1 << 18,
    ) -> AsyncGenerator[Self]:
        """Open a publisher; at the end, wait until all it was given is durable.

        Parameters
        ----------
        channel, tokens
            The connection.
        dataset, producer
            As in `Client.publisher`.
        max_rows
            How many rows may wait for their acknowledgement before `publish` waits.
        """
        publisher = cls(channel, tokens, dataset, producer, max_rows)
        runner = asyncio.create_task(publisher._run())
        try:
            await publisher._wait(lambda: publisher._opened)
            yield publisher
            await publisher.flush()
        finally:
            runner.cancel()
            await asyncio.gather(runner, return_exceptions=True)

    @property
    def last_number(self) -> int:
        """The number of the last batch that was taken in, in this process or one before."""
        return self._last_number

    async def publish(self, batch: Batch) -> int:
        """Give a batch to be published; return its number. Waits while too many rows wait.

        Raises
        ------
        ApiError
            If the server has refused for good.
        """
        await self._wait(lambda: self._rows < self._max_rows)
        number = self._last_number + 1
        message = _REQUEST()
        message.batch.number = number
        fill_message(message.batch.batch, batch)
        self._unacknowledged.append(_Sent(number, batch.rows, message.SerializeToString()))
        self._rows += batch.rows
        self._last_number = number
        await self._notify()
        return number

    async def flush(self) -> None:
        """Wait until every batch is durable.

        Raises
        ------
        ApiError
            If the server has refused for good.
        """
        await self._wait(lambda: not self._unacknowledged)

    async def _wait(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._failure is not None or condition())
        if self._failure is not None:
            raise self._failure

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _run(self) -> None:
        try:
            self._failure = await self._connect_until_refused()
        except Exception as error:  # a defect; whoever waits must hear of it
            self._failure = error
        await self._notify()

    async def _connect_until_refused(self) -> ApiError:
        backoff = Backoff()
        while True:
            try:
                await self._connection(backoff)
            except grpc.aio.AioRpcError as error:
                failure = api_error(error)
            except ApiError as error:
                failure = error
            else:
                continue
            if failure.reason == "TOKEN_EXPIRED":
                self._tokens.forget()
            if not failure.transient:
                return failure
            await asyncio.sleep(backoff.next_s())

    async def _connection(self, backoff: Backoff) -> None:
        metadata = (("authorization", f"Bearer {await self._tokens.token()}"),)
        call: Any = self._channel.stream_stream(_METHOD, response_deserializer=PublishResponse.FromString)(
            metadata=metadata, wait_for_ready=True
        )
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                await call.write(self._open_message())
                answer = await call.read()
            if answer is grpc.aio.EOF:
                await _raise_status(call)
            await self._take_opened(answer.opened.last_number)
            backoff.reset()
            sender = asyncio.create_task(self._send(call))
            try:
                await self._take_acks(call)
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
        except TimeoutError:
            raise ApiError(grpc.StatusCode.DEADLINE_EXCEEDED, "the server does not open", "", {}) from None
        finally:
            call.cancel()

    def _open_message(self) -> bytes:
        opening = PublishRequest.Open(dataset=self._dataset, producer=self._producer)
        return PublishRequest(open=opening).SerializeToString()

    async def _take_opened(self, last_number: int) -> None:
        """Take what the server has as acknowledged; the rest is to be sent again."""
        if not self._opened:
            self._last_number = last_number
            self._opened = True
        while self._unacknowledged and self._unacknowledged[0].number <= last_number:
            self._acknowledge(self._unacknowledged.popleft())
        self._next_to_send = last_number + 1
        await self._notify()

    async def _send(self, call: Any) -> None:
        while True:
            waiting = self._to_send()
            if not waiting:
                async with self._changed:
                    await self._changed.wait_for(self._to_send)
                continue
            for sent in waiting:
                await call.write(sent.data)
                self._next_to_send = sent.number + 1

    def _to_send(self) -> list[_Sent]:
        if not self._unacknowledged:
            return []
        skipped = max(0, self._next_to_send - self._unacknowledged[0].number)
        return [self._unacknowledged[i] for i in range(skipped, len(self._unacknowledged))]

    async def _take_acks(self, call: Any) -> None:
        while (response := await call.read()) is not grpc.aio.EOF:
            for ack in response.acks.acks:
                while self._unacknowledged and self._unacknowledged[0].number <= ack.number:
                    self._acknowledge(self._unacknowledged.popleft(), duplicate=ack.duplicate)
                self.flagged_rows += ack.flagged_rows
            await self._notify()
        await _raise_status(call)

    def _acknowledge(self, sent: _Sent, *, duplicate: bool = False) -> None:
        self._rows -= sent.rows
        if duplicate:
            self.duplicate_batches += 1
        else:
            self.acknowledged_rows += sent.rows


async def _raise_status(call: Any) -> None:
    """Raise the status that a stream ended with; UNAVAILABLE where it ended as if all were well."""
    code = await call.code()
    if code is grpc.StatusCode.OK:
        raise ApiError(grpc.StatusCode.UNAVAILABLE, "the server ended the stream", "", {})
    raise grpc.aio.AioRpcError(
        code, await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )
