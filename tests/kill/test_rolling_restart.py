"""Query is restarted, replica by replica, under load: readers are told, go on elsewhere, and have every row once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Generator

import pytest

from marketdata.client import Client
from marketdata.v1.instrument_pb2 import Instrument
from mda.runtime.probe import serves
from tests.kill.traffic import INSTRUMENTS, Lossless, Producer
from tests.stack.conftest import Stack, start

READERS = 8


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stack]:
    running = start(tmp_path_factory.mktemp("rolling"), "--no-feed", "--query-replicas", "2", covered=False)
    try:
        yield running
    finally:
        running.mda("down")


async def _restart(stack: Stack, name: str) -> None:
    """End a replica as a roll-out does, and wait until another one serves in its place."""
    pid = stack.pid(name)
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    async with asyncio.timeout(60):
        while stack.pid(name) in {pid, None} or not await serves(f"127.0.0.1:{stack.state['ports'][name]}"):
            await asyncio.sleep(0.05)


async def test_a_rolling_restart_loses_and_doubles_no_row(stack: Stack) -> None:
    producer = Producer(7)
    readers = [Lossless(reconnects=random.Random(i) if i % 4 == 0 else None) for i in range(READERS)]
    async with (
        Client.connect(stack.url, stack.secrets["api_key"]) as writing,
        Client.connect(stack.url, stack.secrets["api_key"]) as reading,
    ):
        await writing.put_instruments("ROLL", [Instrument(symbol=f"R{i}") for i in range(INSTRUMENTS)])
        tasks = [asyncio.create_task(reader.run(reading, "ROLL")) for reader in readers]
        async with asyncio.timeout(20):
            await asyncio.gather(*(reader.subscribed.wait() for reader in readers))
        producing = asyncio.create_task(producer.run(writing, "ROLL"))
        for name in ("query", "query-2", "query"):
            await asyncio.sleep(0.5)
            before = [reader.rows for reader in readers]
            await _restart(stack, name)
            async with asyncio.timeout(5):
                while any(reader.rows <= rows for reader, rows in zip(readers, before, strict=True)):
                    await asyncio.sleep(0.01)
            assert not any(task.done() for task in (*tasks, producing))
        producer.stop.set()
        await asyncio.wait_for(producing, 20)
        async with asyncio.timeout(20):
            while any(reader.rows < producer.rows for reader in readers):
                await asyncio.sleep(0.02)
        on_tape, _ = await writing.digest("ROLL")
        for task in tasks:
            task.cancel()
    assert on_tape == producer.digest
    assert all(reader.digest == producer.digest for reader in readers)
    assert sum(reader.drains for reader in readers) >= READERS  # all were told at least once, on the whole
