"""Any child of `mda up` is killed while a producer and a subscriber run: both go on, and no row is lost or doubled."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from marketdata.client import Client
from marketdata.columns import Batch, Kind, make_batch
from marketdata.publisher import Publisher
from marketdata.subscriber import Start
from marketdata.v1.instrument_pb2 import Instrument
from mda.tape.connection import connect
from mda.tape.payload import decode_payload
from mda.tape.tape import Tape
from tests.stack.conftest import Stack, start

DATASET = "KILL"
GOES_ON_WITHIN_S = 5.0
_STARTS = 5
"""Where the machine is slow just now, going on may take as long as this many starts of a service."""
ROWS = 5


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stack]:
    """Give a stack of this module's own: its processes die."""
    running = start(tmp_path_factory.mktemp("kill"), covered=False)
    try:
        yield running
    finally:
        running.mda("down")


def _numbered_rows(first: int) -> Batch:
    count = np.arange(first, first + ROWS)
    columns: dict[str, Any] = {
        "instrument_id": np.ones(ROWS),
        "ts_event": np.full(ROWS, time.time_ns()),
        "sequence": count,
        "price": np.ones(ROWS),
    }
    return make_batch(Kind.TRADE, columns)


class Traffic:
    """A producer and a subscriber of numbered rows."""

    def __init__(self) -> None:
        self.published = 0
        self.received: list[int] = []
        self.publisher: Publisher | None = None
        self.stop = asyncio.Event()

    @property
    def acknowledged(self) -> int:
        return self.publisher.acknowledged_rows if self.publisher else 0

    async def produce(self, client: Client) -> None:
        async with client.publisher(DATASET, "numbers") as self.publisher:
            while not self.stop.is_set():
                await self.publisher.publish(_numbered_rows(self.published))
                self.published += ROWS
                await asyncio.sleep(0.01)

    async def subscribe(self, client: Client, started: asyncio.Event) -> None:
        async for update in client.subscribe(DATASET, None, Start()):
            started.set()
            for batch in update.batches:
                self.received += batch["sequence"].tolist()


async def _goes_on(traffic: Traffic) -> None:
    """Return when acknowledgements and rows have come again, in time."""
    began = time.monotonic()
    acknowledged, received = traffic.acknowledged, len(traffic.received)
    async with asyncio.timeout(60):
        while traffic.acknowledged <= acknowledged + 10 * ROWS or len(traffic.received) <= received + 10 * ROWS:
            await asyncio.sleep(0.02)
    took_s = time.monotonic() - began
    assert took_s < GOES_ON_WITHIN_S or took_s < _STARTS * _start_s(), f"went on after {took_s:.1f} s"


def _start_s() -> float:
    """Return how long a service's start takes on this machine at the moment: its imports, above all."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import mda.ingestion.__main__"], check=True)
    return time.monotonic() - began


async def _on_tape(stack: Stack) -> list[int]:
    """Read the rows from the tape itself."""
    url = f"nats://127.0.0.1:{stack.state['ports']['nats']}"
    rows: list[int] = []
    async with connect(url, stack.secrets["nats_token"], "test") as nats:
        tape, after = Tape(nats, DATASET), 0
        while entries := await tape.read(after):
            for entry in entries:
                for batch in decode_payload(entry.entry.payload):
                    rows += batch["sequence"].tolist()
            after = entries[-1].sequence
    return rows


async def test_a_kill_of_any_process_loses_and_doubles_nothing(stack: Stack) -> None:
    traffic = Traffic()
    subscribed = asyncio.Event()
    async with (
        Client.connect(stack.url, stack.secrets["api_key"]) as writing,
        Client.connect(stack.url, stack.secrets["api_key"]) as reading,
    ):
        await writing.put_instruments(DATASET, [Instrument(symbol="N")])
        subscriber = asyncio.create_task(traffic.subscribe(reading, subscribed))
        await asyncio.wait_for(subscribed.wait(), 10)
        producer = asyncio.create_task(traffic.produce(writing))
        await _goes_on(traffic)
        for name in ("nats", "auth", "ingestion", "archive", "query", "history", "gateway", "sim-feed"):
            before = stack.pid(name)
            assert before is not None
            os.kill(before, signal.SIGKILL)
            await _goes_on(traffic)
            assert not producer.done()
            assert not subscriber.done()
        traffic.stop.set()
        await asyncio.wait_for(producer, 20)
        async with asyncio.timeout(20):
            while len(traffic.received) < traffic.published:
                await asyncio.sleep(0.02)
        subscriber.cancel()
    everything = list(range(traffic.published))
    assert traffic.acknowledged == traffic.published
    assert await _on_tape(stack) == everything
    assert traffic.received == everything


def test_what_died_was_started_again(stack: Stack) -> None:
    status = stack.mda("status", "--output", "json")
    restarts = {process["name"]: process["restarts"] for process in _processes(status.stdout)}
    assert all(count >= 1 for count in restarts.values()), restarts


def _processes(text: str) -> list[dict[str, Any]]:
    return json.loads(text)["processes"]
