"""Callers, a producer and subscribers at work, each of which can prove what it has and tell how long it waited."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from marketdata.backoff import Backoff
from marketdata.client import Client
from marketdata.digest import Digest, digest_of
from marketdata.errors import ApiError
from marketdata.publisher import Publisher
from marketdata.query.v1.query_service_pb2 import GetLatestQuotesRequest
from marketdata.subscriber import Start
from marketdata.v1.instrument_pb2 import Instrument
from tests.kill.traffic import INSTRUMENTS, random_batch

CALLS_PER_S: Final = 100
SUBSCRIPTIONS: Final = 50
CONNECTIONS: Final = 8
BATCHES_PER_S: Final = 10
CALL_LIMIT_S: Final = 30.0
"""A call that its retries have not brought to an end by then has failed."""


def cpu_times() -> tuple[int, int]:
    """Return for how long this thread has run, and waited for a processor, in nanoseconds; zeros where nobody tells."""
    try:
        ran, waited, _ = Path("/proc/thread-self/schedstat").read_text().split()
    except OSError:
        return 0, 0
    return int(ran), int(waited)


class Pauses:
    """The longest time that something did not go on, since it was last asked for."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._longest = 0.0

    def note(self) -> None:
        """Note that it goes on."""
        now = time.monotonic()
        self._longest = max(self._longest, now - self._last)
        self._last = now

    def take(self) -> float:
        """Return the longest pause, and begin anew."""
        longest = max(self._longest, time.monotonic() - self._last)
        self._last, self._longest = time.monotonic(), 0.0
        return longest


@dataclass
class Reader:
    """A lossless subscription, and what it has got."""

    rows: int = 0
    digest: Digest = field(default_factory=Digest)
    pauses: Pauses = field(default_factory=Pauses)
    subscribed: asyncio.Event = field(default_factory=asyncio.Event)
    cursor: str = ""

    async def run(self, client: Client, dataset: str) -> None:
        """Read for ever; the client goes on by cursor wherever it was broken off."""
        while True:
            async for update in client.subscribe(dataset, None, Start(cursor=self.cursor)):
                for batch in update.batches:
                    self.rows += batch.rows
                    self.digest += digest_of(batch)
                    self.pauses.note()
                self.cursor = update.cursor or self.cursor
                self.subscribed.set()


@dataclass
class Producer:
    """Publishes random batches, and adds up what it published."""

    rows: int = 0
    digest: Digest = field(default_factory=Digest)
    pauses: Pauses = field(default_factory=Pauses)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    acknowledged: int = 0

    async def run(self, client: Client, dataset: str) -> None:
        """Publish until told to stop, then wait until all is acknowledged."""
        chance = np.random.default_rng(1)
        async with client.publisher(dataset, "producer") as publisher:
            watching = asyncio.create_task(self._watch(publisher))
            while not self.stop.is_set():
                batch = random_batch(chance, self.rows)
                await publisher.publish(batch)
                self.rows += batch.rows
                self.digest += digest_of(batch)
                await asyncio.sleep(1 / BATCHES_PER_S)
            await publisher.flush()
            self.acknowledged = publisher.acknowledged_rows
            watching.cancel()

    async def _watch(self, publisher: Publisher) -> None:
        while True:
            if publisher.acknowledged_rows > self.acknowledged:
                self.acknowledged = publisher.acknowledged_rows
                self.pauses.note()
            await asyncio.sleep(0.02)


@dataclass
class Calls:
    """Unary calls at a steady rate, tried again as clients do."""

    done: int = 0
    retried: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    async def run(self, clients: list[Client], dataset: str) -> None:
        """Call for ever."""
        began, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._call(clients[number % len(clients)], dataset))
                number += 1
                await asyncio.sleep(max(0.0, began + number / CALLS_PER_S - time.monotonic()))

    async def _call(self, client: Client, dataset: str) -> None:
        began, backoff = time.monotonic(), Backoff()
        while True:
            try:
                await client._call(client._query.GetLatestQuotes, GetLatestQuotesRequest(dataset=dataset))
                break
            except ApiError as error:
                if not error.transient or time.monotonic() - began > CALL_LIMIT_S:
                    self.failed.append(str(error))
                    return
                self.retried[str(error)] += 1
                await asyncio.sleep(backoff.next_s())
        self.done += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)


@dataclass(frozen=True)
class Seen:
    """What a change cost, for people and for the tests' conditions."""

    seconds: float
    calls: int
    retried: Counter[str]
    failed: list[str]
    slowest_call_s: float
    readers_waited_s: float
    producer_waited_s: float
    stalled_s: float
    short_of_cpu: float
    """How long the test itself waited for a processor, for each second that it had one."""

    @property
    def recovery_s(self) -> float:
        """The longest time that anybody waited for anything."""
        return max(self.slowest_call_s, self.readers_waited_s, self.producer_waited_s)

    def __str__(self) -> str:
        """Return a line for the report."""
        return (
            f"{self.seconds:.0f} s, {self.calls} calls, {self.retried.total()} tried again, {len(self.failed)} failed; "
            f"longest wait: call {self.slowest_call_s:.1f} s, readers {self.readers_waited_s:.1f} s, "
            f"producer {self.producer_waited_s:.1f} s; the test itself stood {self.stalled_s:.1f} s, and waited "
            f"{self.short_of_cpu:.1f} s for each second of CPU"
            + "".join(f"\n    {count} x {error}" for error, count in self.retried.most_common(3))
        )


class Load:
    """What runs beside a change."""

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        self.readers = [Reader() for _ in range(SUBSCRIPTIONS)]
        self.producer = Producer()
        self.calls = Calls()
        self.stalls = Pauses()
        self._began = time.monotonic()
        self._ran, self._waited = cpu_times()

    async def watch_itself(self) -> None:
        """Note how long this very process does not go on, which is nobody else's fault."""
        while True:
            self.stalls.note()
            await asyncio.sleep(0.02)

    def begin(self) -> None:
        """Forget what was before a change."""
        self._began = time.monotonic()
        self.calls = self._fresh()
        for reader in self.readers:
            reader.pauses.take()
        self.producer.pauses.take()
        self.stalls.take()
        self._ran, self._waited = cpu_times()

    def _fresh(self) -> Calls:
        calls = self.calls
        calls.done, calls.slowest_s = 0, 0.0
        calls.failed.clear()
        calls.retried.clear()
        return calls

    def seen(self) -> Seen:
        """Return what was seen since `begin`."""
        ran, waited = cpu_times()
        return Seen(
            time.monotonic() - self._began,
            self.calls.done,
            self.calls.retried.copy(),
            list(self.calls.failed),
            self.calls.slowest_s,
            max(reader.pauses.take() for reader in self.readers),
            self.producer.pauses.take(),
            self.stalls.take(),
            (waited - self._waited) / max(1, ran - self._ran),
        )


@asynccontextmanager
async def load(url: str, api_key: str, ca: bytes, name: str) -> AsyncGenerator[Load]:
    """Put load on a gateway, with a new dataset; at the end, compare what everybody has.

    Raises
    ------
    AssertionError
        If a row is missing or there twice, or one of those at work has given up.
    """
    dataset = f"{name}-{time.time():.0f}"
    made = Load(dataset)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(Client.connect(url, api_key, root_certificates=ca))
            for _ in range(CONNECTIONS)
        ]
        await clients[0].put_instruments(dataset, [Instrument(symbol=f"S{i}") for i in range(INSTRUMENTS)])
        reading = [
            asyncio.create_task(reader.run(clients[number % CONNECTIONS], dataset))
            for number, reader in enumerate(made.readers)
        ]
        try:
            async with asyncio.timeout(30):
                await asyncio.gather(*(reader.subscribed.wait() for reader in made.readers))
            producing = asyncio.create_task(made.producer.run(clients[0], dataset))
            calling = asyncio.create_task(made.calls.run(clients, dataset))
            watching = asyncio.create_task(made.watch_itself())
            await asyncio.sleep(2)
            made.begin()
            yield made
            assert not any(task.done() for task in (*reading, producing, calling))
            calling.cancel()
            watching.cancel()
            made.producer.stop.set()
            await asyncio.wait_for(producing, 30)
            await _all_have(made)
            on_tape, _ = await clients[0].digest(dataset)
        finally:
            for task in reading:
                task.cancel()
    assert made.producer.acknowledged == made.producer.rows
    assert on_tape == made.producer.digest
    assert all(reader.digest == made.producer.digest for reader in made.readers)


async def _all_have(made: Load) -> None:
    async with asyncio.timeout(30):
        while any(reader.rows < made.producer.rows for reader in made.readers):
            await asyncio.sleep(0.05)
