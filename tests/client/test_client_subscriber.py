"""The subscriber against real services: every row once, whatever dies."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import grpc
import pytest

from marketdata import subscriber as subscriber_module
from marketdata.columns import Kind
from marketdata.errors import ApiError
from marketdata.subscriber import Start, Subscriber, Update
from tests.client.services import Connection, Services, connected
from tests.tape.helpers import eventually, new_name, quotes, rows_of, running, trades


class Notes:
    """Reads a subscriber and notes what comes."""

    def __init__(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self.updates: list[Update] = []
        self.rows: list[int] = []

    async def run(self) -> None:
        async with aclosing(aiter(self.subscriber)) as updates:
            async for update in updates:
                self.updates.append(update)
                self.rows += rows_of(update.batches)

    @property
    def snapshot(self) -> list[int]:
        return [row for update in self.updates for row in rows_of(update.snapshot)]

    def has_status(self) -> bool:
        return any(update.status is not None for update in self.updates)


@asynccontextmanager
async def noting(subscriber: Subscriber) -> AsyncIterator[Notes]:
    notes = Notes(subscriber)
    async with running(notes.run()) as (task,):
        await eventually(lambda: notes.has_status() or task.done())
        yield notes


async def _dataset(connection: Connection) -> str:
    dataset = new_name("SUB")
    await connection.put(dataset, "A", "B")
    return dataset


async def test_rows_come_as_they_are_published(connection: Connection) -> None:
    dataset = await _dataset(connection)
    async with noting(connection.subscriber(dataset)) as notes, connection.publisher(dataset, "p") as publisher:
        await publisher.publish(trades(1, 3))
        await publisher.publish(quotes(4, 2, instrument_id=[2, 2]))
        await eventually(lambda: notes.rows == [1, 2, 3, 4, 5])
        assert notes.subscriber.symbols == {1: "A", 2: "B"}
        assert notes.updates[0].status is not None
        assert notes.updates[0].status.all
        assert notes.subscriber.connections == 1
        assert notes.updates[-1].cursor == notes.subscriber.cursor


async def test_symbols_and_kinds_are_chosen_and_symbols_learnt(connection: Connection) -> None:
    dataset = await _dataset(connection)
    start = Start(kinds=frozenset({Kind.QUOTE}))
    async with noting(connection.subscriber(dataset, ["B", "NOPE"], start)) as notes:
        async with connection.publisher(dataset, "p") as publisher:
            await publisher.publish(trades(1, instrument_id=[2]))
            await publisher.publish(quotes(2, 2, instrument_id=[1, 2]))
        await eventually(lambda: notes.rows == [3])
        assert notes.subscriber.symbols == {2: "B"}


async def test_a_snapshot_comes_first(connection: Connection) -> None:
    dataset = await _dataset(connection)
    async with connection.publisher(dataset, "p") as publisher:
        await publisher.publish(trades(1, 3, instrument_id=[1, 2, 1]))
        await publisher.flush()
        async with noting(connection.subscriber(dataset, None, Start(snapshot=True))) as notes:
            await eventually(lambda: len(notes.snapshot) == 2)
            await publisher.publish(trades(4))
            await eventually(lambda: notes.rows == [4])
    assert notes.snapshot == [3, 2]


async def test_a_cursor_goes_on_in_another_process(connection: Connection) -> None:
    dataset = await _dataset(connection)
    async with noting(connection.subscriber(dataset)) as notes, connection.publisher(dataset, "p") as publisher:
        for number in range(5):
            await publisher.publish(trades(number))
            await eventually(lambda due=number: notes.rows[-1:] == [due])
    middle = next(update.cursor for update in notes.updates if rows_of(update.batches) == [2])
    async with noting(connection.subscriber(dataset, None, Start(cursor=middle))) as resumed:
        await eventually(lambda: resumed.rows == [3, 4])


async def test_kills_of_query_lose_and_double_nothing(services: Services, connection: Connection) -> None:
    dataset = await _dataset(connection)
    chance = random.Random(13)
    published = 0
    done = asyncio.Event()

    async def produce() -> None:
        nonlocal published
        async with connection.publisher(dataset, "p") as publisher:
            while not done.is_set():
                await publisher.publish(trades(published, 3, instrument_id=[1, 2, 1]))
                published += 3
                await asyncio.sleep(0.002)

    async with (
        noting(connection.subscriber(dataset, None, Start(snapshot=True))) as wide,
        noting(connection.subscriber(dataset, ["B"])) as narrow,
        running(produce()) as (producer,),
    ):
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            goal = len(wide.rows) + chance.randrange(100, 600)
            await eventually(lambda due=goal: len(wide.rows) >= due, within_s=20)
            await asyncio.to_thread(services.kill, "query", number)
            await asyncio.to_thread(services.start, "query")
        goal = published + 60
        await eventually(lambda: published >= goal)
        done.set()
        await producer
        await eventually(lambda: len(wide.rows) >= published and len(narrow.rows) >= published // 3, within_s=20)
        assert wide.subscriber.connections >= 4
    assert wide.rows == list(range(published))
    assert narrow.rows == list(range(1, published, 3))


async def test_a_silent_stream_is_left(
    services: Services, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "_SILENCE_S", 0.4)  # less than the heartbeat
    dataset = await _dataset(connection)
    async with noting(connection.subscriber(dataset)) as notes:
        await eventually(lambda: notes.subscriber.connections >= 3)
        async with connection.publisher(dataset, "p") as publisher:
            await publisher.publish(trades(1))
        await eventually(lambda: notes.rows == [1])


async def test_a_server_that_is_slow_to_answer_is_given_longer_each_time(
    services: Services, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or all its readers would ask anew whenever it is about to answer."""
    monkeypatch.setattr(subscriber_module, "_SILENCE_S", 0.3)
    dataset = await _dataset(connection)
    async with noting(connection.subscriber(dataset)) as notes:
        services.tell("query", signal.SIGSTOP)
        try:
            # After 0.3, 0.6, 1.2 and 2.4 s, and pauses.
            await eventually(lambda: notes.subscriber._answer_s >= 16 * 0.3, within_s=30)
        finally:
            services.tell("query", signal.SIGCONT)
        async with connection.publisher(dataset, "p") as publisher:
            await publisher.publish(trades(1))
        await eventually(lambda: notes.rows == [1], within_s=30)
        assert notes.subscriber._answer_s < 16 * 0.3


