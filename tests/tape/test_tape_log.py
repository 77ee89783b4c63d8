"""A log on a server that is well: create, append, last, read."""

from __future__ import annotations

import asyncio
import time

import pytest
from nats.aio.client import Client

from mda.market.errors import MarketDataError
from mda.tape.log import Log, WrongPlaceError, list_streams
from tests.tape.helpers import new_name


@pytest.fixture
async def log(client: Client) -> Log:
    return await make_log(client)


async def make_log(client: Client, *, max_bytes: int = 1 << 26, keep_s: float | None = None) -> Log:
    name = new_name("log")
    made = Log(client, f"LOG_{name}", f"{name}.>")
    await made.create(max_bytes=max_bytes, replicas=1, keep_s=keep_s)
    return made


def subject(log: Log, token: str = "a") -> str:
    return f"{log.stream.removeprefix('LOG_')}.{token}"


async def fill(log: Log, count: int, size: int = 1) -> list[bytes]:
    """Append records of different bytes; return their bytes."""
    written = [f"{number}".encode().ljust(size, b".") for number in range(1, count + 1)]
    for data in written:
        await log.append(subject(log), data, {}, None)
    return written


async def test_create_again_keeps_what_is_there(log: Log, client: Client) -> None:
    await log.append(subject(log), b"one", {}, 0)
    before = await log.info()
    again = Log(client, log.stream, f"{subject(log, '>')}")
    await again.create(max_bytes=1 << 21, replicas=1, keep_s=None)
    after = await again.info()
    assert before is not None
    assert after is not None
    assert (after.created, after.config.max_bytes) == (before.created, 1 << 26)
    assert [record.data for record in await again.read(0)] == [b"one"]


async def test_created_twice_at_once_is_one_stream(client: Client) -> None:
    name = new_name("log")
    logs = [Log(client, f"LOG_{name}", f"{name}.>") for _ in range(2)]
    await asyncio.gather(*(log.create(max_bytes=1 << 20, replicas=1, keep_s=None) for log in logs))
    assert await list_streams(client, f"{name}.>") == [f"LOG_{name}"]


async def test_info_of_a_stream_that_is_not_there_is_none(client: Client) -> None:
    assert await Log(client, "LOG_nowhere", "nowhere.>").info() is None


async def test_append_with_the_right_expectation_is_numbered(log: Log) -> None:
    assert await log.append(subject(log, "a"), b"1", {}, 0) == 1
    assert await log.append(subject(log, "b"), b"2", {}, 0) == 2
    assert await log.append(subject(log, "a"), b"3", {}, 1) == 3
    assert await log.append(subject(log, "b"), b"4", {}, 2) == 4


@pytest.mark.parametrize("expected", [0, 1, 3, 99])
async def test_append_with_a_wrong_expectation_writes_nothing(log: Log, expected: int) -> None:
    await log.append(subject(log, "a"), b"1", {}, 0)
    await log.append(subject(log, "a"), b"2", {}, 1)
    with pytest.raises(WrongPlaceError):
        await log.append(subject(log, "a"), b"no", {}, expected)
    assert [record.data for record in await log.read(0)] == [b"1", b"2"]


async def test_append_without_expectation_always_goes_on(log: Log) -> None:
    assert [await log.append(subject(log), b"x", {}, None) for _ in range(3)] == [1, 2, 3]


async def test_of_appends_at_once_with_one_expectation_one_wins(log: Log) -> None:
    appends = (log.append(subject(log), f"{number}".encode(), {}, 0) for number in range(8))
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["WrongPlaceError"] * 7 + ["int"]
    winner = next(number for number, result in enumerate(results) if result == 1)
    assert [record.data for record in await log.read(0)] == [f"{winner}".encode()]


async def test_last_is_the_newest_of_its_subject(log: Log) -> None:
    assert await log.last(subject(log, "a")) is None
    await log.append(subject(log, "a"), b"1", {}, None)
    await log.append(subject(log, "a"), b"2", {"Mda-X": "y"}, None)
    await log.append(subject(log, "b"), b"3", {}, None)
    last = await log.last(subject(log, "a"))
    assert last is not None
    assert (last.sequence, last.data, last.subject, last.headers["Mda-X"]) == (2, b"2", subject(log, "a"), "y")
    assert abs(last.time_ns - time.time_ns()) < 10_000_000_000


