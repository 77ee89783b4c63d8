"""Appends: each batch on the tape exactly once, whatever is lost."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress

import pytest
from nats.aio.client import Client

from marketdata.v1 import error_reason_pb2 as reasons
from mda.ingestion import appender as appender_module
from mda.ingestion.appender import Appender
from mda.market.errors import MarketDataError
from mda.tape.chain import Chains, Link
from mda.tape.log import Log
from mda.tape.payload import encode_payload
from mda.tape.tape import Entry, Retention, Tape
from tests.tape.helpers import eventually, new_name, rows_on_tape, running, trades
from tests.tape.nats_server import NatsServer


def entry(first: int, last: int | None = None) -> Entry:
    """Return an entry of batches of one row, numbered like their rows."""
    last = first if last is None else last
    return Entry(first, last, 1, encode_payload([trades(first, last - first + 1)]))


async def make_tape(client: Client, *, timeout_s: float | None = None, max_bytes: int = 1 << 24) -> Tape:
    tape = Tape(client, new_name())
    await tape.create(Retention(max_bytes, 1))
    if timeout_s is not None:
        tape._log = Log(client, tape._log.stream, f"{tape._prefix}.>", timeout_s=timeout_s)
    return tape


async def opened(tape: Tape, producer: str = "p") -> Appender:
    appender = Appender(tape, producer)
    await appender.open()
    return appender


class LossyTape(Tape):
    """A tape whose answers are lost, before or after the entry is written."""

    def __init__(self, tape: Tape, client: Client, seed: int) -> None:
        super().__init__(client, tape.dataset)
        self._random = random.Random(seed)
        self.lost = {"request": 0, "answer": 0}

    async def append(self, producer: str, entry: Entry, link: Link, expected: int | str) -> int:
        what = self._random.choice(["request", "answer", "nothing"])
        if what != "request":
            sequence = await super().append(producer, entry, link, expected)
            if what == "nothing":
                return sequence
        self.lost[what] += 1
        raise MarketDataError(reasons.ERROR_REASON_TAPE_UNAVAILABLE, "lost")


class OvertakenTape(Tape):
    """A tape on which another connection's entries land just before claims do."""

    def __init__(self, tape: Tape, client: Client, times: int) -> None:
        super().__init__(client, tape.dataset)
        self._left = times
        self._number = 0

    async def append(self, producer: str, entry: Entry, link: Link, expected: int | str) -> int:
        if not entry.payload and self._left:
            self._left -= 1
            self._number += 1
            landed = Entry(self._number, self._number, 1, encode_payload([trades(self._number)]))
            await super().append(producer, landed, landed.link(producer, link.previous), expected)
        return await super().append(producer, entry, link, expected)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appender_module, "_PAUSE_S", 0)


async def test_a_new_producer_begins_at_zero_and_goes_on(client: Client) -> None:
    tape = await make_tape(client)
    appender = await opened(tape)
    assert appender.last_number == 0
    assert await appender.append(entry(1, 4)) == 2  # after the claim that opening is
    assert appender.last_number == 4
    assert await appender.append(entry(5)) == 3
    again = await opened(tape)
    assert again.last_number == 5
    assert await again.append(entry(6)) == 5
    assert await rows_on_tape(client, tape.dataset) == [1, 2, 3, 4, 5, 6]


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize("seed", range(5))
async def test_lost_requests_and_answers_lose_and_double_nothing(client: Client, seed: int) -> None:
    tape = await make_tape(client)
    lossy = LossyTape(tape, client, seed)
    appender = await opened(lossy)
    places = [await appender.append(entry(number)) for number in range(1, 61)]
    assert places == list(range(places[0], places[0] + 60))
    assert await rows_on_tape(client, tape.dataset) == list(range(1, 61))
    assert min(lossy.lost.values()) > 5


async def append_all(appender: Appender, numbers: range, under_way: int) -> list[int]:
    """Append entries of a row each, some at a time; return their places."""
    places: list[int] = []
    for first in range(numbers.start, numbers.stop, under_way):
        group = range(first, min(first + under_way, numbers.stop))
        places += await asyncio.gather(*(appender.append(entry(number)) for number in group))
    return places


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize("seed", range(5))
async def test_appends_under_way_together_lose_and_double_nothing(client: Client, seed: int) -> None:
    tape = await make_tape(client)
    lossy = LossyTape(tape, client, seed)
    places = await append_all(await opened(lossy), range(1, 91), 3)
    assert places == list(range(places[0], places[0] + 90))
    assert await rows_on_tape(client, tape.dataset) == list(range(1, 91))
    assert min(lossy.lost.values()) > 5
    assert all(stored.intact for stored in await tape.read(0))


