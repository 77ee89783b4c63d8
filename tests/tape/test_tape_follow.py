"""Following a log: every record once, in order, whatever breaks."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing, suppress
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api

from mda.market.errors import MarketDataError
from mda.tape.log import Log, Record
from tests.tape.helpers import collect, eventually, new_name, running
from tests.tape.nats_server import NatsServer
from tests.tape.test_tape_log import fill, make_log, subject


class Follower:
    """Follows a log and notes what comes."""

    def __init__(self, log: Log, after: int = 0) -> None:
        self.records: list[Record] = []
        self.lists = 0
        self._followed = log.follow(after)

    async def run(self) -> None:
        async with aclosing(self._followed) as followed:
            async for records in followed:
                assert records
                self.records += records
                self.lists += 1

    @property
    def sequences(self) -> list[int]:
        return [record.sequence for record in self.records]


async def _append(log: Log, data: bytes) -> int:
    """Append until an answer comes: the record may be there twice."""
    while True:
        with suppress(MarketDataError):
            return await log.append(subject(log), data, {}, None)


async def test_catches_up_and_then_lives(client: Client) -> None:
    log = await make_log(client)
    written = await fill(log, 5)
    follower = Follower(log)
    async with running(follower.run()):
        await eventually(lambda: len(follower.records) == 5)
        assert follower.lists == 1  # what was there comes together
        for number in range(5):
            await log.append(subject(log, "b"), f"live {number}".encode(), {"Mda-N": f"{number}"}, None)
            await eventually(lambda due=6 + number: len(follower.records) == due, within_s=0.9)
    assert [record.data for record in follower.records] == written + [f"live {number}".encode() for number in range(5)]
    assert follower.sequences == list(range(1, 11))
    live = [(record.time_ns, record.subject, record.headers.get("Mda-N")) for record in follower.records]
    read = [(record.time_ns, record.subject, record.headers.get("Mda-N")) for record in await log.read(0)]
    assert live == read


async def test_begins_after_a_place(client: Client) -> None:
    log = await make_log(client)
    await fill(log, 6)
    assert [record.sequence for record in await collect(log.follow(4), 2)] == [5, 6]


async def test_begins_at_a_place_to_come(client: Client) -> None:
    log = await make_log(client)
    follower = Follower(log, after=3)
    async with running(follower.run()):
        await fill(log, 5)
        await eventually(lambda: len(follower.records) == 2)
    assert follower.sequences == [4, 5]


async def test_begins_further_on_where_the_oldest_have_gone(client: Client) -> None:
    log = await make_log(client, max_bytes=10_000, keep_s=3600)
    await fill(log, 30, size=1000)
    kept = [record.sequence for record in await log.read(0)]
    assert [record.sequence for record in await collect(log.follow(0), len(kept))] == kept


async def test_no_hole_and_no_double_while_many_append(client: Client) -> None:
    log = await make_log(client)
    followers = [Follower(log) for _ in range(3)]

    async def write(producer: int) -> None:
        for number in range(150):
            await log.append(subject(log, f"p{producer}"), f"{number}".encode(), {}, None)

    async with running(*(follower.run() for follower in followers[:2])):
        writers = asyncio.gather(*(write(producer) for producer in range(4)))
        await eventually(lambda: len(followers[0].records) > 100)
        async with running(followers[2].run()):  # one that begins in the middle
            await writers
            await eventually(lambda: all(len(follower.records) >= 600 for follower in followers))
    for follower in followers:
        assert follower.sequences == list(range(1, 601))


class LossyClient:
    """A connection that loses a share of the live messages, as a slow one does."""

    def __init__(self, client: Client, share: float, seed: int) -> None:
        self._client = client
        self._share = share
        self._random = random.Random(seed)
        self.lost = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def subscribe(self, topic: str, cb: Any = None, **limits: Any) -> Any:
        if cb is None:
            return await self._client.subscribe(topic)

        async def sometimes(message: Msg) -> None:
            if self._random.random() < self._share:
                self.lost += 1
            else:
                await cb(message)

        return await self._client.subscribe(topic, cb=sometimes, **limits)


@pytest.mark.parametrize(("share", "seed"), [(0.1, 1), (0.5, 2), (0.9, 3), (1.0, 4)])
async def test_lost_live_messages_are_read_from_the_stream(client: Client, share: float, seed: int) -> None:
    log = await make_log(client)
    lossy: Any = LossyClient(client, share, seed)
    follower = Follower(Log(lossy, log.stream, subject(log, ">")))
    async with running(follower.run()):
        await fill(log, 1)
        await eventually(lambda: len(follower.records) == 1)
        await fill(log, 200)
        await eventually(lambda: len(follower.records) == 201)
    assert follower.sequences == list(range(1, 202))
    assert lossy.lost > 0


async def test_a_stream_that_tells_nobody_is_polled(client: Client) -> None:
    name = new_name("log")
    await client.jetstream().add_stream(
        api.StreamConfig(name=f"LOG_{name}", subjects=[f"{name}.>"], allow_direct=True)  # no republish
    )
    log = Log(client, f"LOG_{name}", f"{name}.>")
    follower = Follower(log)
    async with running(follower.run()):
        await fill(log, 3)
        await eventually(lambda: len(follower.records) == 3, within_s=3)
        await fill(log, 2)
        await eventually(lambda: len(follower.records) == 5, within_s=3)
    assert follower.sequences == [1, 2, 3, 4, 5]


async def test_a_follower_that_stops_for_a_while_misses_nothing(client: Client) -> None:
    log = await make_log(client)
    await fill(log, 1)
    sequences: list[int] = []
    async with aclosing(log.follow(0)) as followed:
        sequences += [record.sequence for record in await anext(followed)]
        await fill(log, 300)  # while nobody takes them
        async with asyncio.timeout(10):
            while len(sequences) < 301:
                sequences += [record.sequence for record in await anext(followed)]
    assert sequences == list(range(1, 302))


async def test_no_subscription_is_left_behind(client: Client) -> None:
    log = await make_log(client)
    await fill(log, 3)
    before = len(client._subs)
    await collect(log.follow(0), 3)
    await log.read(0)
    assert len(client._subs) == before


async def test_goes_on_through_kills_of_nats(own_nats: NatsServer, own_client: Client) -> None:
    log = await make_log(own_client)
    early, late = Follower(log), Follower(log)
    done = asyncio.Event()
    acknowledged: list[int] = []

    async def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            acknowledged.append(await _append(log, f"{number}".encode()))

    chance = random.Random(7)
    async with running(early.run(), write()) as (_, writer):
        for _ in range(3):
            target = len(early.records) + chance.randrange(20, 120)
            await eventually(lambda due=target: len(early.records) >= due)
            await asyncio.to_thread(own_nats.restart)
        async with running(late.run()):
            target = len(early.records) + 50
            await eventually(lambda: len(early.records) >= target)
            done.set()
            await writer
            await eventually(lambda: early.sequences[-1:] == late.sequences[-1:] == acknowledged[-1:])
    assert early.sequences == late.sequences == list(range(1, acknowledged[-1] + 1))
    assert set(acknowledged) <= set(early.sequences)
    assert acknowledged == sorted(set(acknowledged))
