"""Publishes the conformance scenario, and tells what a client must have received."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from marketdata.client import Client
from marketdata.columns import ABSENT, Batch, Kind, concatenate
from marketdata.digest import Digest, digest_of
from mda.feeds.conformance import Crash, Event, NewInstrument, Pause, Step, TwoConnections, scenario
from mda.feeds.conformance_producer import Producer
from mda.feeds.conformance_rows import FIRST, KINDS, PROFILES

_SYMBOL_LENGTH: Final = 64
_ROWS_AT_ONCE: Final = 1 << 16
_BATCHES_AT_ONCE: Final = 1_000
_VISIBLE_S: Final = 15.0
"""How long to wait for what is durable to be readable, in seconds."""
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """What to publish, and where.

    Attributes
    ----------
    dataset, producer
        As in `Client.publisher`.
    seed, rows, start_ns
        As in `scenario`.
    speed
        How fast pauses go by: 1 as they are, 2 twice as fast; 0 for no pauses.
    """

    dataset: str
    producer: str
    seed: int
    rows: int
    start_ns: int
    speed: float = 0.0

    def symbol(self, place: int) -> str:
        """Return an instrument's symbol; one that comes in mid-stream is a new one for each producer."""
        name = PROFILES[place - 1].symbol
        return name if place in FIRST else f"{name}.{self.producer}"[:_SYMBOL_LENGTH]


