"""A publisher: numbered batches, resent until they are acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Self

import grpc

from marketdata.backoff import Backoff
from marketdata.codec import Encoded, encode, field_tag, varint
from marketdata.columns import Batch
from marketdata.errors import ApiError, api_error, error_of
from marketdata.ingestion.v1 import ingestion_service_pb2
from marketdata.ingestion.v1.ingestion_service_pb2 import Batches, NumberedBatch, PublishRequest, PublishResponse
from marketdata.tokens import TokenSource

_METHOD: Final = "/marketdata.ingestion.v1.IngestionService/Publish"
_BATCHES: Final = field_tag(PublishRequest, "batches")
_NUMBERED: Final = field_tag(Batches, "batches")
_NUMBER: Final = varint(NumberedBatch.DESCRIPTOR.fields_by_name["number"].number << 3)
_ROWS: Final = field_tag(NumberedBatch, "batch")
_OPEN_TIMEOUT_S: Final = 10.0
_OPEN_MOST_S: Final = 30.0
_JOINED_BYTES: Final = 512 * 1024
"""Batches that wait are sent in messages of up to so many bytes."""
_ACCEPTED_ROWS: Final = 1 << 19
"""Of so many of the newest accepted rows a copy is kept: more than the server may hold in memory."""
_IN_FLIGHT: Final = 4
_WORTH_BYTES: Final = 64 * 1024
"""While so many messages wait for their acknowledgement, another is sent from so many bytes on only: small
batches that come fast are joined, which costs everybody less."""
_TURN_BYTES: Final = 64 * 1024
"""A producer in a tight loop lets the sender have its turn after so many bytes."""


class AckLevel(IntEnum):
    """How safe a batch is when it is acknowledged; the values are those of the proto's `AckLevel`."""

    ACCEPTED = ingestion_service_pb2.ACK_LEVEL_ACCEPTED
    DURABLE = ingestion_service_pb2.ACK_LEVEL_DURABLE
    VISIBLE = ingestion_service_pb2.ACK_LEVEL_VISIBLE