async def test_producers_that_append_at_once_keep_their_own_order(client: Client) -> None:
    tape = await make_tape(client)
    appenders = [await opened(tape, f"p{i}") for i in range(3)]
    await asyncio.gather(*(append_all(appender, range(1, 101), 3) for appender in appenders))
    chains, numbers = Chains(), {f"p{i}": [] for i in range(3)}
    for stored in await tape.read(0):
        assert stored.intact
        assert chains.take(stored.producer, stored.link, stored.entry.last_number) is None
        if stored.entry.payload:
            numbers[stored.producer].append(stored.entry.first_number)
    assert all(found == list(range(1, 101)) for found in numbers.values())


async def test_what_builds_on_an_append_that_fails_fails(client: Client) -> None:
    tape = await make_tape(client)
    older = await opened(tape)
    await opened(tape)
    results = await asyncio.gather(*(older.append(entry(number)) for number in (1, 2, 3)), return_exceptions=True)
    assert [getattr(result, "reason_name", None) for result in results] == ["FENCED"] * 3
    assert await rows_on_tape(client, tape.dataset) == []


async def test_what_builds_on_an_append_that_is_given_up_fails(client: Client) -> None:
    tape = await make_tape(client)
    appender = await opened(tape)
    first = asyncio.create_task(appender.append(entry(1)))
    second = asyncio.create_task(appender.append(entry(2)))
    await asyncio.sleep(0)
    first.cancel()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    rows = await rows_on_tape(client, tape.dataset)
    assert rows == [1, 2][: len(rows)]  # either may have landed, in order


@pytest.mark.usefixtures("no_pause")
async def test_equal_rows_one_after_the_other_are_two_entries(client: Client) -> None:
    tape = await make_tape(client)
    appender = await opened(LossyTape(tape, client, 1))
    payload = entry(1).payload
    places = [await appender.append(Entry(number, number, 1, payload)) for number in range(1, 31)]
    assert places == list(range(places[0], places[0] + 30))
    assert await rows_on_tape(client, tape.dataset) == [1] * 30


async def test_an_older_connection_is_fenced_off_as_soon_as_a_newer_one_opens(client: Client) -> None:
    tape = await make_tape(client)
    older = await opened(tape)
    newer = await opened(tape)
    with pytest.raises(MarketDataError) as caught:
        await older.append(entry(1))
    assert caught.value.reason_name == "FENCED"
    await newer.append(entry(1))
    assert await rows_on_tape(client, tape.dataset) == [1]


async def test_what_lands_while_a_producer_opens_is_counted(client: Client) -> None:
    tape = await make_tape(client)
    appender = await opened(OvertakenTape(tape, client, 2))
    assert appender.last_number == 2
    await appender.append(entry(3))
    assert await rows_on_tape(client, tape.dataset) == [1, 2, 3]


async def test_a_producer_that_is_always_overtaken_is_fenced(client: Client) -> None:
    tape = await make_tape(client)
    with pytest.raises(MarketDataError) as caught:
        await opened(OvertakenTape(tape, client, 1000))
    assert caught.value.reason_name == "FENCED"


async def test_opening_gives_up_on_a_tape_that_stays_away(
    own_nats: NatsServer, own_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender_module, "_GIVE_UP_S", 0)
    tape = await make_tape(own_client, timeout_s=0.2)
    own_nats.kill()
    with pytest.raises(MarketDataError) as caught:
        await opened(tape)
    assert caught.value.reason_name == "TAPE_UNAVAILABLE"


async def test_an_older_connection_is_fenced_off_and_writes_nothing(client: Client) -> None:
    tape = await make_tape(client)
    older = await opened(tape)
    await older.append(entry(1))
    newer = await opened(tape)
    await newer.append(entry(2))
    for _ in range(2):
        with pytest.raises(MarketDataError) as caught:
            await older.append(entry(2))
        assert caught.value.reason_name == "FENCED"
        assert caught.value.metadata == {"dataset": tape.dataset, "producer": "p"}
    assert await newer.append(entry(3)) == 5
    assert await rows_on_tape(client, tape.dataset) == [1, 2, 3]


