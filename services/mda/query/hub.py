"""The hub of a dataset: follows the tape once for all readers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final, Protocol

import structlog
from nats.aio.client import Client
from opentelemetry import propagate, trace

from marketdata.columns import Batch, Kind
from marketdata.v1.gap_pb2 import Gap
from mda.lake.location import Location
from mda.market.all_corrections import AllCorrections
from mda.market.corrections import Corrections
from mda.market.errors import MarketDataError, still_reading
from mda.market.instruments import Directory
from mda.query.latest import LatestRows, latest_standing, split
from mda.query.notices import tell_gaps
from mda.query.past import FileCache
from mda.query.ring import ReadEntry, read_entry
from mda.query.shared import Shared
from mda.query.tiers import Tiers
from mda.runtime.telemetry import BYTES, LAG, OPEN_GAPS, ROWS
from mda.tape.checkpoint import Checkpoint, Checkpoints
from mda.tape.damage import Inspector, lost_entries
from mda.tape.payload import decode_payload
from mda.tape.tape import InstrumentLog, StoredEntry, TapeBounds

_CHECKPOINT_S: Final = 10.0
_TICK_S: Final = 0.5
_READY_S: Final = 8.0
_RETRY_S: Final = 0.2
_WATCH_S: Final = 2.0
_RECENT_ENTRIES: Final = 1024
"""Where the latest trade was cancelled, the one before it is looked for in so many entries."""

_LOG: Final = structlog.stdlib.get_logger("mda.query")
_TRACER: Final = trace.get_tracer("mda")


class Reader(Protocol):
    """A stream that wants to hear of new entries."""

    position: int

    def wake(self) -> None:
        """There is something new."""
        ...

    def tick(self, now_s: float) -> None:
        """Time goes on: `now_s` is seconds on the monotonic clock."""
        ...

    def go_back(self, position: int, gap: Gap, /) -> None:
        """Go on from an earlier place: the tape has lost its entries after it."""
        ...


class Hub(Tiers):
    """What one replica knows of one dataset: its entries, and what follows from them.

    Parameters
    ----------
    client
        The connection to NATS.
    dataset
        The dataset.
    ring_bytes
        How many bytes of payload the ring holds.
    cursor_key
        What cursors are sealed with.
    lake
        Where the lake is; None where there is none.
    cache
        Where files of the lake are kept.

    Attributes
    ----------
    directory
        Its instruments.
    latest
        The latest rows, by kind, as of `head`.
    corrections
        The newest cancels and corrections of trades.
    found
        All of them, for readers who are far behind.
    newest
        The entry at `head`, once one was taken in.
    """

    def __init__(
        self,
        client: Client,
        dataset: str,
        ring_bytes: int,
        cursor_key: bytes = b"",
        lake: Location | None = None,
        cache: FileCache | None = None,
    ) -> None:
        super().__init__(client, dataset, ring_bytes, cursor_key, lake, cache)
        self.directory = Directory()
        self.latest = {kind: LatestRows(kind) for kind in Kind}
        self.newest: ReadEntry | None = None
        self._instruments = InstrumentLog(client, dataset)
        self._checkpoints = Checkpoints(client, dataset)
        self._inspector = Inspector(0)
        self.corrections = Corrections()
        self.found = Shared[AllCorrections]()
        self._readers: set[Reader] = set()
        self._ready = asyncio.Event()
        self._checkpointed = 0
        self._learnt = 0  # up to where the checkpoint goes
        self._goal = 0  # where the tape ended when the hub opened
        self._sent_bytes = 0
        self._sent_rows = 0

    async def open(self) -> None:
        """Take the newest checkpoint, so that `run` can go on from there.

        Raises
        ------
        MarketDataError
            UNKNOWN_DATASET; TAPE_UNAVAILABLE.
        """
        epoch = (await self._bounds()).epoch
        await self._instruments.catch_up(self.directory)
        await self._checkpoints.create(1)
        checkpoint = await self._checkpoints.newest(epoch)
        bounds = await self._bounds()
        if checkpoint.sequence > bounds.last or epoch != bounds.epoch:  # of a tape that lost its newest entries
            self._note(bounds.last, [lost_entries(time.time_ns())])
            checkpoint = Checkpoint()
        for batch in checkpoint.batches:
            self.latest[batch.kind].update(batch)
        self.corrections.restore(checkpoint.corrections, checkpoint.sequence, checkpoint.corrections_after)
        self.gaps.restore(checkpoint.sequence, checkpoint.gaps)
        self._begin(bounds.epoch)
        self._learnt = checkpoint.sequence
        self.head = max(checkpoint.sequence, bounds.first - 1)
        self._checkpointed = self.head
        self._inspector = Inspector(self.head)
        self._goal = bounds.last

    async def _learn_past(self) -> None:
        """Learn from what the tape has dropped since the checkpoint, as far as the lake has it."""
        after, until = self._learnt, self.head
        while self._past is not None and after < until:
            try:
                entries = await self._past.after(after, until)
            except MarketDataError as error:
                _LOG.warning("opened without the lake", dataset=self.dataset, problem=error.message)
                entries = []
            if not entries:
                self.corrections.miss(until)
                return
            for entry in entries:
                self._learn(entry)
            after = entries[-1].sequence

    async def ready(self) -> None:
        """Wait until the tape has been read to where it ended when the hub opened."""
        try:
            async with asyncio.timeout(_READY_S):
                await self._ready.wait()
        except TimeoutError:
            raise still_reading(self.dataset) from None

    async def run(self) -> None:
        """Follow the tape, for ever; from an earlier place, where it has lost its newest entries."""
        await self._learn_past()
        if self.head >= self._goal:
            self._ready.set()
        while True:
            following = asyncio.create_task(self._follow())
            watching = asyncio.create_task(self._lost())
            try:
                await asyncio.wait({following, watching}, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    await following  # it ends by a defect only, and so do we
                self._go_back(await watching)
            finally:
                following.cancel()
                watching.cancel()
                await asyncio.gather(following, watching, return_exceptions=True)

    async def _follow(self) -> None:
        async with aclosing(self._tape.follow(self.head)) as followed:
            async for stored in followed:
                await self._take(stored)

    async def _lost(self) -> TapeBounds:
        """Return the tape's bounds once they show that it does not hold what we have read."""
        while True:
            await asyncio.sleep(_WATCH_S)
            head = self.head
            with contextlib.suppress(MarketDataError):  # it does not answer: next time
                bounds = await self._tape.bounds()
                if bounds is not None and (bounds.epoch != self.epoch or bounds.last < head):
                    return bounds

    def _go_back(self, bounds: TapeBounds) -> None:
        """Go on from where the tape ends now, or from the beginning of one that was made anew."""
        last = bounds.last if bounds.epoch == self.epoch else bounds.first - 1
        self._begin(bounds.epoch)
        self.head, self.newest = last, None
        self._inspector = Inspector(last)
        self.gaps.go_back(last)
        self.corrections.go_back(last)
        self.found.forget()
        gap = lost_entries(time.time_ns())
        self._note(last, [gap])
        for reader in self._readers:
            reader.go_back(last, gap)

    async def tick(self) -> None:
        """Give readers the time, tell of their lag, and write checkpoints, for ever."""
        checkpoint_at = time.monotonic() + _CHECKPOINT_S
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            for reader in tuple(self._readers):
                reader.tick(now)
            self._tell_sent()
            OPEN_GAPS.labels(self.dataset).set(self.gaps.open_count)
            LAG.labels(self.dataset).set(max((self.head - reader.position for reader in self._readers), default=0))
            if now >= checkpoint_at:
                checkpoint_at = now + _CHECKPOINT_S
                await self._checkpoint()

    def count(self, sent_bytes: int, rows: int) -> None:
        """Count what a reader was sent."""
        self._sent_bytes += sent_bytes
        self._sent_rows += rows

    def _tell_sent(self) -> None:
        BYTES.labels("out", self.dataset).inc(self._sent_bytes)
        ROWS.labels("out", self.dataset).inc(self._sent_rows)
        self._sent_bytes = self._sent_rows = 0

    def add(self, reader: Reader) -> None:
        """Wake a reader at each new entry from now on."""
        self._readers.add(reader)

    def remove(self, reader: Reader) -> None:
        """Wake a reader no more."""
        self._readers.discard(reader)

    def latest_rows(self, kind: Kind, ids: Sequence[int] | None, *, corrected: bool = False) -> Batch | None:
        """Return the latest rows of some instruments, in their order, or of all, by id.

        Instruments without one are left out; None if none has one. With `corrected`:
        trades as they stand, as `latest_standing` tells them.
        """
        latest = self.latest[kind].take(ids)
        if not corrected or kind is not Kind.TRADE:
            return latest
        recent = (decode_payload(entry.payload) for entry in self._ring.newest_first(_RECENT_ENTRIES))
        return latest_standing(latest, self.corrections, recent)

    async def find_symbols(self, symbols: Sequence[str]) -> list[int | None]:
        """Return the id of each symbol, None where there is no such symbol."""
        found = [self.directory.find(symbol) for symbol in symbols]
        if None in found:
            await self._instruments.catch_up(self.directory)
            found = [self.directory.find(symbol) for symbol in symbols]
        return [None if instrument is None else instrument.instrument_id for instrument in found]

    async def _take(self, stored: Sequence[StoredEntry]) -> None:
        newest_version = max(entry.entry.instruments_version for entry in stored)
        while newest_version > self.directory.version:
            # Written before the rows that need it, so it is there.
            try:
                await self._instruments.catch_up(self.directory)
            except MarketDataError:  # outages are waited out, as by `Tape.follow`
                await asyncio.sleep(_RETRY_S)
        for entry in stored:
            self._take_one(entry)
        if self.head >= self._goal:
            self._ready.set()
        for reader in self._readers:
            reader.wake()

    def _take_one(self, stored: StoredEntry) -> None:
        parent = propagate.extract(stored.headers)
        with _TRACER.start_as_current_span("tape deliver", parent, trace.SpanKind.CONSUMER) as span:
            span.set_attribute("mda.dataset", self.dataset)
            span.set_attribute("mda.tape_sequence", stored.sequence)
            entry = read_entry(stored, self._inspector.inspect(stored))
            self._learn(entry)
            self._ring.append(entry)
            self.newest = entry
            self.head = stored.sequence

    def _learn(self, entry: ReadEntry) -> None:
        self._note(entry.sequence, entry.gaps)
        for batch in entry.batches:
            self.latest[batch.kind].update(batch)
            self.corrections.add(batch, entry.sequence)
        if entry.is_damaged:
            self.corrections.miss(entry.sequence)

    def _note(self, sequence: int, gaps: Sequence[Gap]) -> None:
        self.gaps.add(sequence, gaps)
        tell_gaps(self.dataset, sequence, gaps)

    async def _checkpoint(self) -> None:
        if self.head == self._checkpointed or not self._ready.is_set():
            return
        sequence, gaps = self.head, self.gaps.kept()
        batches: list[Batch] = []
        for rows in self.latest.values():
            latest = rows.take(None)
            batches += split(latest) if latest is not None else []
        known = self.corrections
        checkpoint = Checkpoint(sequence, batches, gaps, known.kept(), known.complete_after)
        try:
            await self._checkpoints.write(self.epoch, checkpoint)
        except MarketDataError as error:
            _LOG.warning("no checkpoint", dataset=self.dataset, problem=error.message)
            return
        self._checkpointed = sequence
