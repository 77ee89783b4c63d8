"""A client behind a bad network, whose gateway and query are restarted besides, has every row once, and proves it.

`pytest tests/kill/test_bad_network.py --bad-network-s 600` for a longer form.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from marketdata.client import Client
from marketdata.columns import Kind
from marketdata.cursors import FileStore
from marketdata.digest import Digest, digest_of
from marketdata.errors import ApiError
from marketdata.v1.instrument_pb2 import Instrument
from tests.kill.proxy import BadNetwork
from tests.kill.traffic import INSTRUMENTS, Producer
from tests.stack.conftest import Stack, start

SEED = 20261129
DATASET = "BADNET"
CATCH_UP_S = 45


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stack]:
    running = start(tmp_path_factory.mktemp("badnet"), "--no-feed", covered=False)
    try:
        yield running
    finally:
        running.mda("down")


class Reader:
    """Reads all rows, and begins anew now and then, as a process that starts again does, from a file."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._store = FileStore(folder)
        self._chance = chance
        self.rows = 0
        self.digest = Digest()
        self.began = ""
        self.cursor = ""
        self.connections = 0
        self.starts = 0
        self.breaks: list[ApiError] = []
        self.subscribed = asyncio.Event()

    async def run(self, client: Client) -> None:
        while True:
            self.starts += 1
            subscriber = client.subscribe(DATASET, store=self._store, on_break=self.breaks.append)
            before = 0
            async for update in subscriber:
                self.connections += subscriber.connections - before
                before = subscriber.connections
                for batch in update.batches:
                    self.rows += batch.rows
                    self.digest += digest_of(batch)
                self.began = self.began or subscriber.began
                self.cursor = update.cursor or self.cursor
                self.subscribed.set()
                if self._chance.random() < 0.01:
                    await subscriber.commit()
                    break


async def _restart_in_turn(stack: Stack, every_s: float) -> None:
    """End query and the gateway in turn, and kill them; the supervisor starts them again."""
    while True:
        for name, number in (("query", signal.SIGTERM), ("gateway", signal.SIGKILL)):
            await asyncio.sleep(every_s)
            pid = stack.pid(name)
            if pid is not None:
                os.kill(pid, number)


@pytest.mark.timeout(0)  # it takes as long as it is asked to
async def test_a_bad_network_loses_and_doubles_no_row(
    stack: Stack, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    seconds: float = pytestconfig.getoption("--bad-network-s")
    chance = random.Random(SEED)
    address = urlsplit(stack.url)
    network = BadNetwork((address.hostname or "", address.port or 0), chance)
    producer, reader = Producer(SEED), Reader(tmp_path, chance)
    key = stack.secrets["api_key"]
    async with network.listening() as url, Client.connect(stack.url, key) as good, Client.connect(url, key) as bad:
        await good.put_instruments(DATASET, [Instrument(symbol=f"N{i}") for i in range(INSTRUMENTS)])
        reading = asyncio.create_task(reader.run(bad))
        await asyncio.wait_for(reader.subscribed.wait(), 20)
        producing = asyncio.create_task(producer.run(bad, DATASET))
        faults: list[asyncio.Task[Any]] = [
            asyncio.create_task(network.misbehave()),
            asyncio.create_task(_restart_in_turn(stack, min(20.0, seconds / 5))),
        ]
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            assert not any(task.done() for task in (reading, producing, *faults))
            await asyncio.sleep(0.1)
        for fault in faults:
            fault.cancel()
        await asyncio.gather(*faults, return_exceptions=True)
        network.heal()
        producer.stop.set()
        await asyncio.wait_for(producing, CATCH_UP_S)
        async with asyncio.timeout(CATCH_UP_S):
            while reader.rows < producer.rows:
                assert not reading.done()
                await asyncio.sleep(0.05)
        reading.cancel()
        on_tape, _ = await good.digest(DATASET, after=reader.began, until=reader.cursor)
        of_trades, _ = await good.digest(DATASET, kinds=[Kind.TRADE])
    assert reader.digest == on_tape == producer.digest
    assert 0 < of_trades.rows < on_tape.rows
    assert reader.connections >= reader.starts >= 2
    assert reader.breaks
    assert all(network.seen[fault] for fault in ("reset", "stall", "trickle")), network.seen