@pytest.mark.usefixtures("no_pause")
async def test_a_doubtful_append_that_another_overtook_is_fenced(client: Client) -> None:
    tape = await make_tape(client)
    lossy = LossyTape(tape, client, 0)
    older = await opened(lossy)
    newer = await opened(tape)
    await newer.append(Entry(1, 1, 1, entry(99).payload))
    lossy.lost = {"request": 0, "answer": 0}
    with pytest.raises(MarketDataError) as caught:
        await older.append(entry(1))
    assert caught.value.reason_name == "FENCED"
    assert await rows_on_tape(client, tape.dataset) == [99]


async def test_producers_do_not_fence_each_other(client: Client) -> None:
    tape = await make_tape(client)
    one, other = await opened(tape, "a"), await opened(tape, "a.b")
    for number in range(1, 11):
        await asyncio.gather(one.append(entry(number)), other.append(entry(number)))
    assert sorted(await rows_on_tape(client, tape.dataset)) == sorted([*range(1, 11)] * 2)


async def test_an_append_that_the_server_took_in_its_own_time_is_found(
    own_nats: NatsServer, own_client: Client
) -> None:
    tape = await make_tape(own_client, timeout_s=0.2)
    appender = await opened(tape)
    await appender.append(entry(1))
    own_nats.pause()
    async with running(appender.append(entry(2))) as (appending,):
        await eventually(lambda: own_client.stats["out_msgs"] >= 8)  # at least two tries were sent
        assert not appending.done()
        own_nats.resume()
        assert await asyncio.wait_for(appending, 10) == 3
    assert await appender.append(entry(3)) == 4
    assert await rows_on_tape(own_client, tape.dataset) == [1, 2, 3]


@pytest.mark.parametrize("seed", [1, 2])
async def test_kills_of_nats_at_any_moment_lose_and_double_nothing(
    own_nats: NatsServer, own_client: Client, seed: int
) -> None:
    tape = await make_tape(own_client, timeout_s=0.5)
    producers = [await opened(tape, f"p{number}") for number in range(3)]
    done = asyncio.Event()
    acknowledged: list[list[int]] = [[], [], []]

    async def write(index: int) -> None:
        number = index * 100_000
        while not done.is_set():
            number += 1
            await producers[index].append(entry(number))
            acknowledged[index].append(number)

    chance = random.Random(seed)
    async with running(*(write(index) for index in range(3))) as writers:
        for _ in range(4):
            goal = sum(map(len, acknowledged)) + chance.randrange(5, 60)
            await eventually(lambda due=goal: sum(map(len, acknowledged)) >= due)
            await asyncio.to_thread(own_nats.restart)
        goal = sum(map(len, acknowledged)) + 30
        await eventually(lambda: sum(map(len, acknowledged)) >= goal)
        done.set()
        await asyncio.gather(*writers)
    on_tape = await rows_on_tape(own_client, tape.dataset)
    for index, numbers in enumerate(acknowledged):
        assert numbers == list(range(index * 100_000 + 1, index * 100_000 + 1 + len(numbers)))
        assert [number for number in on_tape if number // 100_000 == index] == numbers


async def test_gives_up_after_a_bounded_time(
    own_nats: NatsServer, own_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender_module, "_GIVE_UP_S", 0.5)
    tape = await make_tape(own_client, timeout_s=0.2)
    appender = await opened(tape)
    own_nats.kill()
    began = time.monotonic()
    with pytest.raises(MarketDataError) as caught:
        await appender.append(entry(1))
    assert caught.value.reason_name == "TAPE_UNAVAILABLE"
    assert 0.5 <= time.monotonic() - began < 2
    own_nats.start()
    await eventually(lambda: own_client.is_connected)
    again = Appender(tape, "p")
    async with asyncio.timeout(10):
        while True:
            with suppress(MarketDataError):
                await again.open()
                break
    assert again.last_number in {0, 1}  # what had no answer may be there


async def test_a_full_tape_is_told_at_once(client: Client) -> None:
    tape = await make_tape(client, max_bytes=20_000)
    appender = await opened(tape)
    number = 0
    began = time.monotonic()

    async def fill() -> None:
        nonlocal number
        while True:
            await appender.append(entry(number + 1, number + 100))
            number += 100

    with pytest.raises(MarketDataError) as caught:
        await fill()
    assert caught.value.reason_name == "TAPE_FULL"
    assert time.monotonic() - began < 3
    assert await rows_on_tape(client, tape.dataset) == list(range(1, number + 1))
    assert appender.last_number == number
