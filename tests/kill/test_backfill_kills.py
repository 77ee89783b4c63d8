"""`mda ingest --backfill` is killed over and over: each missing row comes once, and no gap closes before its rows."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from marketdata.client import Client
from marketdata.columns import NANOS, Batch, Kind, make_batch
from marketdata.digest import digest_of
from marketdata.v1.gap_pb2 import Gap
from marketdata.v1.instrument_pb2 import Instrument
from mda.tape.connection import connect
from mda.tape.payload import decode_payload, split_payload
from mda.tape.tape import Tape
from tests.stack.conftest import MDA, Stack, start

SEED = 20261130
DATASET = "HOLES"
SYMBOLS = [f"H{i}" for i in range(5)]
GAPS = 30
GAP_ROWS = (2_000, 6_000)
ROWS_BETWEEN = (50, 500)
WITH_CROSSED = {3, 14, 15}
"""Gaps of which some rows are set aside."""
WITH_LATE = {5, 15, 22}
"""Gaps of which some rows come late, from the producer itself."""
FIRST_NS = 1_767_225_600 * NANOS
REACHES = (0, 6, 12, 25, 40, 60, 80)
"""How many entries of the tape come at the most before a kill: one for each gap that a run before has filled, first."""
INGESTION_DIES = {25, 60}
REACHES_ONCE_RELEASED = (2, 6)


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stack]:
    running = start(tmp_path_factory.mktemp("backfill"), "--no-feed", covered=False)
    try:
        yield running
    finally:
        running.mda("down")


class Source:
    """Numbered rows of a source, and gaps among them: trades between the gaps, trades and quotes within."""

    def __init__(self) -> None:
        chance = np.random.default_rng(SEED)
        between, missing = chance.integers(*ROWS_BETWEEN, GAPS + 1), chance.integers(*GAP_ROWS, GAPS)
        lengths = np.append(np.ravel(np.column_stack((between[:-1], missing))), between[-1])
        edges = 1 + np.concatenate(([0], np.cumsum(lengths)))
        self.rows = int(edges[-1]) - 1
        self.gaps = [*zip(edges[1:-1:2].tolist(), (edges[2::2] - 1).tolist(), strict=True)]
        self.stretches = [*zip(edges[:-1:2].tolist(), edges[1::2].tolist(), strict=True)]
        self._numbers = np.arange(1, self.rows + 1)
        self._prices = chance.integers(2, 1 << 20, self.rows)
        place = np.searchsorted(edges, self._numbers, side="right") - 1  # odd ones are in gaps
        self._quotes = (place % 2 == 1) & (chance.random(self.rows) < 0.6)
        with_crossed = np.isin(place // 2, [*WITH_CROSSED])
        self._crossed = self._quotes & with_crossed & (chance.random(self.rows) < 0.01)
        with_late = np.isin(place // 2, [*WITH_LATE]) & (place % 2 == 1)
        self.late = np.flatnonzero(with_late & ~self._quotes & (chance.random(self.rows) < 0.1))

    @property
    def crossed_gaps(self) -> list[tuple[int, int]]:
        """The gaps of which some rows are set aside."""
        return [self.gaps[place] for place in sorted(WITH_CROSSED)]

    def batches(self) -> list[Batch]:
        """Return all rows, by their kinds."""
        quotes, trades = np.flatnonzero(self._quotes), np.flatnonzero(~self._quotes)
        prices = {"bid_price": self._prices[quotes] * NANOS, "ask_price": self._asks[quotes] * NANOS}
        return [self.trades(trades), make_batch(Kind.QUOTE, {**self._columns(quotes), **prices})]

    def trades(self, which: NDArray[np.int64]) -> Batch:
        """Return trades, by where they are among the rows."""
        return make_batch(Kind.TRADE, {**self._columns(which), "price": self._prices[which] * NANOS})

    def write(self, folder: Path) -> list[str]:
        """Write all rows to files, by their kinds; return the paths."""
        columns: dict[str, NDArray[Any]] = {
            "time": FIRST_NS + self._numbers,
            "symbol": np.array(SYMBOLS)[self._numbers % len(SYMBOLS)],
            "sequence": self._numbers,
        }
        quotes, trades = {"bid": self._prices, "ask": self._asks}, {"price": self._prices}
        for name, more, which in (("quotes", quotes, self._quotes), ("trades", trades, ~self._quotes)):
            table = pa.table({key: pa.array(values[which]) for key, values in {**columns, **more}.items()})
            pq.write_table(table, folder / f"{name}.parquet")
        return [str(folder / "quotes.parquet"), str(folder / "trades.parquet")]

    @property
    def _asks(self) -> NDArray[np.int64]:
        return self._prices + np.where(self._crossed, -1, 1)

    def _columns(self, which: NDArray[np.int64]) -> dict[str, Any]:
        numbers = self._numbers[which]
        return {
            "instrument_id": numbers % len(SYMBOLS) + 1,
            "ts_event": FIRST_NS + numbers,
            "sequence": numbers,
        }


@dataclass
class Killer:
    """Runs the command and kills it, after as many entries of the tape as chance wants.

    Attributes
    ----------
    in_midst
        How often a run had written something and was not over.
    """

    stack: Stack
    tape: Tape
    files: list[str]
    chance: random.Random
    in_midst: int = 0

    async def kill(self, reaches: Iterable[int]) -> None:
        """Kill run after run; each may get so far at the most."""
        for reach in reaches:
            before = await self._newest()
            process = await self._start()
            if reach in INGESTION_DIES:
                await self._reach(process, before + self.chance.randint(1, reach))
                ingestion = self.stack.pid("ingestion")
                assert ingestion is not None
                os.kill(ingestion, signal.SIGKILL)
            await self._reach(process, before + self.chance.randint(reach // 2, reach))
            await asyncio.sleep(self.chance.uniform(0, 0.01))
            if process.returncode is None:
                process.kill()
                self.in_midst += await self._newest() > before
            await process.communicate()

    async def run(self) -> tuple[int, str]:
        """Run it until it ends; return its exit code, and what it says."""
        process = await self._start()
        told, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, told.decode()

    async def _start(self) -> Process:
        address = ("--data", str(self.stack.data))
        command = ("ingest", *self.files, "--dataset", DATASET, "--yes", "--backfill", *address)
        return await asyncio.create_subprocess_exec(MDA, *command, stdout=PIPE, stderr=DEVNULL)

    async def _reach(self, process: Process, entry: int) -> None:
        async with asyncio.timeout(30):
            while process.returncode is None and await self._newest() < entry:
                await asyncio.sleep(0.005)

    async def _newest(self) -> int:
        bounds = await self.tape.bounds()
        return 0 if bounds is None else bounds.last


@dataclass(frozen=True)
class OnTape:
    """What stands on the tape: the number of each row, the places of their entries, and gaps with theirs."""

    numbers: NDArray[np.int64]
    places: NDArray[np.int64]
    gaps: list[tuple[int, Gap]]

    @classmethod
    async def read(cls, tape: Tape) -> OnTape:
        numbers: list[NDArray[Any]] = []
        places: list[NDArray[Any]] = []
        gaps: list[tuple[int, Gap]] = []
        after = 0
        while entries := await tape.read(after):
            after = entries[-1].sequence
            for stored in entries:
                gaps += [(stored.sequence, gap) for gap in split_payload(stored.entry.payload)[0]]
                for batch in decode_payload(stored.entry.payload):
                    numbers.append(batch["sequence"].astype(np.int64))
                    places.append(np.full(batch.rows, stored.sequence))
        return cls(np.concatenate(numbers), np.concatenate(places), gaps)

    def closings(self) -> dict[tuple[int, int], list[int]]:
        """Return the places of the records that close the producer's gaps."""
        found: dict[tuple[int, int], list[int]] = {}
        for place, gap in self.gaps:
            if gap.producer == "lossy" and gap.state == Gap.STATE_CLOSED:
                found.setdefault((gap.first_sequence, gap.last_sequence), []).append(place)
        return found

    def check_closings(self) -> None:
        """Fail where a gap was closed twice, or before each of its rows was there."""
        for (first, last), places in self.closings().items():
            rows = (self.numbers >= first) & (self.numbers <= last)
            assert len(places) == 1
            assert np.array_equal(np.unique(self.numbers[rows & (self.places < places[0])]), np.arange(first, last + 1))


