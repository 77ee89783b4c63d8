"""A publisher: numbered batches, resent until they are acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Any, Final, NoReturn, Self

import grpc

from marketdata.backoff import Backoff
from marketdata.columns import Batch
from marketdata.errors import ApiError, api_error, error_of
from marketdata.ingestion.v1 import ingestion_service_pb2
from marketdata.ingestion.v1.ingestion_service_pb2 import PublishRequest, PublishResponse
from marketdata.outbox import Outbox
from marketdata.spool import Spool, SpoolError, SpoolFile
from marketdata.tokens import TokenSource
from marketdata.v1.gap_pb2 import Gap

_METHOD: Final = "/marketdata.ingestion.v1.IngestionService/Publish"
_OPEN_TIMEOUT_S: Final = 10.0
_OPEN_MOST_S: Final = 30.0
_TURN_BYTES: Final = 64 * 1024
"""A producer in a tight loop lets the sender have its turn after so many bytes."""


class AckLevel(IntEnum):
    """How safe a batch is when it is acknowledged; the values are those of the proto's `AckLevel`."""

    ACCEPTED = ingestion_service_pb2.ACK_LEVEL_ACCEPTED
    DURABLE = ingestion_service_pb2.ACK_LEVEL_DURABLE
    VISIBLE = ingestion_service_pb2.ACK_LEVEL_VISIBLE


_LEVELS: Final = {level: ingestion_service_pb2.AckLevel.Name(level) for level in AckLevel}


class Publisher:
    """Publishes batches of one producer, each on the tape exactly once.

    Batches are kept until they are acknowledged. When the connection breaks, those that
    are not are sent again with their numbers, and the server knows those that it has.

    Attributes
    ----------
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
        spool: SpoolFile | None = None,
    ) -> None:
        self._channel = channel
        self._spool = spool
        self._tokens = tokens
        self._dataset = dataset
        self._producer = producer
        self._max_rows = max_rows
        self._ack_level = ack_level
        self._outbox = Outbox(
            keeps_accepted=ack_level is AckLevel.ACCEPTED,
            until_visible=ack_level is AckLevel.VISIBLE,
            spool=spool,
        )
        self._turn_bytes = 0
        self._failure: Exception | None = None
        self._opened = asyncio.Event()
        self._work = asyncio.Event()  # set while there is something to send
        self._room = asyncio.Event()  # set while more rows may wait
        self._idle = asyncio.Event()  # set while all is acknowledged
        self._refused = asyncio.Event()
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
        spool: Spool | None = None,
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
        spool
            Where batches are kept until then besides in memory, so that they outlive the
            process.

        Raises
        ------
        SpoolError
            If the spool cannot be used.
        """
        if spool is not None and ack_level is AckLevel.ACCEPTED:
            raise SpoolError("what is accepted may be lost, and a spool forgets it: take another level")
        file = None if spool is None else SpoolFile.open(spool, dataset, producer)
        publisher = cls(channel, tokens, dataset, producer, max_rows, ack_level, file)
        runner = asyncio.create_task(publisher._run())
        try:
            await publisher._until(publisher._opened)
            yield publisher
            await publisher.flush()
        finally:
            runner.cancel()
            await asyncio.gather(runner, return_exceptions=True)
            if file is not None:
                file.close()

    @property
    def acknowledged_rows(self) -> int:
        """Rows of batches that are durable by this publisher's doing."""
        return self._outbox.acknowledged_rows

    @property
    def duplicate_batches(self) -> int:
        """Batches that were on the tape already when they came."""
        return self._outbox.duplicate_batches

    @property
    def last_number(self) -> int:
        """The number of the last batch that was taken in, in this process or one before."""
        return self._outbox.last_number

    @property
    def waiting_rows(self) -> int:
        """How many rows wait for their acknowledgement."""
        return self._outbox.rows

    @property
    def position(self) -> str:
        """Where this producer stood in its source when it was opened, as it said itself; empty if it said nothing."""
        return self._outbox.position

    async def publish(self, batch: Batch | None, *, gaps: Sequence[Gap] = (), position: str = "") -> int:
        """Give a batch to be published; return its number. Waits while too many rows wait.

        Parameters
        ----------
        batch
            The rows; None where only gaps, or a position, are to be told.
        gaps
            Gaps in the producer's source that open or close before the rows; up to 1,000, of
            cause SEQUENCE or DISCONNECTED.
        position
            Where the producer stands in its source after these rows, in its own words: up to
            32,768 printable ASCII characters. They are kept with the rows, all or nothing,
            and `Publisher.position` tells them to whoever opens next. Empty: as before.

        Raises
        ------
        ApiError
            If the server has refused for good.
        ValueError
            If there is nothing to publish.
        """
        if batch is None and not gaps and not position:
            raise ValueError("there is nothing to publish: give a batch, gaps or a position")
        if self._turn_bytes > _TURN_BYTES:
            self._turn_bytes = 0
            await asyncio.sleep(0)
        await self._until(self._room)
        item = self._outbox.put(batch, gaps, position)
        self._turn_bytes += len(item.message)
        self._update()
        return item.number

    async def flush(self) -> None:
        """Wait until every batch is durable.

        Raises
        ------
        ApiError
            If the server has refused for good.
        """
        await self._until(self._idle)

    async def until_refused(self) -> NoReturn:
        """Wait until the server refuses for good, and raise that; for those who wait for something else meanwhile.

        Raises
        ------
        ApiError
            Then.
        """
        await self._until(self._refused)
        raise AssertionError("it is set once there is a failure")

    async def _until(self, event: asyncio.Event) -> None:
        await event.wait()
        if self._failure is not None:
            raise self._failure

    def _update(self) -> None:
        """Set the events as the queues are; all of them after a failure, so that nobody waits."""
        failed = self._failure is not None
        for event, state in (
            (self._work, self._outbox.is_worth_a_message),
            (self._room, self._outbox.rows < self._max_rows and not (self._spool and self._spool.full)),
            (self._idle, self._outbox.is_empty),
        ):
            if failed or state:
                event.set()
            else:
                event.clear()
        if failed:
            self._opened.set()
            self._refused.set()

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
            self._take_opened(answer.opened.last_number, answer.opened.position)
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

    def _take_opened(self, last_number: int, position: str) -> None:
        if not self._opened.is_set():
            self._outbox.begin(last_number, position)
            self._opened.set()
        self._outbox.resume(last_number)
        self._update()

    async def _send(self, call: Any) -> None:
        while True:
            await self._work.wait()
            while self._outbox.is_worth_a_message:
                await call.write(self._outbox.next_message())
            self._update()

    async def _take_acks(self, call: Any) -> None:
        while (response := await call.read()) is not grpc.aio.EOF:
            for ack in response.acks.acks:
                self._outbox.acknowledge(ack.number, duplicate=ack.duplicate)
                self.flagged_rows += ack.flagged_rows
                self.quarantined_rows += ack.quarantined_rows
            self._update()
        await _raise_status(call)


async def _raise_status(call: Any) -> None:
    """Raise the status that a stream ended with; UNAVAILABLE where it ended as if all were well."""
    code = await call.code()
    if code is grpc.StatusCode.OK:
        raise error_of(grpc.StatusCode.UNAVAILABLE, "the server ended the stream")
    raise grpc.aio.AioRpcError(
        code, await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )
