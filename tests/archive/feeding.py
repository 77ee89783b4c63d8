"""Tapes to archive, and archives of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from nats.aio.client import Client

from marketdata.columns import Batch, Kind
from marketdata.digest import Digest, digest_of
from marketdata.v1.gap_pb2 import Gap
from mda.archive.archiver import Archiver
from mda.archive.settings import ArchiveSettings
from mda.ingestion.appender import Appender
from mda.lake.lake import Lake
from mda.lake.location import Location
from mda.tape.payload import encode_gaps, encode_payload
from mda.tape.tape import Entry, InstrumentLog, Retention, Tape
from tests.tape.helpers import eventually, new_name, quotes, running, trades

DAY_NS = 86_400_000_000_000


class Feed:
    """Writes entries of random rows, and knows their digest."""

    def __init__(self, client: Client, seed: int = 1) -> None:
        self.client = client
        self.dataset = new_name("L")
        self.tape = Tape(client, self.dataset)
        self.instruments = InstrumentLog(client, self.dataset)
        self.digest = Digest()
        self.batches: list[Batch] = []
        self._random = np.random.default_rng(seed)
        self._appender = Appender(self.tape, "feed")
        self._number = 0
        self._sequence = 0

    async def create(self) -> None:
        await self.tape.create(Retention(1 << 28, 1))
        await self.instruments.create(Retention(1 << 20, 1))

    async def write(self, *batches: Batch, gaps: list[Gap] | None = None) -> int:
        """Append an entry; return its place."""
        self._number += 1
        payload = encode_gaps(gaps or []) + encode_payload(batches)
        sequence = await self._appender.append(Entry(self._number, self._number, 1, payload))
        self.batches += batches
        self.digest = sum(map(digest_of, batches), self.digest)
        return sequence

    async def write_some(self, entries: int, rows: int = 20, days: int = 1) -> None:
        """Append entries of quotes and trades of three instruments."""
        for _ in range(entries):
            await self.write(self.some(quotes, rows, days), self.some(trades, rows // 2 + 1, days))

    def some(self, make: Any, rows: int, days: int = 1) -> Batch:
        self._sequence += rows
        batch = make(self._sequence, rows, instrument_id=self._random.integers(1, 4, rows))
        times = batch["ts_event"] + self._random.integers(0, days, rows) * DAY_NS
        delay = self._random.integers(0, 1000, rows)
        return Batch(batch.kind, rows, {**batch.columns, "ts_event": times, "ts_recv": times + delay})


async def make_feed(client: Client, seed: int = 1) -> Feed:
    feed = Feed(client, seed)
    await feed.create()
    return feed


def settings(**values: object) -> ArchiveSettings:
    return ArchiveSettings.model_validate({"flush_s": 0.05, "compact_s": 3600.0, "vacuum_hours": 24} | values)


class Archivable(Protocol):
    """What has a tape."""

    client: Client
    dataset: str
    tape: Tape


def archiver_of(feed: Archivable, folder: Path, **values: object) -> Archiver:
    return Archiver(feed.client, feed.dataset, Location(str(folder)), settings(**values))


@asynccontextmanager
async def archiving(feed: Archivable, folder: Path, **values: object) -> AsyncIterator[Archiver]:
    """Archive beside the body."""
    archiver = archiver_of(feed, folder, **values)
    async with running(archiver.run()):
        yield archiver


async def caught_up(archiver: Archiver, feed: Archivable) -> Lake:
    """Wait until all is in the lake; return that."""
    bounds = await feed.tape.bounds()
    assert bounds is not None
    await eventually(lambda: archiver.archived >= bounds.last, within_s=30)
    return Lake(archiver._location, feed.dataset, bounds.epoch)


def digest_of_lake(lake: Lake) -> Digest:
    """Return the digest of all rows of a lake, read in the order of the tape."""
    view = lake.view(fresh=True)
    found = [lake.stretch(view, kind, 1, view.archived) for kind in Kind]
    return sum((digest_of(placed.batch) for placed in found if placed is not None), Digest())
