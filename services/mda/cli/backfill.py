"""`mda ingest --backfill`: of the rows of files, those that fill open gaps, and no others."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from marketdata.client import Client
from marketdata.columns import ABSENT, MAX_ROWS, Batch, concatenate
from marketdata.v1.gap_pb2 import Gap

MOST_ROWS: Final = 4 << 20
"""A gap of more rows is not filled: they are held until all are there."""


@dataclass(slots=True)
class Filling:
    """An open gap, and the rows of the files that are missing in it.

    Attributes
    ----------
    gap
        The gap.
    batches
        The rows, in the order of the files.
    """

    gap: Gap
    batches: list[Batch] = field(default_factory=list[Batch])

    @property
    def missing(self) -> int:
        """How many rows are missing."""
        return self.gap.last_sequence - self.gap.first_sequence + 1

    @property
    def found(self) -> int:
        """How many of them the files have, each number once."""
        return len(np.unique(self._numbers()))

    def take(self, batch: Batch) -> None:
        """Keep the rows of a batch that are missing here."""
        if self.missing > MOST_ROWS or (self.gap.kind and self.gap.kind != batch.kind):
            return
        numbers = batch["sequence"]
        wanted = (numbers >= np.uint64(self.gap.first_sequence)) & (numbers <= np.uint64(self.gap.last_sequence))
        wanted &= numbers != np.uint64(ABSENT)
        if self.gap.instrument_id:
            wanted &= batch["instrument_id"] == self.gap.instrument_id
        if wanted.any():
            self.batches.append(batch.take(wanted))

    def rows(self) -> Iterator[Batch]:
        """Yield the rows in batches: of each kind by their numbers, each number once."""
        for kind in sorted({batch.kind for batch in self.batches}):
            whole = concatenate([batch for batch in self.batches if batch.kind is kind])
            whole = whole.take(np.unique(whole["sequence"], return_index=True)[1])
            yield from (whole.slice(at, min(at + MAX_ROWS, whole.rows)) for at in range(0, whole.rows, MAX_ROWS))

    def closed(self, now_ns: int) -> Gap:
        """Return the record that closes the gap."""
        closed = Gap()
        closed.CopyFrom(self.gap)
        closed.state = Gap.STATE_CLOSED
        closed.close_time.CopyFrom(Timestamp(seconds=now_ns // 10**9, nanos=now_ns % 10**9))
        return closed

    def producer(self) -> str:
        """Return the name of the producer that fills it: the same rows in the same gap have the same one.

        So a run that broke off goes on where it was, and none puts a row there twice.
        """
        digest = hashlib.sha256(self.gap.SerializeToString(deterministic=True))
        for batch in self.rows():
            for name in sorted(batch.columns):
                digest.update(name.encode())
                digest.update(batch.columns[name].tobytes())
        return f"backfill-{digest.hexdigest()[:32]}"

    def _numbers(self) -> NDArray[np.uint64]:
        return np.concatenate([np.empty(0, np.uint64), *(batch["sequence"] for batch in self.batches)])


async def open_gaps(client: Client, dataset: str) -> list[Filling]:
    """Return what may be filled in a dataset: gaps in sequence numbers that are open, the oldest first."""
    gaps = await client.gaps(dataset, open_only=True)
    return [Filling(gap) for gap in reversed(gaps) if gap.cause == Gap.CAUSE_SEQUENCE and gap.last_sequence]


async def gather(fillings: Sequence[Filling], batches: AsyncGenerator[Batch]) -> int:
    """Keep the rows of a file that are missing somewhere; return how many rows it has."""
    rows = 0
    async for batch in batches:
        rows += batch.rows
        for filling in fillings:
            filling.take(batch)
    return rows


async def fill(client: Client, dataset: str, fillings: Iterable[Filling]) -> tuple[int, int]:
    """Publish the rows of the gaps that can be filled wholly, and close these; return how many of both."""
    rows = gaps = 0
    for filling in fillings:
        if not filling.batches or filling.found < filling.missing:
            continue
        async with client.publisher(dataset, filling.producer()) as publisher:
            there = publisher.last_number
            batches = list(filling.rows())
            for batch in batches[there:]:
                await publisher.publish(batch)
                rows += batch.rows
            if there <= len(batches):
                await publisher.publish(None, gaps=[filling.closed(time.time_ns())])
        gaps += 1
    return rows, gaps
