"""Where the entries of a tape are: the newest in the ring, then the tape, then the lake, behind one interface."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from nats.aio.client import Client

from marketdata.codec import field_tag, varint
from marketdata.query.v1.query_service_pb2 import SubscribeResponse
from marketdata.v1 import error_reason_pb2 as reasons
from mda.lake.lake import Lake
from mda.lake.location import Location
from mda.market.cursor import Cursor, decode_cursor
from mda.market.errors import MarketDataError, invalid_field, still_reading, unknown_dataset
from mda.query.gaps import Gaps
from mda.query.past import FileCache, Past
from mda.query.ring import ReadEntry, Ring, read_entry
from mda.tape.damage import Inspector
from mda.tape.tape import StoredEntry, Tape, TapeBounds

_CATCH_UP_S: Final = 2.0
_POLL_S: Final = 0.002
_CURSOR_TAG: Final = field_tag(SubscribeResponse, "cursor")  # and of every stream's response


class Tiers:
    """The entries of one dataset, for readers, and the cursors that stand for places among them.

    Attributes
    ----------
    dataset
        Its name.
    epoch
        The tape's epoch.
    head
        The sequence number of the newest entry that readers may have.
    gaps
        The gaps that were noticed.
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
        self.dataset = dataset
        self.epoch = 0
        self.head = 0
        self.gaps = Gaps()
        self._cursor_key = cursor_key
        self._location = lake
        self._cache = cache or FileCache()
        self._lake: Lake | None = None
        self._past: Past | None = None
        self._tape = Tape(client, dataset)
        self._ring_bytes = ring_bytes
        self._ring = Ring(ring_bytes)
        self._tail = (-1, b"")

    @property
    def lake(self) -> Lake | None:
        """The lake; None where there is none."""
        return self._lake

    async def first(self) -> int:
        """Return the sequence number of the tape's oldest entry.

        Raises
        ------
        MarketDataError
            UNKNOWN_DATASET; TAPE_UNAVAILABLE.
        """
        return (await self._bounds()).first

    async def caught_up(self) -> None:
        """Wait until readers may have all that is on the tape now.

        Raises
        ------
        MarketDataError
            UNKNOWN_DATASET; TAPE_UNAVAILABLE, also if that takes more than two seconds.
        """
        last = (await self._bounds()).last
        deadline = time.monotonic() + _CATCH_UP_S
        while self.head < last:
            if time.monotonic() > deadline:
                raise still_reading(self.dataset)
            await asyncio.sleep(_POLL_S)

    def _begin(self, epoch: int) -> None:
        """Be of a tape of an epoch."""
        self.epoch = epoch
        self._ring = Ring(self._ring_bytes)
        if self._location is not None:
            self._lake = Lake(self._location, self.dataset, epoch)
            self._past = Past(self._lake, self._cache, self.dataset)

    def in_ring(self, sequence: int, limit: int) -> Sequence[ReadEntry] | None:
        """Return up to `limit` entries after a place; None if they are not in the ring."""
        return () if sequence >= self.head else self._ring.after(sequence, limit)

    async def entries_after(self, sequence: int, limit: int, until: int | None = None) -> Sequence[ReadEntry]:
        """Return up to `limit` entries after a place: from the ring, or else the tape, or else the lake.

        Those of the lake may be several joined into one, but none from before `until` with
        one from after it.

        Raises
        ------
        MarketDataError
            CURSOR_OUT_OF_RANGE if the next one is nowhere any more; ARCHIVE_UNAVAILABLE.
        """
        entries = self.in_ring(sequence, limit)
        if entries is not None:
            return entries
        # No further than `head`: the directory and the latest rows are of there.
        last = self.head if until is None else min(self.head, until)
        stored = [entry for entry in await self._tape.read(sequence, max_records=limit) if entry.sequence <= last]
        if not stored or stored[0].sequence != sequence + 1:
            first = (await self._bounds()).first
            if first > sequence + 1:
                return await self._dropped(sequence, first, last)
        inspector = Inspector(sequence)
        return await self._healed(sequence, [self._read(entry, inspector) for entry in stored])

    async def _dropped(self, sequence: int, first: int, last: int) -> Sequence[ReadEntry]:
        """Return the next entries after a place, which the tape, that begins with `first`, has dropped."""
        found = await self._past.after(sequence, min(first - 1, last)) if self._past is not None else []
        if not found:
            raise self._gone(first - 1)
        return found

    async def _healed(self, sequence: int, entries: Sequence[ReadEntry]) -> Sequence[ReadEntry]:
        """Return entries of the tape up to the first that is damaged; in place of that, what the lake has."""
        damaged = next((place for place, entry in enumerate(entries) if entry.is_damaged), None)
        if damaged is None or self._past is None:
            return entries
        return entries[:damaged] or await self._past.after(sequence, entries[0].sequence) or entries

    async def place(self, token: str, field: str) -> int:
        """Return the sequence number that a cursor stands for.

        Raises
        ------
        MarketDataError
            INVALID_CURSOR; CURSOR_OUT_OF_RANGE if it is of a tape that was made anew,
            or neither tape nor lake holds the place, or another entry is there;
            ARCHIVE_UNAVAILABLE.
        """
        cursor = decode_cursor(token, self.dataset, field, self._cursor_key)
        bounds = await self._bounds()
        if cursor.epoch != bounds.epoch or cursor.sequence > bounds.last:
            raise self._gone(await self.earliest(), field)
        if cursor.sequence < bounds.first - 1 and cursor.sequence < (earliest := await self.earliest()):
            raise self._gone(earliest, field)
        # 0: of an entry that is damaged now, and was not.
        if cursor.mark and await self._mark_of(cursor.sequence, bounds) not in {0, cursor.mark}:
            raise self._gone(await self.earliest(), field)
        return cursor.sequence

    async def _mark_of(self, sequence: int, bounds: TapeBounds) -> int:
        if mark := self._mark(sequence):
            return mark
        if sequence >= bounds.first:
            stored = await self._tape.at(sequence)
            return 0 if stored is None else stored.mark
        return await self._past.mark(sequence) if self._past is not None else 0

    async def place_at(self, time_ns: int, field: str) -> int:
        """Return the place before the first entry that the tape took at or after a time.

        Raises
        ------
        MarketDataError
            INVALID_FIELD if the time is in the future; CURSOR_OUT_OF_RANGE if entries of
            then may be nowhere any more; ARCHIVE_UNAVAILABLE.
        """
        if time_ns > time.time_ns():
            raise invalid_field(field, "past", f"{field}: is in the future. Start from now.")
        bounds = await self._bounds()
        found = await self._tape.first_since(time_ns)
        place = bounds.last if found is None else found.sequence - 1
        if place >= bounds.first or bounds.first == 1:
            return place
        # What the tape has dropped may be of then, too.
        earliest = await self.earliest()
        in_lake = await self._past.place_at(time_ns) if self._past is not None else None
        oldest = bounds.first - 1 if in_lake is None else in_lake
        if earliest and oldest <= earliest:  # what was before that may be of then
            raise self._gone(earliest, field)
        return place if in_lake is None else in_lake

    async def earliest(self) -> int:
        """Return the place before the oldest entry that tape or lake have without a hole up to now.

        Raises
        ------
        MarketDataError
            UNKNOWN_DATASET; TAPE_UNAVAILABLE; ARCHIVE_UNAVAILABLE.
        """
        first = (await self._bounds()).first
        if first > 1 and self._past is not None:
            oldest, newest = await self._past.bounds()
            if oldest < first <= newest + 1:
                return oldest - 1
        return first - 1

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

    async def _bounds(self) -> TapeBounds:
        bounds = await self._tape.bounds()
        if bounds is None:
            raise unknown_dataset(self.dataset)
        return bounds

    def _gone(self, earliest: int, field: str | None = None) -> MarketDataError:
        return MarketDataError(
            reasons.ERROR_REASON_CURSOR_OUT_OF_RANGE,
            f"Neither the tape nor the lake of {self.dataset} holds that place. Go on from the cursor in `earliest`, "
            "knowing that rows before it are missing, or start from now.",
            field=field,
            earliest=self.cursor(earliest),
        )
