"""`mda ingest --backfill`: of the rows of files, those that fill open gaps, and no others."""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from marketdata.client import Client
from marketdata.columns import ABSENT, MAX_ROWS, Batch, Kind, concatenate
from marketdata.errors import ApiError, FencedError, InvalidRequestError
from marketdata.v1.gap_pb2 import Gap
from mda.cli.late_rows import MOST_RUNS, Late, Numbers, late_of, late_rows, runs_of, text_of

MOST_ROWS: Final = 4 << 20
"""A gap of more rows is not filled: they are held until all are there."""
_OURS: Final = re.compile(r"backfill-[0-9a-f]{32}")
"""Who fills gaps. It has all rows of one: where its own numbers seem to have holes, nothing is missing."""


@dataclass(slots=True)
class Filling:
    """An open gap, the rows of the files that are missing in it, and what became of them.

    Attributes
    ----------
    gap
        The gap.
    batches
        The rows, in the order of the files.
    late
        Those of the rows that came after all, from whoever left them out. They are not missing any more.
    producer
        Who fills it; empty until `fill` has begun with it.
    last_batch
        The number of its last batch of rows; the one after that closes the gap.
    there
        How many of the rows the server has, on the tape or set aside.
    set_aside
        How many of these wait in the quarantine.
    added
        How many this run has put on the tape.
    refusal
        Why the server did not take the others; None where it took all.
    closed
        Whether the gap is closed.
    """

    gap: Gap
    batches: list[Batch] = field(default_factory=list[Batch])
    late: Late = field(default_factory=dict[Kind, Numbers])
    producer: str = ""
    last_batch: int = 0
    there: int = 0
    set_aside: int = 0
    added: int = 0
    refusal: ApiError | None = None
    closed: bool = False

    @property
    def missing(self) -> int:
        """How many rows are missing."""
        return self.gap.last_sequence - self.gap.first_sequence + 1

    @property
    def found(self) -> int:
        """How many of them the files have, each number once."""
        return len(np.unique(self._numbers()))

    @property
    def is_whole(self) -> bool:
        """Whether the files have all of them."""
        return bool(self.batches) and self.found == self.missing

    @property
    def is_scattered(self) -> bool:
        """Whether late rows came in so many pieces that a run that breaks off could not be gone on with."""
        return runs_of(self.late) > MOST_RUNS

    @property
    def is_stuck(self) -> bool:
        """Whether somebody has to do something before it can be closed, although all rows were found."""
        return self.refusal is not None or self.set_aside > 0 or self.is_scattered

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
        """Yield the rows in batches: of each kind by their numbers, each number once, without the late ones.

        Where there are several kinds, or late rows, the row with the last number comes first. So the others are late.
        Else the holes in their numbers would each be a gap of the producer that fills this one.
        """
        kinds = [left for whole in self.whole() if (left := self._without_late(whole)).rows]
        if len(kinds) > 1 or (kinds and self.late):
            place = max(range(len(kinds)), key=lambda at: int(kinds[at]["sequence"][-1]))
            newest = kinds[place]
            yield newest.slice(newest.rows - 1, newest.rows)
            kinds[place] = newest.slice(0, newest.rows - 1)
        for whole in kinds:
            yield from (whole.slice(at, min(at + MAX_ROWS, whole.rows)) for at in range(0, whole.rows, MAX_ROWS))

    def whole(self) -> list[Batch]:
        """Return all rows that were found: of each kind by their numbers, each number once."""
        found: list[Batch] = []
        for kind in sorted({batch.kind for batch in self.batches}):
            whole = concatenate([batch for batch in self.batches if batch.kind is kind])
            found.append(whole.take(np.unique(whole["sequence"], return_index=True)[1]))
        return found

    def closing(self, now_ns: int) -> Gap:
        """Return the record that closes the gap."""
        closing = Gap()
        closing.CopyFrom(self.gap)
        closing.state = Gap.STATE_CLOSED
        closing.close_time.CopyFrom(Timestamp(seconds=now_ns // 10**9, nanos=now_ns % 10**9))
        return closing

    def _without_late(self, whole: Batch) -> Batch:
        late = self.late.get(whole.kind)
        return whole if late is None else whole.take(np.isin(whole["sequence"], late, invert=True))

    def _numbers(self) -> NDArray[np.uint64]:
        return np.concatenate([np.empty(0, np.uint64), *(batch["sequence"] for batch in self.batches)])


async def open_gaps(client: Client, dataset: str) -> list[Filling]:
    """Return what may be filled in a dataset: gaps in sequence numbers that are open, the oldest first.

    Those of producers that fill gaps are left out: their rows would be there twice.
    """
    gaps = await client.gaps(dataset, open_only=True)
    numbered = (gap for gap in reversed(gaps) if gap.cause == Gap.CAUSE_SEQUENCE and gap.last_sequence)
    return [Filling(gap) for gap in numbered if not _OURS.fullmatch(gap.producer)]


async def gather(fillings: Sequence[Filling], batches: AsyncGenerator[Batch]) -> int:
    """Keep the rows of a file that are missing somewhere; return how many rows it has."""
    rows = 0
    async for batch in batches:
        rows += batch.rows
        for filling in fillings:
            filling.take(batch)
    return rows


async def fill(client: Client, dataset: str, fillings: Sequence[Filling]) -> None:
    """Publish the rows of the gaps that can be filled wholly, and close those whose rows are all on the tape.

    What became of each stands in its filling. A gap whose rows are refused or set aside stays
    open, and stops no other.

    Raises
    ------
    ApiError
        For what is no single gap's matter, such as a key or a limit.
    """
    whole = [filling for filling in fillings if filling.is_whole]
    acknowledged = [await _publish(client, dataset, filling) for filling in whole]
    # Acknowledgements tell of this run's rows alone, and some are lost; a run before may have been killed.
    waiting, released = await _quarantined(client, dataset) if whole else (Counter[str](), Counter[str]())
    for filling, aside in zip(whole, acknowledged, strict=True):
        # More than both where the quarantine was read a moment too early.
        filling.set_aside = max(waiting[filling.producer], aside - released[filling.producer])
        if not filling.is_stuck:
            await _close(client, dataset, filling)


async def _publish(client: Client, dataset: str, filling: Filling) -> int:
    """Publish what is not there yet of a gap's rows; return how many of these were set aside, as far as was told."""
    filling.producer = _producer(filling.gap, filling.rows())
    aside = 0
    with _of_one_gap(filling):
        async with client.publisher(dataset, filling.producer) as publisher:
            before, late = publisher.last_number, publisher.position
            # A run before this one has told what it found late: by now its own rows are there, too.
            filling.late = late_of(late) if before else await late_rows(client, dataset, filling.whole())
            if filling.is_scattered:
                return 0
            batches = list(filling.rows())
            filling.last_batch = len(batches)
            try:
                for batch in batches[before:]:
                    await publisher.publish(batch, position=text_of(filling.late))
                await publisher.flush()
            finally:
                aside = publisher.quarantined_rows
                filling.there = sum(batch.rows for batch in batches[:before]) + publisher.acknowledged_rows
                filling.added = publisher.acknowledged_rows - aside
    return aside


async def _close(client: Client, dataset: str, filling: Filling) -> None:
    """Close a gap whose rows are all on the tape, unless a run before has."""
    with _of_one_gap(filling):
        async with client.publisher(dataset, filling.producer) as publisher:
            if publisher.last_number <= filling.last_batch:
                await publisher.publish(None, gaps=[filling.closing(time.time_ns())])
        filling.closed = True


@contextmanager
def _of_one_gap(filling: Filling) -> Generator[None]:
    """Note what is refused of a gap alone: its rows, or because another run is about to fill it."""
    try:
        yield
    except (InvalidRequestError, FencedError) as error:
        filling.refusal = error


async def _quarantined(client: Client, dataset: str) -> tuple[Counter[str], Counter[str]]:
    """Return how many rows of each producer wait in the quarantine, and how many were released."""
    waiting, released = Counter[str](), Counter[str]()
    for item in await client.quarantined(dataset):
        (released if item.tape_sequence else waiting)[item.producer] += len(item.instrument_ids)
    return waiting, released


def _producer(gap: Gap, batches: Iterable[Batch]) -> str:
    """Return the name of the producer that fills a gap: the same rows in the same gap have the same one.

    So a run that broke off goes on where it was, and none puts a row there twice.
    """
    digest = hashlib.sha256(gap.SerializeToString(deterministic=True))
    for batch in batches:
        for name in sorted(batch.columns):
            digest.update(name.encode())
            digest.update(batch.columns[name].tobytes())
    return f"backfill-{digest.hexdigest()[:32]}"


def told(dataset: str, filling: Filling) -> list[str]:
    """Return why a gap is left open, and what to do, in lines for people; none where nothing can be done yet."""
    gap, found, missing = filling.gap, filling.found, filling.missing
    name = f"{gap.producer} {gap.first_sequence} to {gap.last_sequence}"
    if missing > MOST_ROWS:
        return [f"{name}: {missing:,} rows are more than can be filled in at once, {MOST_ROWS:,}. It is left as it is."]
    if 0 < found < missing:
        files = f"the files have {found:,} of {missing:,} rows"
        return [f"{name}: {files}. It is left as it is: give all files at once."]
    if filling.is_scattered:
        pieces = f"{runs_of(filling.late):,} pieces, {MOST_RUNS:,} at the most"
        return [
            f"{name}: some of its rows came late, in more pieces than can be told apart ({pieces}). It is left open."
        ]
    lines: list[str] = []
    if filling.refusal is not None:
        lines.append(f"{name}: refused, {_reason(filling.refusal)} It is left open{_advice(filling)}")
    if filling.set_aside:
        of_it = f"{dataset} --producer {filling.producer}"
        lines.append(
            f"{name}: {filling.set_aside:,} of {missing:,} rows are set aside by the dataset's policy. It is left "
            f"open. `mda quarantine list {of_it}` shows them, `mda quarantine release {of_it}` puts them on the tape; "
            "then run the same command again."
        )
    return lines


def _reason(refusal: ApiError) -> str:
    """Return why it was refused, with the field that is at fault, if one is."""
    reason, where = refusal.reason or refusal.code.name, refusal.metadata.get("field", "")
    return f"{reason}{'' if where in refusal.message else f' in {where}'}: {refusal.message}"


def _advice(filling: Filling) -> str:
    if isinstance(filling.refusal, FencedError):
        return ": another run fills it. Run the same command again once that one is over."
    if not filling.there:
        return ": correct the rows, or change the dataset's policy; then run the command again."
    # Other rows would be another producer's, and those would be there twice.
    there = f", with {filling.there:,} of its rows"
    return f"{there}: change the dataset's policy; then run the same command again, with the same files."