class Tally:
    """Adds up rows: a digest of all, of each kind and of each instrument id."""

    def __init__(self) -> None:
        self.kinds: dict[Kind, Digest] = dict.fromkeys(KINDS, Digest())
        self.instruments: defaultdict[int, Digest] = defaultdict(Digest)
        self._waiting: dict[Kind, list[Batch]] = {kind: [] for kind in KINDS}
        self._rows = 0
        self._batches = 0

    @property
    def total(self) -> Digest:
        """The digest of all rows, once they are settled."""
        return sum(self.kinds.values(), Digest())

    def add(self, batch: Batch) -> None:
        """Add a batch; small ones wait, as one digest costs less than many."""
        self._waiting[batch.kind].append(batch)
        self._rows += batch.rows
        self._batches += 1
        if self._rows >= _ROWS_AT_ONCE or self._batches >= _BATCHES_AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Add up what waits."""
        for kind, batches in self._waiting.items():
            if batches:
                self._settle(kind, concatenate(batches))
                batches.clear()
        self._rows = self._batches = 0

    def _settle(self, kind: Kind, batch: Batch) -> None:
        ids = batch["instrument_id"]
        for number in np.unique(ids).tolist():
            digest = digest_of(batch.take(ids == number))
            self.instruments[number] += digest
            self.kinds[kind] += digest


@dataclass(slots=True)
class Fault:
    """What became of a step. Rows and batches are counted from 1, in the order of the stream.

    Attributes
    ----------
    step
        Which.
    first_row
        Its first row.
    digest
        Of its rows.
    first_batch, last_batch
        The producer's numbers of its batches.
    first_sequence, last_sequence
        The least and the largest `sequence` of its rows.
    unacknowledged_rows, sent_again
        As a `Producer` counts them.
    paused_s
        How long it paused, in seconds.
    """

    step: Step
    first_row: int
    digest: Digest = field(default_factory=Digest)
    first_batch: int = 0
    last_batch: int = 0
    first_sequence: int = ABSENT
    last_sequence: int = 0
    unacknowledged_rows: int = 0
    sent_again: int = 0
    paused_s: float = 0.0

    @property
    def last_row(self) -> int:
        """Its last row."""
        return self.first_row + self.digest.rows - 1

    def count(self, number: int, batch: Batch) -> None:
        """Count a batch in."""
        self.first_batch = self.first_batch or number
        self.last_batch = number
        numbered = batch["sequence"][batch["sequence"] != ABSENT]
        if len(numbered):
            self.first_sequence = min(self.first_sequence, int(numbered.min()))
            self.last_sequence = max(self.last_sequence, int(numbered.max()))


@dataclass(frozen=True, slots=True)
class Report:
    """What a client must have received.

    Attributes
    ----------
    plan
        What was asked for.
    first_cursor, last_cursor
        The stretch of the tape: after the one, up to the other.
    kinds, symbols
        The digests of what was published.
    stored
        The server's digests of the stretch, by kind.
    faults
        The steps.
    """

    plan: Plan
    first_cursor: str
    last_cursor: str
    kinds: dict[Kind, Digest]
    symbols: dict[str, Digest]
    stored: dict[Kind, Digest]
    faults: list[Fault]

    @property
    def total(self) -> Digest:
        """The digest of all rows."""
        return sum(self.kinds.values(), Digest())

    @property
    def agreed(self) -> bool:
        """Whether the server has what was published: every row, each as often."""
        return self.stored == self.kinds


async def run(client: Client, plan: Plan) -> Report:
    """Publish the scenario; return what a client must have received.

    Raises
    ------
    ApiError
        If the server refuses.
    ConformanceError
        If it did what it may not.
    """
    symbols = _Symbols(client, plan)
    for place in FIRST:
        await symbols.put(place)
    first_cursor = await _now(client, plan.dataset)
    tally = Tally()
    async with Producer.open(client, plan.dataset, plan.producer) as producer:
        playing = _Playing(producer, symbols, tally, plan.speed)
        faults = [await playing.play(step, events) for step, events in scenario(plan.seed, plan.rows, plan.start_ns)]
    last_cursor = await _end(client, plan.dataset, first_cursor, tally.total.rows)
    stored = {
        kind: (await client.digest(plan.dataset, kinds=[kind], after=first_cursor, until=last_cursor))[0]
        for kind in KINDS
    }
    by_symbol = {symbols.names[number]: digest for number, digest in sorted(tally.instruments.items())}
    return Report(plan, first_cursor, last_cursor, tally.kinds, by_symbol, stored, faults)


class _Symbols:
    """The ids of the instruments that were put."""

    def __init__(self, client: Client, plan: Plan) -> None:
        self._client = client
        self._plan = plan
        self._ids = np.zeros(len(PROFILES) + 1, np.uint32)
        self.names: dict[int, str] = {}

    async def put(self, place: int) -> None:
        wanted = PROFILES[place - 1].instrument(self._plan.symbol(place))
        (known,) = await self._client.put_instruments(self._plan.dataset, [wanted])
        self._ids[place] = known.instrument_id
        self.names[known.instrument_id] = known.symbol

    def named(self, batch: Batch) -> Batch:
        """Return a batch whose instruments are named by id, not by place."""
        ids = self._ids[batch["instrument_id"]]
        return Batch(batch.kind, batch.rows, {**batch.columns, "instrument_id": ids})


class _Playing:
    """Does what the events say, step by step."""

    def __init__(self, producer: Producer, symbols: _Symbols, tally: Tally, speed: float) -> None:
        self._producer = producer
        self._symbols = symbols
        self._tally = tally
        self._speed = speed

    async def play(self, step: Step, events: Iterator[Event]) -> Fault:
        """Do a step; return what became of it, once it is durable."""
        producer, before = self._producer, self._tally.total
        dead_before = producer.unacknowledged_rows, producer.sent_again
        fault = Fault(step, before.rows + 1)
        for event in events:
            await self._do(event, fault)
        await producer.flush()
        fault.unacknowledged_rows = producer.unacknowledged_rows - dead_before[0]
        fault.sent_again = producer.sent_again - dead_before[1]
        self._tally.settle()
        after = self._tally.total
        fault.digest = Digest((after.value - before.value) % (1 << 128), after.rows - before.rows)
        return fault

    async def _do(self, event: Event, fault: Fault) -> None:
        match event:
            case Batch():
                batch = self._symbols.named(event)
                self._count(fault, await self._producer.publish(batch), batch)
            case Pause() if self._speed:
                fault.paused_s += await _sleep(event.seconds / self._speed)
            case Pause():
                await asyncio.sleep(0)
            case NewInstrument():
                await self._symbols.put(event.place)
            case Crash():
                await self._crash(event.after_s)
            case TwoConnections():
                batch = self._symbols.named(event.batch)
                self._count(fault, await self._producer.take_over(batch), batch)

    async def _crash(self, after_s: float | None) -> None:
        if after_s is None:
            await self._producer.flush()
        elif after_s:  # a sleep of 0 would give the sender its turn
            await asyncio.sleep(after_s)
        await self._producer.crash()

    def _count(self, fault: Fault, number: int, batch: Batch) -> None:
        fault.count(number, batch)
        self._tally.add(batch)


async def _sleep(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


async def _now(client: Client, dataset: str) -> str:
    """Return the cursor of now, as a subscription that starts now is told."""
    async with aclosing(aiter(client.subscribe(dataset))) as updates:
        return (await anext(updates)).cursor


async def _end(client: Client, dataset: str, after: str, rows: int) -> str:
    """Return the cursor after so many rows, as soon as the server gives them out."""
    deadline = time.monotonic() + _VISIBLE_S
    found, cursor = await client.digest(dataset, after=after)
    while found.rows < rows and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_S)
        more, cursor = await client.digest(dataset, after=cursor)
        found += more
    return cursor