_LEVELS: Final = {level: ingestion_service_pb2.AckLevel.Name(level) for level in AckLevel}


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A batch that is not acknowledged yet: its message, and where in it `Batches` begins."""

    number: int
    rows: int
    message: bytes
    start: int


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
    quarantined_rows
        Rows that were set aside.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        tokens: TokenSource,
        dataset: str,
        producer: str,
        max_rows: int,
        ack_level: AckLevel,
    ) -> None:
        self._channel = channel
        self._tokens = tokens
        self._dataset = dataset
        self._producer = producer
        self._max_rows = max_rows
        self._ack_level = ack_level
        self._sent: deque[_Numbered] = deque()  # not acknowledged yet
        self._unsent: deque[_Numbered] = deque()
        self._accepted: deque[_Numbered] = deque()  # acknowledged, and perhaps not durable yet
        self._accepted_rows = 0
        self._rows = 0
        self._turn_bytes = 0
        self._unsent_bytes = 0
        self._in_flight: deque[int] = deque()  # the last number of each message that is not acknowledged
        self._last_number = 0
        self._acknowledged_number = 0
        self._counted_number = 0  # up to here batches are counted, although they may be sent again
        self._failure: Exception | None = None
        self._opened = asyncio.Event()
        self._work = asyncio.Event()  # set while there is something to send
        self._room = asyncio.Event()  # set while more rows may wait
        self._idle = asyncio.Event()  # set while all is acknowledged
        self.acknowledged_rows = 0
        self.duplicate_batches = 0
        self.flagged_rows = 0
        self.quarantined_rows = 0

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
        ack_level: AckLevel = AckLevel.DURABLE,
    ) -> AsyncGenerator[Self]:
        """Open a publisher; at the end, wait until all it was given is acknowledged.

        Parameters
        ----------
        channel, tokens
            The connection.
        dataset, producer
            As in `Client.publisher`.
        max_rows
            How many rows may wait for their acknowledgement before `publish` waits.
        ack_level
            How safe a batch must be before it is acknowledged, and forgotten here.
        """
        publisher = cls(channel, tokens, dataset, producer, max_rows, ack_level)
        runner = asyncio.create_task(publisher._run())
        try:
            await publisher._until(publisher._opened)
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
        if self._turn_bytes > _TURN_BYTES:
            self._turn_bytes = 0
            await asyncio.sleep(0)
        await self._until(self._room)
        number = self._last_number + 1
        item = _numbered(number, batch)
        self._unsent.append(item)
        self._unsent_bytes += len(item.message)
        self._turn_bytes += len(item.message)
        self._rows += batch.rows
        self._last_number = number
        self._update()
        return number

    async def flush(self) -> None:
        """Wait until every batch is durable.

        Raises
        ------
        ApiError
            If the server has refused for good.
        """
        await self._until(self._idle)

    async def _until(self, event: asyncio.Event) -> None:
        await event.wait()
        if self._failure is not None:
            raise self._failure

    def _update(self) -> None:
        """Set the events as the queues are; all of them after a failure, so that nobody waits."""
        failed = self._failure is not None
        for event, state in (
            (self._work, self._is_worth_a_message()),
            (self._room, self._rows < self._max_rows),
            (self._idle, not self._sent and not self._unsent),
        ):
            if failed or state:
                event.set()
            else:
                event.clear()
        if failed:
            self._opened.set()

    async def _run(self) -> None:
        try:
            self._failure = await self._connect_until_refused()
        except Exception as error:  # a defect; whoever waits must hear of it
            self._failure = error
        self._update()

    async def _connect_until_refused(self) -> ApiError:
        backoff = Backoff()
        while True:
            began_s = time.monotonic()
            try:
                await self._connection(backoff)
            except grpc.aio.AioRpcError as error:
                failure = api_error(error)
            except ApiError as error:
                failure = error
            else:
                continue
            anew = failure.code is grpc.StatusCode.UNAUTHENTICATED and self._tokens.refused(began_s)
            if not anew and not failure.transient:
                return failure
            await asyncio.sleep(max(backoff.next_s(), failure.retry_after_s or 0.0))

    async def _connection(self, backoff: Backoff) -> None:
        metadata = (("authorization", f"Bearer {await self._tokens.token()}"),)
        call: Any = self._channel.stream_stream(_METHOD, response_deserializer=PublishResponse.FromString)(
            metadata=metadata, wait_for_ready=True
        )
        try:
            # Longer where it has not opened for long: it may be about to.
            async with asyncio.timeout(min(_OPEN_TIMEOUT_S + backoff.failing_s, _OPEN_MOST_S)):
                await call.write(self._open_message())
                answer = await call.read()
            if answer is grpc.aio.EOF:
                await _raise_status(call)
            self._take_opened(answer.opened.last_number)
            backoff.reset()
            sender = asyncio.create_task(self._send(call))
            try:
                await self._take_acks(call)
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
        except TimeoutError:
            raise error_of(grpc.StatusCode.DEADLINE_EXCEEDED, "the server does not open") from None
        finally:
            call.cancel()

    def _open_message(self) -> bytes:
        opening = PublishRequest.Open(
            dataset=self._dataset, producer=self._producer, ack_level=_LEVELS[self._ack_level]
        )
        return PublishRequest(open=opening).SerializeToString()

    def _take_opened(self, last_number: int) -> None:
        """Take what the server has as acknowledged; the rest is to be sent again."""
        if not self._opened.is_set():
            self._last_number = last_number
            self._opened.set()
        if self._ack_level is AckLevel.VISIBLE:
            again = [*self._sent]  # those that are durable are acknowledged, too, once they are visible
        else:
            self._acknowledge(last_number)
            again = [item for item in (*self._accepted, *self._sent) if item.number > last_number]
        if last_number < self._acknowledged_number and (not again or again[0].number > last_number + 1):
            raise error_of(
                grpc.StatusCode.DATA_LOSS,
                f"the tape has lost batches from {last_number + 1} on, which it had acknowledged",
            )
        self._counted_number = self._acknowledged_number if self._ack_level is AckLevel.ACCEPTED else 0
        self._unsent.extendleft(reversed(again))
        self._unsent_bytes = sum(len(item.message) for item in self._unsent)
        self._in_flight.clear()
        self._accepted.clear()
        self._accepted_rows = 0
        self._sent.clear()
        self._update()

    async def _send(self, call: Any) -> None:
        while True:
            await self._work.wait()
            while self._is_worth_a_message():
                await call.write(self._next_message())
            self._update()

    def _is_worth_a_message(self) -> bool:
        """Return whether what waits is to be sent now, or is better joined by more of it."""
        enough = len(self._in_flight) < _IN_FLIGHT or self._unsent_bytes >= _WORTH_BYTES
        return bool(self._unsent) and enough

    def _next_message(self) -> bytes:
        """Return the next batches that wait as one message."""
        items = [self._unsent.popleft()]
        size = len(items[0].message)
        while self._unsent and size + len(self._unsent[0].message) <= _JOINED_BYTES:
            items.append(self._unsent.popleft())
            size += len(items[-1].message)
        self._sent += items
        self._unsent_bytes -= size
        self._in_flight.append(items[-1].number)
        if len(items) == 1:
            return items[0].message
        parts = [memoryview(item.message)[item.start :] for item in items]
        return b"".join((_BATCHES, varint(sum(map(len, parts))), *parts))

    async def _take_acks(self, call: Any) -> None:
        while (response := await call.read()) is not grpc.aio.EOF:
            for ack in response.acks.acks:
                self._acknowledge(ack.number, duplicate=ack.duplicate)
                self.flagged_rows += ack.flagged_rows
                self.quarantined_rows += ack.quarantined_rows
            self._update()
        await _raise_status(call)

    def _acknowledge(self, number: int, *, duplicate: bool = False) -> None:
        """Forget batches up to a number: they are durable."""
        while self._in_flight and self._in_flight[0] <= number:
            self._in_flight.popleft()
        while self._sent and self._sent[0].number <= number:
            item = self._sent.popleft()
            if self._ack_level is AckLevel.ACCEPTED:
                self._keep(item)
            if item.number <= self._counted_number:
                continue  # accepted before, and sent again
            self._rows -= item.rows
            if duplicate:
                self.duplicate_batches += 1
            else:
                self.acknowledged_rows += item.rows
        self._acknowledged_number = max(self._acknowledged_number, number)

    def _keep(self, item: _Numbered) -> None:
        """Keep a batch that was accepted: it may have to be sent again, if the server is killed."""
        self._accepted.append(item)
        self._accepted_rows += item.rows
        while self._accepted_rows - self._accepted[0].rows > _ACCEPTED_ROWS:
            self._accepted_rows -= self._accepted.popleft().rows


def _numbered(number: int, batch: Batch) -> _Numbered:
    rows = encode(batch).within(_ROWS)
    head = _NUMBER + varint(number)
    numbered = Encoded([head, *rows.parts], len(head) + rows.size).within(_NUMBERED)
    message = numbered.within(_BATCHES)
    return _Numbered(number, batch.rows, b"".join(message.parts), message.size - numbered.size)


async def _raise_status(call: Any) -> None:
    """Raise the status that a stream ended with; UNAVAILABLE where it ended as if all were well."""
    code = await call.code()
    if code is grpc.StatusCode.OK:
        raise error_of(grpc.StatusCode.UNAVAILABLE, "the server ended the stream")
    raise grpc.aio.AioRpcError(
        code, await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )
