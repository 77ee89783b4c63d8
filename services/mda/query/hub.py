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

from marketdata.codec import field_tag, varint
from marketdata.columns import Batch, Kind
from marketdata.query.v1.query_service_pb2 import SubscribeResponse
from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1.gap_pb2 import Gap
from mda.market.corrections import Corrections
from mda.market.cursor import Cursor, decode_cursor
from mda.market.errors import MarketDataError, invalid_field, unknown_dataset
from mda.market.instruments import Directory
from mda.query.gaps import Gaps
from mda.query.latest import LatestRows, latest_standing, split
from mda.query.notices import tell_gaps
from mda.query.ring import ReadEntry, Ring, read_entry
from mda.runtime.telemetry import BYTES, LAG, OPEN_GAPS, ROWS
from mda.tape.checkpoint import Checkpoint, Checkpoints
from mda.tape.damage import Inspector, lost_entries
from mda.tape.payload import decode_payload
from mda.tape.tape import InstrumentLog, StoredEntry, Tape, TapeBounds

_CHECKPOINT_S: Final = 10.0
_TICK_S: Final = 0.5
_CURSOR_TAG: Final = field_tag(SubscribeResponse, "cursor")  # and of every stream's response
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

    def go_back(self, position: int, gap: Gap) -> None:
        """Go on from an earlier place: the tape has lost its entries after it."""
        ...