async def test_a_break_before_the_snapshot_begins_with_it_again(connection: Connection) -> None:
    dataset = await _dataset(connection)
    async with connection.publisher(dataset, "p") as publisher:
        await publisher.publish(trades(1))
    subscriber = connection.subscriber(dataset, None, Start(snapshot=True))
    async with aclosing(subscriber._connection()) as updates:
        first = await anext(updates)
        assert first.status is not None
        assert first.cursor == ""
    assert subscriber.cursor == ""  # cut off here, it would have missed the snapshot
    async with noting(subscriber) as notes:
        await eventually(lambda: notes.snapshot == [1])
        await eventually(lambda: subscriber.cursor != "")  # with the first watermark


@pytest.mark.parametrize(
    ("dataset", "start", "code", "reason"),
    [
        ("NOPE", Start(), "NOT_FOUND", "UNKNOWN_DATASET"),
        ("nope", Start(), "INVALID_ARGUMENT", "INVALID_FIELD"),
        (None, Start(cursor="rubbish"), "INVALID_ARGUMENT", "INVALID_CURSOR"),
    ],
)
async def test_what_is_refused_for_good_comes_out(
    connection: Connection, dataset: str | None, start: Start, code: str, reason: str
) -> None:
    name = dataset or await _dataset(connection)
    with pytest.raises(ApiError) as caught:
        await asyncio.wait_for(anext(aiter(connection.subscriber(name, None, start))), 10)
    assert (caught.value.code.name, caught.value.reason) == (code, reason)


async def test_a_token_that_is_refused_comes_out(services: Services, connection: Connection) -> None:
    dataset = await _dataset(connection)
    connection.tokens._token = "not.a.token"
    connection.tokens._renew_at_s = float("inf")
    with pytest.raises(ApiError) as caught:
        await asyncio.wait_for(anext(aiter(connection.subscriber(dataset))), 10)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_TOKEN")
    async with connected(services, services.api_key("writer", ("quotes:publish",))) as writer:
        with pytest.raises(ApiError) as caught:
            await asyncio.wait_for(anext(aiter(writer.subscriber(dataset))), 10)
        assert caught.value.reason == "MISSING_SCOPE"
