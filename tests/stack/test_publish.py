"""`Publish`, in columns, through the gateway."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import numpy as np
import pytest

from marketdata.client import Client
from marketdata.codec import to_bytes
from marketdata.columns import COLUMNS, Batch, Kind, make_batch
from marketdata.errors import ApiError, api_error
from marketdata.ingestion.v1.ingestion_service_pb2 import NumberedBatch, PublishRequest, PublishResponse
from marketdata.subscriber import Start
from marketdata.v1 import batch_pb2
from tests.stack.conftest import Stack

METHOD = "/marketdata.ingestion.v1.IngestionService/Publish"


def quotes(rows: int = 2, **columns: Any) -> Batch:
    """Return good quotes of instrument 1."""
    values: dict[str, Any] = {column.name: np.ones(rows, np.int64) for column in COLUMNS[Kind.QUOTE]}
    values["ts_event"] = np.full(rows, time.time_ns())
    values["ask_price"] = np.full(rows, 2)
    return make_batch(Kind.QUOTE, values | columns)


def opening(producer: str, dataset: str = "TEST") -> bytes:
    return PublishRequest(open=PublishRequest.Open(dataset=dataset, producer=producer)).SerializeToString()


def numbered(number: int, batch: Batch) -> bytes:
    message = batch_pb2.Batch.FromString(to_bytes(batch))
    return PublishRequest(batch=NumberedBatch(number=number, batch=message)).SerializeToString()


class Producer:
    """A producer that sends bytes, good or bad."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._call: Any = channel.stream_stream(METHOD, response_deserializer=PublishResponse.FromString)(
            metadata=(("authorization", f"Bearer {token}"),), timeout=20
        )

    async def send(self, data: bytes) -> None:
        await self._call.write(data)

    async def read(self) -> PublishResponse:
        answer = await self._call.read()
        assert answer is not grpc.aio.EOF, await self._call.code()
        return answer

    async def failure(self) -> ApiError:
        """Read on until the call fails."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while await self._call.read() is not grpc.aio.EOF:
                pass
            raise AssertionError(await self._call.code())
        return api_error(caught.value)


@pytest.fixture
async def producer(stack: Stack, tokens: dict[str, str]) -> AsyncIterator[Callable[[], Producer]]:
    channel = grpc.aio.insecure_channel(stack.target)
    async with channel:
        yield lambda: Producer(channel, tokens["good"])


def _ragged(column: str, *, add: int) -> bytes:
    message = PublishRequest.FromString(numbered(1, quotes()))
    values = getattr(message.batch.batch.quotes, column)
    if add:
        values.append(1)
    else:
        values.pop()
    return message.SerializeToString()


BAD: dict[str, tuple[bytes, str, str, str | None]] = {
    "bytes that are no message": (b"\xff\xff\xff", "INVALID_ARGUMENT", "MALFORMED_MESSAGE", None),
    "a second opening": (opening("x"), "INVALID_ARGUMENT", "OUT_OF_TURN", "open"),
    "an empty batch": (
        PublishRequest(batch=NumberedBatch(number=1)).SerializeToString(),
        "INVALID_ARGUMENT",
        "EMPTY_BATCH",
        "batch.rows",
    ),
    "a short column": (_ragged("bid_price", add=0), "INVALID_ARGUMENT", "RAGGED_COLUMN", "batch.quotes.bid_price"),
    "a long column": (_ragged("ts_event", add=1), "INVALID_ARGUMENT", "RAGGED_COLUMN", "batch.quotes.ts_event"),
    "too many rows": (numbered(1, quotes(32_769)), "INVALID_ARGUMENT", "BATCH_TOO_LARGE", "batch.rows"),
    "number 0": (numbered(0, quotes()), "FAILED_PRECONDITION", "BATCH_OUT_OF_SEQUENCE", "batch.number"),
    "a hole": (numbered(2, quotes()), "FAILED_PRECONDITION", "BATCH_OUT_OF_SEQUENCE", "batch.number"),
    "an unknown instrument": (
        numbered(1, quotes(instrument_id=[1, 99])),
        "INVALID_ARGUMENT",
        "UNKNOWN_INSTRUMENT_ID",
        "batch.quotes.instrument_id",
    ),
    "a price below zero": (
        numbered(1, quotes(bid_price=[1, -5])),
        "INVALID_ARGUMENT",
        "NOT_A_PRICE",
        "batch.quotes.bid_price",
    ),
    "a time before 1970": (
        numbered(1, quotes(ts_event=[1, -1])),
        "INVALID_ARGUMENT",
        "TIME_OUT_OF_RANGE",
        "batch.quotes.ts_event",
    ),
    "a time far ahead": (
        numbered(1, quotes(ts_event=[1, time.time_ns() + 10**15])),
        "INVALID_ARGUMENT",
        "TIME_OUT_OF_RANGE",
        "batch.quotes.ts_event",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_batches_are_refused_and_leave_the_producer_where_it_was(
    producer: Callable[[], Producer], name: str
) -> None:
    data, code, reason, field = BAD[name]
    bad = producer()
    own = f"bad-{abs(hash(name))}"
    await bad.send(opening(own))
    assert (await bad.read()).opened.last_number == 0
    await bad.send(data)
    error = await bad.failure()
    assert (error.code.name, error.reason, error.metadata.get("field")) == (code, reason, field)
    good = producer()
    await good.send(opening(own))
    assert (await good.read()).opened.last_number == 0
    await good.send(numbered(1, quotes()))
    assert (await good.read()).acks.acks[0].tape_sequence > 0


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (numbered(1, quotes()), "INVALID_ARGUMENT", "OUT_OF_TURN"),
        (opening("p", "nope"), "INVALID_ARGUMENT", "INVALID_FIELD"),
        (opening(""), "INVALID_ARGUMENT", "INVALID_FIELD"),
        (opening("p", "NOPE"), "NOT_FOUND", "UNKNOWN_DATASET"),
    ],
    ids=["a batch", "a bad name", "no producer", "an unknown dataset"],
)
async def test_bad_openings_are_refused(producer: Callable[[], Producer], data: bytes, code: str, reason: str) -> None:
    bad = producer()
    await bad.send(data)
    error = await bad.failure()
    assert (error.code.name, error.reason) == (code, reason)


async def test_good_batches_before_a_bad_one_are_acknowledged(producer: Callable[[], Producer]) -> None:
    one = producer()
    await one.send(opening("good-then-bad"))
    await one.read()
    for number in (1, 2):
        await one.send(numbered(number, quotes()))
    await one.send(numbered(3, quotes(bid_price=[0, 1])))
    acknowledged: list[int] = []
    while len(acknowledged) < 2:
        acknowledged += [ack.number for ack in (await one.read()).acks.acks]
    assert acknowledged == [1, 2]
    error = await one.failure()
    assert error.reason == "NOT_A_PRICE"
    assert error.metadata["row"] == "0"


async def test_a_resent_batch_is_a_duplicate_and_not_written_again(producer: Callable[[], Producer]) -> None:
    first = producer()
    await first.send(opening("resends"))
    await first.read()
    await first.send(numbered(1, quotes()))
    assert not (await first.read()).acks.acks[0].duplicate
    second = producer()
    await second.send(opening("resends"))
    assert (await second.read()).opened.last_number == 1
    await second.send(numbered(1, quotes()))
    ack = (await second.read()).acks.acks[0]
    assert (ack.number, ack.duplicate, ack.tape_sequence) == (1, True, 0)
    await second.send(numbered(2, quotes()))
    assert not (await second.read()).acks.acks[0].duplicate


async def test_of_two_connections_of_a_producer_the_older_is_fenced_off(producer: Callable[[], Producer]) -> None:
    older, newer = producer(), producer()
    for one in (older, newer):
        await one.send(opening("twice"))
        await one.read()
    await newer.send(numbered(1, quotes()))
    await newer.read()
    await older.send(numbered(1, quotes()))
    error = await older.failure()
    assert (error.code.name, error.reason) == ("ABORTED", "FENCED")


async def test_a_message_of_100_mb_is_refused_and_the_service_goes_on(
    producer: Callable[[], Producer], client: Client
) -> None:
    huge = producer()
    await huge.send(opening("huge"))
    await huge.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await huge.send(b"\x12" + b"\x80" * 100_000_000)
        while await huge._call.read() is not grpc.aio.EOF:
            pass
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await client.list_instruments("TEST")


async def test_odd_rows_are_kept_with_verdicts(client: Client) -> None:
    now = time.time_ns()
    odd = quotes(3, instrument_id=[2, 2, 2], ts_event=[now, now - 5, now + 1], bid_price=[3, 1, 1])
    got: list[Batch] = []
    updates = aiter(client.subscribe("TEST", ["BBB"], Start()))
    await anext(updates)
    async with client.publisher("TEST", "odd") as publisher:
        await publisher.publish(odd)
    assert publisher.flagged_rows == 2
    while not got:
        got += (await anext(updates)).batches
    assert got[0]["verdicts"].tolist() == [4, 8, 0]
    await updates.aclose()


async def test_a_fast_producer_waits_for_the_tape_and_loses_nothing(client: Client) -> None:
    batch = quotes(20_000)
    async with client.publisher("TEST", "fast") as publisher:
        for _ in range(100):
            await publisher.publish(batch)
    assert publisher.acknowledged_rows == 2_000_000
    async with client.publisher("TEST", "fast") as again:
        assert again.last_number == 100