async def lose_rows(stack: Stack, client: Client, source: Source) -> None:
    """Make the dataset, and publish what is between the gaps, and then some of what is in them."""
    await client.put_instruments(DATASET, [Instrument(symbol=symbol) for symbol in SYMBOLS])
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {await client.token()}"}) as http:
        policy = {"sequence_rule": "SEQUENCE_RULE_CONTIGUOUS", "crossed": "ACTION_QUARANTINE"}
        put = await http.post(f"{stack.url}/v1/datasets/{DATASET}/policy", json={"policy": policy})
    assert put.status_code == 200, put.text
    async with client.publisher(DATASET, "lossy") as publisher:
        for first, end in source.stretches:
            await publisher.publish(source.trades(np.arange(first - 1, end - 1)))
        await publisher.publish(source.trades(source.late))


async def open_gaps(client: Client) -> list[tuple[int, int]]:
    gaps = await client.gaps(DATASET, open_only=True)
    return sorted((gap.first_sequence, gap.last_sequence) for gap in gaps)


async def until_open(client: Client, wanted: list[tuple[int, int]]) -> None:
    """Wait until these gaps are open, and no others."""
    async with asyncio.timeout(20):
        while await open_gaps(client) != wanted:
            await asyncio.sleep(0.02)


@pytest.mark.timeout(300)
async def test_each_missing_row_comes_once_and_before_its_gap_is_closed(stack: Stack, tmp_path: Path) -> None:
    source = Source()
    url = f"nats://127.0.0.1:{stack.state['ports']['nats']}"
    async with (
        Client.connect(stack.url, stack.secrets["api_key"]) as client,
        connect(url, stack.secrets["nats_token"], "test") as nats,
    ):
        await lose_rows(stack, client, source)
        await until_open(client, source.gaps)
        tape = Tape(nats, DATASET)
        killer = Killer(stack, tape, source.write(tmp_path), random.Random(SEED))

        await killer.kill(REACHES)
        (await OnTape.read(tape)).check_closings()
        code, told = await killer.run()
        assert code == 1, told
        assert told.count("rows are set aside") == len(WITH_CROSSED)
        await until_open(client, source.crossed_gaps)
        (await OnTape.read(tape)).check_closings()

        await asyncio.to_thread(stack.mda, "quarantine", "release", DATASET, "--all")
        await killer.kill(REACHES_ONCE_RELEASED)
        code, told = await killer.run()
        assert code == 0, told
        await until_open(client, [])
        on_tape = await OnTape.read(tape)
        digest, _ = await client.digest(DATASET)
    assert np.array_equal(np.sort(on_tape.numbers), np.arange(1, source.rows + 1))
    assert sorted(on_tape.closings()) == source.gaps
    on_tape.check_closings()
    trades, quotes = source.batches()
    assert digest == digest_of(trades) + digest_of(quotes)
    assert killer.in_midst > len(REACHES) // 2
