"""`mda conformance` beside three subscribers: each receives what the command says, once and in order."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import numpy as np
import pytest

from marketdata.client import Client
from marketdata.columns import ABSENT, NANOS, Batch, Kind
from marketdata.digest import Digest, digest_of
from marketdata.subscriber import Start, Update
from mda.feeds.conformance import TwoConnections, scenario
from mda.feeds.conformance_rows import AMBER, PROFILES
from tests.stack.conftest import Stack
from tests.stack.test_publish import quotes

DATASET = "CONFORMANCE"
SYMBOL = PROFILES[AMBER - 1].symbol
ROWS = "20000"


class Received:
    """What a subscriber has received."""

    def __init__(self) -> None:
        self.digests = dict.fromkeys(Kind, Digest())
        self.receipts_went_back = False
        self.heartbeats = 0
        self.connections = 1
        self._received = 0

    @property
    def total(self) -> Digest:
        return sum(self.digests.values(), Digest())

    def take(self, update: Update) -> None:
        self.heartbeats += update.watermark is not None
        for batch in update.batches:
            self.digests[batch.kind] += digest_of(batch)
            receipts = batch["ts_recv"][batch["ts_recv"] != ABSENT]
            self.receipts_went_back |= bool((np.diff(receipts, prepend=self._received) < 0).any())
            self._received = int(receipts[-1]) if len(receipts) else self._received


async def _follow(client: Client, start: str, symbols: Sequence[str] | None, received: Received) -> None:
    async for update in client.subscribe(DATASET, symbols, Start(cursor=start)):
        received.take(update)


async def _follow_in_pieces(client: Client, start: str, received: Received) -> None:
    """Break off after every few updates, and go on by the cursor."""
    while True:
        subscriber = client.subscribe(DATASET, None, Start(cursor=start))
        updates: Any = aiter(subscriber)
        for _ in range(4):
            received.take(await anext(updates))
        await updates.aclose()
        start = subscriber.cursor
        received.connections += 1


async def _now(client: Client) -> str:
    await client.put_instruments(DATASET, [PROFILES[AMBER - 1].instrument()])
    updates: Any = aiter(client.subscribe(DATASET))
    cursor = (await anext(updates)).cursor
    await updates.aclose()
    return cursor


async def _until(received: Received, rows: int) -> None:
    async with asyncio.timeout(30):
        while received.total.rows < rows:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)  # for rows that are too many


def _told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def _facts(digest: Digest) -> dict[str, Any]:
    return {"rows": digest.rows, "digest": digest.hex}


@pytest.fixture
async def readers(client: Client) -> AsyncGenerator[list[Received]]:
    """Give what subscribers receive: of all symbols, of one, and of all in pieces."""
    start = await _now(client)
    received = [Received(), Received(), Received()]
    tasks = [
        asyncio.create_task(_follow(client, start, None, received[0])),
        asyncio.create_task(_follow(client, start, [SYMBOL], received[1])),
        asyncio.create_task(_follow_in_pieces(client, start, received[2])),
    ]
    yield received
    for task in tasks:
        task.cancel()
    assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True))


@pytest.mark.parametrize(("seed", "speed"), [("1", "0"), ("2", "2")])
async def test_subscribers_receive_what_the_command_says(
    stack: Stack, readers: list[Received], seed: str, speed: str
) -> None:
    options = ("--rows", ROWS, "--seed", seed, "--speed", speed, "--output", "json")
    told = _told(await asyncio.to_thread(stack.mda, "conformance", *options))
    assert told["server_agrees"]
    assert told["server"] == told["kinds"]
    everything, one, pieces = readers
    counts = (told["rows"], told["symbols"][SYMBOL]["rows"], told["rows"])
    for received, wanted in zip(readers, counts, strict=True):
        await _until(received, wanted)
        assert not received.receipts_went_back
    assert _facts(everything.total) == _facts(pieces.total) == {"rows": told["rows"], "digest": told["digest"]}
    assert {"quotes": _facts(everything.digests[Kind.QUOTE]), "trades": _facts(everything.digests[Kind.TRADE])} == (
        told["kinds"]
    )
    assert _facts(one.total) == told["symbols"][SYMBOL]
    assert pieces.connections > 5
    assert everything.heartbeats >= (speed != "0")
    _check_faults(told)


def _check_faults(told: dict[str, Any]) -> None:
    faults = told["faults"]
    assert [fault["first_row"] for fault in faults] == [1, *(fault["last_row"] + 1 for fault in faults[:-1])]
    assert faults[-1]["last_row"] == told["rows"]
    assert sum(int(fault["digest"], 16) for fault in faults) % (1 << 128) == int(told["digest"], 16)
    dead = {fault["step"] for fault in faults if fault["unacknowledged_rows"]}
    assert dead >= {"crash-sending", "two-connections"}
    assert "crash-between" not in dead


async def test_rows_of_another_producer_are_noticed(stack: Stack, client: Client) -> None:
    await _now(client)
    publishing = asyncio.create_task(_interfere(client))
    done = await asyncio.to_thread(stack.mda, "conformance", "--rows", "1000", "--speed", "0", check=False)
    publishing.cancel()
    assert done.returncode == 1
    assert "Does another producer publish in CONFORMANCE" in done.stdout
    assert "crash-unacknowledged" in done.stdout


async def _interfere(client: Client) -> None:
    async with client.publisher(DATASET, "another") as publisher:
        while True:
            await publisher.publish(quotes(1))
            await asyncio.sleep(0.01)


async def test_people_get_a_table_of_the_rows_of_a_seed_and_a_start(stack: Stack, client: Client) -> None:
    start_ns = 1_700_000_000 * NANOS
    options = ("--rows", "1000", "--seed", "3", "--speed", "0", "--producer", "mine", "--start", str(start_ns))
    shown = (await asyncio.to_thread(stack.mda, "conformance", *options)).stdout
    assert "The server has the same digests." in shown
    assert "producer mine" in shown
    assert "NEW.mine" in shown
    ids = {instrument.symbol: instrument.instrument_id for instrument in await client.list_instruments(DATASET)}
    assert _made(3, 1_000, start_ns, AMBER, ids[SYMBOL]).hex in shown


def _made(seed: int, rows: int, start_ns: int, place: int, number: int) -> Digest:
    """Return the digest of an instrument's rows as the scenario makes them."""
    total = Digest()
    for _, events in scenario(seed, rows, start_ns):
        for event in events:
            batch = event.batch if isinstance(event, TwoConnections) else event
            if isinstance(batch, Batch):
                named = batch.take(batch["instrument_id"] == place)
                ids = np.full(named.rows, number, np.uint32)
                total += digest_of(Batch(named.kind, named.rows, {**named.columns, "instrument_id": ids}))
    return total
