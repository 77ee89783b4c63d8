"""The archive is killed over and over: subscriber, tape and lake have the same rows, each once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Generator
from typing import Any

import httpx
import numpy as np
import pytest

from marketdata.client import Client
from marketdata.columns import Batch, Kind, make_batch
from marketdata.digest import Digest, digest_of
from marketdata.publisher import AckLevel
from marketdata.v1.instrument_pb2 import Instrument
from mda.lake.lake import Lake
from mda.lake.location import Location
from tests.archive.feeding import digest_of_lake
from tests.kill.traffic import Lossless
from tests.stack.conftest import Stack, start

SEED = 20241124
KILLS = 20
ROWS = 1_000_000
BATCH = 2_000
INSTRUMENTS = 20
SETTINGS = {
    "MDA_ARCHIVE_FLUSH_S": "0.3",
    "MDA_ARCHIVE_COMPACT_S": "2",
    "MDA_ARCHIVE_TAPE_KEEP_BYTES": str(8 << 20),
    "MDA_QUERY_RING_BYTES": str(4 << 20),
}


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stack]:
    running = start(tmp_path_factory.mktemp("archive"), "--no-feed", covered=False, settings=SETTINGS)
    try:
        yield running
    finally:
        running.mda("down")


def some_rows(chance: np.random.Generator, first: int) -> Batch:
    columns: dict[str, Any] = {
        "instrument_id": chance.integers(1, INSTRUMENTS + 1, BATCH),
        "ts_event": time.time_ns() + np.arange(BATCH),
        "sequence": np.arange(first, first + BATCH),
    }
    price = chance.integers(1, 1 << 40, BATCH)
    if chance.random() < 0.3:
        return make_batch(Kind.TRADE, {**columns, "price": price, "size": price})
    return make_batch(Kind.QUOTE, {**columns, "bid_price": price, "ask_price": price + 1})


async def publish(client: Client, dataset: str, kills: asyncio.Task[None]) -> Digest:
    """Publish as many rows as there are to be, and more for as long as the kills go on; return their digest."""
    chance = np.random.default_rng(SEED)
    digest = Digest()
    async with client.publisher(dataset, "producer") as publisher:
        while digest.rows < ROWS or not kills.done():
            batch = some_rows(chance, digest.rows)
            await publisher.publish(batch)
            digest += digest_of(batch)
            await asyncio.sleep(0.05)
        await publisher.flush()
    return digest


async def kill(stack: Stack) -> None:
    """Kill the archive at random times, whatever it does just then."""
    chance = random.Random(SEED)
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.3, 2.5))
        pid = stack.pid("archive")
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


async def archived_all(stack: Stack, dataset: str, token: str) -> dict[str, Any]:
    """Wait until the lake has what the tape has; return the archive's status."""
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {token}"}) as http, asyncio.timeout(60):
        while True:
            answer = await http.get(f"{stack.url}/v1/datasets/{dataset}/archive")
            if answer.status_code == 200:
                status = answer.json()
                assert not status["problem"]
                if status["archived_sequence"] == status["tape_sequence"] != "0":
                    return status
            await asyncio.sleep(0.2)


@pytest.mark.timeout(300)
async def test_subscriber_tape_and_lake_have_the_same_rows(stack: Stack) -> None:
    reader, late = Lossless(), Lossless()
    async with Client.connect(stack.url, stack.secrets["api_key"]) as client:
        await client.put_instruments("ARCH", [Instrument(symbol=f"I{i}") for i in range(INSTRUMENTS)])
        reading = asyncio.create_task(reader.run(client, "ARCH"))
        await asyncio.wait_for(reader.subscribed.wait(), 20)
        kills = asyncio.create_task(kill(stack))
        sent = await publish(client, "ARCH", kills)
        await kills
        status = await archived_all(stack, "ARCH", stack.token(stack.secrets["api_key"]))
        # From before all that the tape still holds: through lake, tape and ring.
        assert int(status["tape_first_sequence"]) > 1
        late.cursor = reader.first_cursor
        reading_late = asyncio.create_task(late.run(client, "ARCH"))
        async with asyncio.timeout(60):
            while min(reader.rows, late.rows) < sent.rows:
                assert not reading.done()
                assert not reading_late.done()
                await asyncio.sleep(0.05)
        received = {reader.digest, late.digest}
        everything, _ = await client.digest("ARCH")
        async with client.publisher("ARCH", "seen", ack_level=AckLevel.VISIBLE) as publisher:
            batch = some_rows(np.random.default_rng(1), 0)
            await publisher.publish(batch)
            await publisher.flush()
        lake = Lake(Location(str(stack.data / "lake")), "ARCH", _epoch(stack))
        in_lake = digest_of_lake(lake)
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {await client.token()}"}, timeout=30) as http:
            verified = (await http.post(f"{stack.url}/v1/datasets/ARCH/archive:verify", json={})).json()
        reading.cancel()
        reading_late.cancel()
    assert sent.rows >= ROWS
    assert everything == sent
    assert received == {sent}
    assert in_lake == sent + digest_of(batch)
    assert verified["equal"]


def _epoch(stack: Stack) -> int:
    """Return the epoch of the tape, as the lake's log tells."""
    log = stack.data / "lake" / "ARCH" / "entries" / "_delta_log"
    text = "".join(file.read_text() for file in log.glob("*.json"))
    return int(text.partition('"appId":"tape:')[2].partition('"')[0])