class Hub:
    """What one replica knows of one dataset.

    Attributes
    ----------
    dataset
        Its name.
    directory
        Its instruments.
    latest
        The latest rows, by kind, as of `head`.
    head
        The sequence number of the newest entry that was taken in.
    corrections
        The cancels and corrections of trades that are known.
    gaps
        The gaps that were noticed.
    newest
        The entry at `head`, once one was taken in.
    epoch
        The tape's epoch.
    """

    def __init__(self, client: Client, dataset: str, ring_bytes: int, cursor_key: bytes = b"") -> None:
        self.dataset = dataset
        self._cursor_key = cursor_key
        self.directory = Directory()
        self.latest = {kind: LatestRows(kind) for kind in Kind}
        self.head = 0
        self.newest: ReadEntry | None = None
        self.epoch = 0
        self._tape = Tape(client, dataset)
        self._instruments = InstrumentLog(client, dataset)
        self._checkpoints = Checkpoints(client, dataset)
        self._ring_bytes = ring_bytes
        self._ring = Ring(ring_bytes)
        self._inspector = Inspector(0)
        self.gaps = Gaps()
        self.corrections = Corrections()
        self._readers: set[Reader] = set()
        self._ready = asyncio.Event()
        self._checkpointed = 0
        self._goal = 0  # where the tape ended when the hub opened
        self._tail = (-1, b"")
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
        for batch in checkpoint.corrections:
            self.corrections.add(batch)
        self.gaps.restore(checkpoint.sequence, checkpoint.gaps)
        self.epoch = bounds.epoch
        self.head = max(checkpoint.sequence, bounds.first - 1)
        self._checkpointed = self.head
        self._inspector = Inspector(self.head)
        self._goal = bounds.last
        if self.head >= self._goal:
            self._ready.set()

    async def ready(self) -> None:
        """Wait until the tape has been read to where it ended when the hub opened."""
        try:
            async with asyncio.timeout(_READY_S):
                await self._ready.wait()
        except TimeoutError:
            raise MarketDataError(
                reasons.ERROR_REASON_TAPE_UNAVAILABLE,
                f"The tape of {self.dataset} is still being read. Try again in a second.",
                retry_after_s=1,
                dataset=self.dataset,
            ) from None

    async def run(self) -> None:
        """Follow the tape, for ever; from an earlier place, where it has lost its newest entries."""
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
        self.epoch, self.head, self.newest = bounds.epoch, last, None
        self._ring = Ring(self._ring_bytes)
        self._inspector = Inspector(last)
        self.gaps.go_back(last)
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

    def in_ring(self, sequence: int, limit: int) -> Sequence[ReadEntry] | None:
        """Return up to `limit` entries after a place; None if they are not in the ring."""
        return () if sequence >= self.head else self._ring.after(sequence, limit)

    async def entries_after(self, sequence: int, limit: int) -> Sequence[ReadEntry]:
        """Return up to `limit` entries after a place, from the ring, or else from the tape.

        Raises
        ------
        MarketDataError
            CURSOR_OUT_OF_RANGE if the next one is on the tape no more.
        """
        entries = self.in_ring(sequence, limit)
        if entries is not None:
            return entries
        stored = await self._tape.read(sequence, max_records=limit)
        if stored and stored[0].sequence != sequence + 1:
            first = (await self._bounds()).first
            if first > sequence + 1:
                raise self._gone(first - 1)
        # No further than `head`: the directory and the latest rows are of there.
        inspector = Inspector(sequence)
        return [self._read(entry, inspector) for entry in stored if entry.sequence <= self.head]

    async def place(self, token: str, field: str) -> int:
        """Return the sequence number that a cursor stands for.

        Raises
        ------
        MarketDataError
            INVALID_CURSOR; CURSOR_OUT_OF_RANGE if it is of a tape that was made anew,
            or the tape does not hold the place, or holds another entry there.
        """
        cursor = decode_cursor(token, self.dataset, field, self._cursor_key)
        bounds = await self._bounds()
        if cursor.epoch != bounds.epoch or not bounds.first - 1 <= cursor.sequence <= bounds.last:
            raise self._gone(bounds.first - 1, field)
        if cursor.mark and cursor.sequence >= bounds.first:
            mark = self._mark(cursor.sequence)
            if not mark and (stored := await self._tape.at(cursor.sequence)) is not None:
                mark = stored.mark
            if mark not in {0, cursor.mark}:  # 0: an entry that is damaged now, and was not
                raise self._gone(bounds.first - 1, field)
        return cursor.sequence

    async def place_at(self, time_ns: int, field: str) -> int:
        """Return the place before the first entry that the tape took at or after a time.

        Raises
        ------
        MarketDataError
            INVALID_FIELD if the time is in the future; CURSOR_OUT_OF_RANGE if entries of
            then may be on the tape no more.
        """
        if time_ns > time.time_ns():
            raise invalid_field(field, "past", f"{field}: is in the future. Start from now.")
        bounds = await self._bounds()
        found = await self._tape.first_since(time_ns)
        if found is None:
            return bounds.last
        if found.sequence <= bounds.first and bounds.first > 1:
            raise self._gone(bounds.first - 1, field)
        return found.sequence - 1

    async def earliest(self) -> int:
        """Return the place before the oldest entry of the tape.

        Raises
        ------
        MarketDataError
            UNKNOWN_DATASET; TAPE_UNAVAILABLE.
        """
        return (await self._bounds()).first - 1

    def cursor(self, sequence: int) -> str:
        """Return the token for the place after an entry."""
        return self._token(sequence, self._mark(sequence))

    def tail(self, entry: ReadEntry) -> bytes:
        """Return the cursor after an entry as field 2 of a message. Readers ask for few places, many times."""
        if self._tail[0] != entry.sequence:
            token = self._token(entry.sequence, entry.mark).encode()
            self._tail = (entry.sequence, _CURSOR_TAG + varint(len(token)) + token)
        return self._tail[1]

    def _token(self, sequence: int, mark: int) -> str:
        return Cursor(self.epoch, sequence, mark).encode(self.dataset, self._cursor_key)

    def _mark(self, sequence: int) -> int:
        """Return the mark of an entry; 0 where it is not in the ring."""
        entries = self._ring.after(sequence - 1, 1)
        return entries[0].mark if entries else 0

    def _read(self, stored: StoredEntry, inspector: Inspector) -> ReadEntry:
        """Return an entry of the tape with the damage that it shows: to us when it came, or else now."""
        damage = inspector.inspect(stored)
        return read_entry(stored, self.gaps.damage_at(stored.sequence) or damage)

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
            self._note(stored.sequence, entry.gaps)
            for batch in entry.batches:
                self.latest[batch.kind].update(batch)
                self.corrections.add(batch)
            self._ring.append(entry)
            self.newest = entry
            self.head = stored.sequence

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
        try:
            await self._checkpoints.write(self.epoch, Checkpoint(sequence, batches, gaps, self.corrections.kept()))
        except MarketDataError as error:
            _LOG.warning("no checkpoint", dataset=self.dataset, problem=error.message)
            return
        self._checkpointed = sequence

    async def _bounds(self) -> TapeBounds:
        bounds = await self._tape.bounds()
        if bounds is None:
            raise unknown_dataset(self.dataset)
        return bounds

    def _gone(self, earliest: int, field: str | None = None) -> MarketDataError:
        return MarketDataError(
            reasons.ERROR_REASON_CURSOR_OUT_OF_RANGE,
            f"The tape of {self.dataset} does not hold that place. Go on from the cursor in `earliest`, "
            "knowing that rows before it are missing, or start from now.",
            field=field,
            earliest=self.cursor(earliest),
        )