async def test_times_do_not_go_back(log: Log) -> None:
    await fill(log, 20)
    times = [record.time_ns for record in await log.read(0)]
    assert times == sorted(times)
    assert len(set(times)) == 20  # to the nanosecond: appends take longer


@pytest.mark.parametrize(("after", "expected"), [(0, range(1, 11)), (4, range(5, 11)), (10, range(0)), (99, range(0))])
async def test_read_gives_what_comes_after_a_place(log: Log, after: int, expected: range) -> None:
    written = await fill(log, 10)
    records = await log.read(after)
    assert [record.sequence for record in records] == list(expected)
    assert [record.data for record in records] == [written[sequence - 1] for sequence in expected]


async def test_read_of_an_empty_log_is_empty(log: Log) -> None:
    assert await log.read(0) == []


async def test_read_is_bounded_by_records_and_bytes_but_goes_on(log: Log) -> None:
    await fill(log, 12, size=1000)
    assert [record.sequence for record in await log.read(2, max_records=3)] == [3, 4, 5]
    some = await log.read(2, max_bytes=3000)
    assert [record.sequence for record in some] == list(range(3, 3 + len(some)))
    assert 1 <= len(some) <= 3
    assert [record.sequence for record in await log.read(2, max_bytes=1)] == [3]


async def test_read_goes_through_more_than_one_answer_holds(log: Log) -> None:
    await fill(log, 9, size=1 << 20)
    after, pages = 0, 0
    sequences: list[int] = []
    while records := await log.read(after):
        sequences += [record.sequence for record in records]
        after, pages = records[-1].sequence, pages + 1
    assert sequences == list(range(1, 10))
    assert pages >= 3


async def test_read_begins_further_on_where_the_oldest_have_gone(client: Client) -> None:
    log = await make_log(client, max_bytes=10_000, keep_s=3600)
    await fill(log, 30, size=1000)
    records = await log.read(0)
    sequences = [record.sequence for record in records]
    assert 1 < sequences[0] <= 30
    assert sequences == list(range(sequences[0], 31))
    assert [record.sequence for record in await log.read(5)] == sequences


async def test_a_full_log_refuses_and_loses_nothing(client: Client) -> None:
    log = await make_log(client, max_bytes=10_000)
    with pytest.raises(MarketDataError) as caught:
        await fill(log, 30, size=1000)
    assert caught.value.reason_name == "TAPE_FULL"
    assert caught.value.retry_after_s == 5
    assert caught.value.metadata["dataset"] == log.stream.removeprefix("LOG_")
    kept = [record.sequence for record in await log.read(0)]
    assert kept == list(range(1, len(kept) + 1))
    assert 5 <= len(kept) <= 10
    with pytest.raises(MarketDataError, match="full"):
        await log.append(subject(log), b"x" * 1000, {}, len(kept))


async def test_a_missing_stream_is_unavailable_to_append_and_read(client: Client) -> None:
    log = Log(client, "TAPE_X~Y", "tape.X~Y.>", timeout_s=0.5)
    for call in (log.append("tape.X~Y.p", b"x", {}, 0), log.read(0), log.last("tape.X~Y.p")):
        with pytest.raises(MarketDataError) as caught:
            await call
        assert caught.value.reason_name == "TAPE_UNAVAILABLE"
        assert caught.value.metadata["dataset"] == "X.Y"


async def test_what_the_server_refuses_is_unavailable(client: Client) -> None:
    log = Log(client, "LOG_bad", "bad.>")
    with pytest.raises(MarketDataError, match="refused") as caught:
        await log.create(max_bytes=1 << 20, replicas=3, keep_s=None)  # there is one server
    assert caught.value.reason_name == "TAPE_UNAVAILABLE"


@pytest.fixture
async def many_streams(client: Client) -> list[str]:
    prefix = new_name("many")
    names = [f"LOG_{prefix}_{number:02}" for number in range(3)]
    for number, name in enumerate(names):
        await Log(client, name, f"{prefix}.{number}").create(max_bytes=1 << 20, replicas=1, keep_s=None)
    return [prefix, *names]


async def test_streams_are_listed_by_subject(client: Client, many_streams: list[str]) -> None:
    prefix, *names = many_streams
    assert sorted(await list_streams(client, f"{prefix}.>")) == names
    assert await list_streams(client, f"{prefix}.1") == [names[1]]
    assert await list_streams(client, "nobody.>") == []
