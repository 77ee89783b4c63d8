"""What a log and the connection do while NATS is away."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError

from mda.market.errors import MarketDataError
from mda.tape.connection import connect
from mda.tape.log import Log, list_streams
from tests.tape.helpers import eventually, running
from tests.tape.nats_server import NatsServer
from tests.tape.test_tape_log import make_log, subject

TIMEOUT_S = 0.25


async def _log(client: Client) -> Log:
    made = await make_log(client)
    return Log(client, made.stream, subject(made, ">"), timeout_s=TIMEOUT_S)


async def _assert_unavailable_soon(log: Log) -> None:
    calls = {
        "append": lambda: log.append(subject(log), b"x", {}, None),
        "read": lambda: log.read(0),
        "last": lambda: log.last(subject(log)),
        "info": log.info,
        "create": lambda: log.create(max_bytes=1 << 20, replicas=1, keep_s=None),
    }
    for name, call in calls.items():
        began = time.monotonic()
        with pytest.raises(MarketDataError) as caught:
            await call()
        assert caught.value.reason_name == "TAPE_UNAVAILABLE", name
        assert caught.value.retry_after_s is not None
        assert time.monotonic() - began < 2 * TIMEOUT_S + 0.5, name


async def test_a_dead_server_is_unavailable_within_bounds(own_nats: NatsServer, own_client: Client) -> None:
    log = await _log(own_client)
    own_nats.kill()
    await _assert_unavailable_soon(log)
    own_nats.start()

    async def there() -> None:
        while True:
            with suppress(MarketDataError):
                await log.append(subject(log, "again"), b"x", {}, None)
                return

    await asyncio.wait_for(there(), 10)


async def test_a_server_that_hangs_is_unavailable_within_bounds(own_nats: NatsServer, own_client: Client) -> None:
    log = await _log(own_client)
    own_nats.pause()
    try:
        await _assert_unavailable_soon(log)
    finally:
        own_nats.resume()


async def test_an_append_without_answer_may_be_there_later(own_nats: NatsServer, own_client: Client) -> None:
    log = await _log(own_client)
    own_nats.pause()
    with pytest.raises(MarketDataError, match="Send again"):
        await log.append(subject(log), b"doubtful", {}, 0)
    own_nats.resume()
    record = None
    async with asyncio.timeout(10):
        while record is None:
            record = await log.last(subject(log))
    assert (record.sequence, record.data) == (1, b"doubtful")


async def test_streams_of_a_dead_server_cannot_be_listed(
    own_nats: NatsServer, own_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mda.tape.log._LIST_TIMEOUT_S", 0.2)
    own_nats.kill()
    with pytest.raises(MarketDataError) as caught:
        await list_streams(own_client, "tape.>")
    assert caught.value.reason_name == "TAPE_UNAVAILABLE"


async def test_a_closed_connection_is_unavailable(own_client: Client) -> None:
    log = await _log(own_client)
    follower = log.follow(0)
    await own_client.close()
    with pytest.raises(MarketDataError):
        await log.read(0)
    with pytest.raises(NatsError):
        await anext(follower)


async def test_a_follower_ends_quietly_after_its_connection(own_client: Client) -> None:
    log = await _log(own_client)
    await log.append(subject(log), b"x", {}, None)
    follower = log.follow(0)
    assert len(await anext(follower)) == 1
    await own_client.close()
    await follower.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(follower)


async def test_the_connection_waits_for_nats_that_starts_later(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    connected = asyncio.Event()

    async def use() -> None:
        async with connect(server.url, None, "early") as client:
            assert client.is_connected
            connected.set()

    async with running(use()) as (task,):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connected.wait(), 0.7)
        with server:
            await asyncio.wait_for(task, 10)
    assert connected.is_set()


async def test_the_connection_waits_while_its_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with NatsServer(tmp_path / "a", token="secret") as server:
        opened: list[Client] = []

        async def use(token: str | None) -> None:
            async with connect(server.url, token, "tests") as client:
                opened.append(client)
                await asyncio.Event().wait()

        async with running(use("wrong"), use(None)):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 1.2)
            assert opened == []
        async with running(use("secret")):
            await eventually(lambda: len(opened) == 1)
            assert opened[0].is_connected
        assert opened[0].is_closed


async def test_a_cancellation_is_never_lost(client: Client) -> None:
    log = await _log(client)
    for passes in range(40):  # one of them is when the answer comes

        async def append() -> None:
            while True:
                await log.append(subject(log), b"x", {}, None)

        task = asyncio.create_task(append())
        for _ in range(40 + passes):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=3)
        assert done, f"cancelled after {passes} passes of the loop, it goes on"
        assert task.cancelled()


async def test_a_connection_closes_while_nats_is_away(own_nats: NatsServer) -> None:
    async with connect(own_nats.url, None, "tests") as client:
        own_nats.kill()
        await eventually(lambda: not client.is_connected)
        await client.publish("nobody", b"waits")
    assert client.is_closed


async def test_the_connection_comes_back_by_itself(own_nats: NatsServer, own_client: Client) -> None:
    log = await _log(own_client)
    for number in range(3):
        own_nats.restart()
        await eventually(lambda: own_client.is_connected)
        async with asyncio.timeout(10):
            while not await _appended(log, number):
                pass
    assert [record.data for record in await log.read(0)] == [b"0", b"1", b"2"]


async def _appended(log: Log, number: int) -> bool:
    """Append once: an attempt without answer is looked up, not repeated."""
    try:
        await log.append(subject(log, f"{number}"), f"{number}".encode(), {}, 0)
    except MarketDataError:
        with suppress(MarketDataError):
            return await log.last(subject(log, f"{number}")) is not None
        return False
    return True
