"""Processes are killed at random, over and over, while rows flow: each reader proves that it has every row, once.

`pytest tests/kill --kills 500` for a longer form.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from marketdata.client import Client
from marketdata.v1.instrument_pb2 import Instrument
from tests.kill.traffic import INSTRUMENTS, Conflated, Lossless, Producer
from tests.stack.conftest import Stack, start

SEED = 20240701
VICTIMS = ("nats", "ingestion", "query")
BETWEEN_S = (0.2, 3.2)
CATCH_UP_S = 30


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stack]:
    running = start(tmp_path_factory.mktemp("kills"), "--no-feed", covered=False)
    try:
        yield running
    finally:
        running.mda("down")


@asynccontextmanager
async def connected(stack: Stack, count: int) -> AsyncIterator[list[Client]]:
    """Connect clients, each by a connection of its own."""
    if count == 0:
        yield []
        return
    async with Client.connect(stack.url, stack.secrets["api_key"]) as client, connected(stack, count - 1) as rest:
        yield [client, *rest]


async def kill_at_random(stack: Stack, chance: random.Random, times: int, going: list[asyncio.Task[Any]]) -> None:
    """Kill one of the victims after a random time, whatever state the others are in."""
    for _ in range(times):
        await asyncio.sleep(chance.uniform(*BETWEEN_S))
        assert not any(task.done() for task in going)
        pid = stack.pid(chance.choice(VICTIMS))
        if pid is not None:  # it may be down already
            os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(0)  # it takes as long as it is asked to
async def test_kills_at_random_lose_and_double_no_row(stack: Stack, pytestconfig: pytest.Config) -> None:
    chance = random.Random(SEED)
    producer, conflated = Producer(SEED), Conflated(0.2)
    lossless = {
        "fast": Lossless(),
        "slow": Lossless(pause_s=0.05),
        "reconnecting": Lossless(reconnects=random.Random(SEED)),
    }
    async with connected(stack, 5) as clients:
        await clients[0].put_instruments("KILLS", [Instrument(symbol=f"K{i}") for i in range(INSTRUMENTS)])
        readers = [*lossless.values(), conflated]
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(reader.run(client, "KILLS"))
            for reader, client in zip(readers, clients[1:], strict=True)
        ]
        async with asyncio.timeout(20):
            await asyncio.gather(*(reader.subscribed.wait() for reader in readers))
        producing = asyncio.create_task(producer.run(clients[0], "KILLS"))
        await kill_at_random(stack, chance, pytestconfig.getoption("--kills"), [*tasks, producing])
        producer.stop.set()
        await asyncio.wait_for(producing, CATCH_UP_S)
        async with asyncio.timeout(CATCH_UP_S):
            while any(reader.rows < producer.rows for reader in lossless.values()) or (
                conflated.rows + conflated.folded < producer.rows
            ):
                assert not any(task.done() for task in tasks)
                await asyncio.sleep(0.05)
        on_tape, _ = await clients[0].digest("KILLS")
        for task in tasks:
            task.cancel()
    assert on_tape == producer.digest
    for name, reader in lossless.items():
        assert reader.digest == producer.digest, name
        assert reader.gaps == 0, name
    assert lossless["reconnecting"].subscriptions > 3
    assert conflated.rows + conflated.folded == producer.rows
    assert conflated.newest == producer.newest
