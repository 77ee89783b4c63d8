"""The publisher against real services: every batch once, whatever dies."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import Any

import grpc
import pytest

from marketdata import publisher as publisher_module
from marketdata.errors import ApiError
from marketdata.publisher import AckLevel
from mda.tape.connection import connect
from mda.tape.tape import Retention, Tape
from tests.client.services import Connection, Services, connected
from tests.tape.helpers import eventually, new_name, quotes, rows_on_tape, running, trades


async def _on_tape(services: Services, dataset: str) -> list[int]:
    async with connect(services.nats.url, None, "tests") as client:
        return await rows_on_tape(client, dataset)


async def _dataset(connection: Connection) -> str:
    dataset = new_name("PUB")
    await connection.put(dataset, "A", "B")
    return dataset


async def test_leaving_a_publisher_waits_until_all_is_durable(services: Services, connection: Connection) -> None:
    dataset = await _dataset(connection)
    async with connection.publisher(dataset, "p") as publisher:
        assert publisher.last_number == 0
        assert [await publisher.publish(trades(number * 10, 10)) for number in range(50)] == list(range(1, 51))
    assert publisher.acknowledged_rows == 500
    assert (publisher.duplicate_batches, publisher.flagged_rows) == (0, 0)
    assert await _on_tape(services, dataset) == list(range(500))
    async with connection.publisher(dataset, "p") as again:
        assert again.last_number == 50


async def test_flagged_rows_are_counted(connection: Connection) -> None:
    dataset = await _dataset(connection)
    async with connection.publisher(dataset, "p") as publisher:
        await publisher.publish(quotes(1, 3, bid_price=[99, 1, 99]))
        await publisher.publish(quotes(1, 1))
        await publisher.flush()
        assert publisher.flagged_rows == 3
        assert publisher.acknowledged_rows == 4


async def test_publish_waits_while_too_many_rows_wait(services: Services, connection: Connection) -> None:
    dataset = await _dataset(connection)
    async with connection.publisher(dataset, "p", max_rows=20) as publisher:
        services.nats.pause()
        try:
            for number in range(2):
                await publisher.publish(trades(number * 10, 10))
            async with running(publisher.publish(trades(20, 10))) as (third,):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(third), 0.3)
                services.nats.resume()
                await asyncio.wait_for(third, 10)
        finally:
            services.nats.resume()
    assert await _on_tape(services, dataset) == list(range(30))


async def test_kills_of_ingestion_lose_and_double_nothing(services: Services, connection: Connection) -> None:
    dataset = await _dataset(connection)
    chance = random.Random(11)
    published = 0
    done = asyncio.Event()

    async def produce() -> None:
        nonlocal published
        while not done.is_set():
            await publisher.publish(trades(published, 7))
            published += 7
            if chance.random() < 0.1:
                await asyncio.sleep(0.002)

    async with connection.publisher(dataset, "p", max_rows=3000) as publisher:
        async with running(produce()) as (producer,):
            for number in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
                goal = publisher.acknowledged_rows + chance.randrange(500, 3000)
                await eventually(lambda due=goal: publisher.acknowledged_rows >= due)
                await asyncio.to_thread(services.kill, "ingestion", number)
                await asyncio.to_thread(services.start, "ingestion")
            goal = publisher.acknowledged_rows + 500
            await eventually(lambda: publisher.acknowledged_rows >= goal)
            done.set()
            await producer
        await asyncio.wait_for(publisher.flush(), 20)
    assert publisher.acknowledged_rows == published
    assert await _on_tape(services, dataset) == list(range(published))


async def test_batches_that_another_wrote_are_duplicates(services: Services, connection: Connection) -> None:
    dataset = await _dataset(connection)
    async with connection.publisher(dataset, "p") as publisher:
        await publisher.publish(trades(0))
        await publisher.flush()
        publisher._outbox.last_number = 0  # as of a producer that does not know that it was heard
        await publisher.publish(trades(0))
        await publisher.publish(trades(1))
        await publisher.flush()
        assert publisher.duplicate_batches == 1
        assert publisher.acknowledged_rows == 2
    assert await _on_tape(services, dataset) == [0, 1]


async def _assert_final(publisher: Any, reason: str) -> None:
    for call in (publisher.flush, lambda: publisher.publish(trades(1)), publisher.flush):
        with pytest.raises(ApiError) as caught:
            await asyncio.wait_for(call(), 10)
        assert caught.value.reason == reason
        assert not caught.value.transient


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (trades(2, price=[-1]), "NOT_A_PRICE"),
        (trades(2, instrument_id=[9]), "UNKNOWN_INSTRUMENT_ID"),
        (trades(2, ts_event=[-1]), "TIME_OUT_OF_RANGE"),
        (trades(2, 40_000), "BATCH_TOO_LARGE"),
    ],
)
async def test_what_is_refused_for_good_reaches_every_call(
    services: Services, connection: Connection, bad: Any, reason: str
) -> None:
    dataset = await _dataset(connection)
    with pytest.raises(ApiError, match="INVALID_ARGUMENT"):
        async with connection.publisher(dataset, "p") as publisher:
            await publisher.publish(trades(1))
            await publisher.publish(bad)
            await _assert_final(publisher, reason)
    assert publisher.acknowledged_rows == 1
    assert await _on_tape(services, dataset) == [1]


async def test_a_failure_wakes_who_waits_for_room(connection: Connection) -> None:
    dataset = await _dataset(connection)
    with pytest.raises(ApiError):
        async with connection.publisher(dataset, "p", max_rows=1) as publisher:
            await publisher.publish(trades(2, price=[-1]))
            await asyncio.wait_for(publisher.publish(trades(1)), 10)


async def test_an_unknown_dataset_is_told_when_opening(connection: Connection) -> None:
    with pytest.raises(ApiError) as caught:
        async with connection.publisher("NOPE", "p"):
            raise AssertionError
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_DATASET")


async def test_the_newer_of_two_publishers_of_a_name_goes_on(services: Services, connection: Connection) -> None:
    dataset = await _dataset(connection)
    with pytest.raises(ApiError, match="ABORTED"):
        async with connection.publisher(dataset, "p") as older:
            await older.publish(trades(1))
            await older.flush()
            async with connection.publisher(dataset, "p") as newer:
                await newer.publish(trades(2))
            await older.publish(trades(3))
            await _assert_final(older, "FENCED")
    assert await _on_tape(services, dataset) == [1, 2]


async def test_an_error_of_the_body_comes_out_and_nothing_waits(connection: Connection) -> None:
    dataset = await _dataset(connection)
    with pytest.raises(KeyError):
        async with connection.publisher(dataset, "p") as publisher:
            await publisher.publish(trades(1))
            raise KeyError


@pytest.mark.parametrize(("key", "reason"), [("mdk_nobody.secret", "INVALID_TOKEN"), ("rubbish", "INVALID_TOKEN")])
async def test_a_bad_key_is_refused_for_good(services: Services, key: str, reason: str) -> None:
    async with connected(services, key) as stranger:
        with pytest.raises(ApiError) as caught:
            async with stranger.publisher("X", "p"):
                raise AssertionError
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)


async def test_a_token_without_the_scope_is_refused(services: Services, connection: Connection) -> None:
    dataset = await _dataset(connection)
    async with connected(services, services.api_key("reader", ("quotes:read",))) as reader:
        with pytest.raises(ApiError) as caught:
            async with reader.publisher(dataset, "p"):
                raise AssertionError
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.PERMISSION_DENIED, "MISSING_SCOPE")


async def test_a_server_that_does_not_open_is_tried_again(
    services: Services, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = await _dataset(connection)
    monkeypatch.setattr(publisher_module, "_OPEN_TIMEOUT_S", 0.2)
    await connection.tokens.token()
    services.kill("ingestion")

    async def publish() -> None:
        async with connection.publisher(dataset, "p") as publisher:
            await publisher.publish(trades(1))

    async with running(publish()) as (publishing,):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(publishing), 0.8)
        monkeypatch.setattr(publisher_module, "_OPEN_TIMEOUT_S", 10)
        await asyncio.to_thread(services.start, "ingestion")
        await asyncio.wait_for(publishing, 20)
    assert await _on_tape(services, dataset) == [1]


async def test_accepted_batches_that_a_kill_loses_are_sent_again(services: Services, connection: Connection) -> None:
    dataset = await _dataset(connection)
    async with connection.publisher(dataset, "p", ack_level=AckLevel.ACCEPTED) as publisher:
        await publisher.publish(trades(0, 10))
        await publisher.flush()
        services.nats.pause()
        try:
            for number in range(1, 30):
                await publisher.publish(trades(number * 10, 10))
            await eventually(lambda: publisher.acknowledged_rows > 10)  # while nothing can be written
            await asyncio.to_thread(services.kill, "ingestion")
        finally:
            services.nats.resume()
        await asyncio.to_thread(services.start, "ingestion")
        await publisher.publish(trades(300, 10))
        await publisher.flush()
        assert publisher.acknowledged_rows == 310
    async with connection.publisher(dataset, "p") as durable:  # opens once all of it is written, or fenced off
        assert durable.last_number >= 1
    rows = await _on_tape(services, dataset)
    assert rows == list(range(len(rows)))
    assert len(rows) >= 300


async def test_a_tape_that_lost_what_it_acknowledged_is_told(services: Services, connection: Connection) -> None:
    dataset = await _dataset(connection)
    async with connect(services.nats.url, None, "tests") as client:
        with pytest.raises(ApiError) as caught:
            async with connection.publisher(dataset, "p") as publisher:
                for number in range(5):
                    await publisher.publish(trades(number))
                await publisher.flush()
                tape = Tape(client, dataset)
                await client.jetstream().delete_stream(tape._log.stream)
                await tape.create(Retention(1 << 24, 1))
                await asyncio.to_thread(services.kill, "ingestion")
                await asyncio.to_thread(services.start, "ingestion")
                await publisher.publish(trades(5))
                await publisher.flush()
    assert caught.value.code is grpc.StatusCode.DATA_LOSS
    assert "from 1 on" in caught.value.message
