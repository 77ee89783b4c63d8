"""The ring: the newest entries of a tape in memory, and what was made of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from marketdata.columns import Batch
from marketdata.v1.gap_pb2 import Gap
from mda.market.corrections import KnownCorrections
from mda.query.selection import Selection
from mda.tape.payload import decode_payload, encode_gaps, encode_payload, split_payload
from mda.tape.tape import StoredEntry

_HOT_ENTRIES: Final = 64
"""Of so many of the newest entries what was made of them is kept: most readers are there."""


@dataclass(slots=True)
class Piece:
    """The rows of one entry that some readers want, ready to send.

    Attributes
    ----------
    data
        The rows, as field 1 of a message, with the gaps before them.
    rows
        How many.
    message
        The message of these rows alone; empty until `finish` has made it.
    """

    data: bytes
    rows: int
    message: bytes = b""

    def finish(self, tail: bytes) -> bytes:
        """Make and return the message; `tail` is the same for every reader."""
        self.message = self.data + tail
        return self.message


class ReadEntry:
    """An entry as readers use it: decoded once, and encoded once per selection.

    Parameters
    ----------
    sequence
        Its place on the tape.
    payload
        The bytes of its batches.
    time_ns
        When the tape took it, in nanoseconds since the epoch.
    mark
        Part of its hash, for cursors.
    gaps
        Gaps that open or close before its rows.

    Attributes
    ----------
    sequence, payload, time_ns, mark, gaps
        As given.
    """

    __slots__ = ("_batches", "_made", "gaps", "mark", "payload", "sequence", "time_ns")

    def __init__(
        self, sequence: int, payload: bytes, time_ns: int = 0, mark: int = 0, gaps: Sequence[Gap] = ()
    ) -> None:
        self.sequence = sequence
        self.payload = payload
        self.time_ns = time_ns
        self.mark = mark
        self.gaps = gaps
        self._batches: list[Batch] | None = None
        self._made: dict[Hashable, Piece] = {}

    @property
    def batches(self) -> list[Batch]:
        """Its batches."""
        if self._batches is None:
            self._batches = decode_payload(self.payload)
        return self._batches

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(batch.rows for batch in self.batches)

    @property
    def is_damaged(self) -> bool:
        """Whether something of it, or before it, is missing on the tape."""
        return any(gap.cause == Gap.CAUSE_TAPE_DAMAGED for gap in self.gaps)

    def forget(self) -> None:
        """Drop all but the bytes: what was made of them is made again for the few who come late."""
        self._batches = None
        self._made.clear()

    def made(self, key: Hashable, make: Callable[[], Piece]) -> Piece:
        """Return what was made of the entry under a key, making it if it is not there."""
        piece = self._made.get(key)
        if piece is None:
            piece = self._made[key] = make()
        return piece

    def columns(self, selection: Selection, corrections: KnownCorrections | None = None) -> Piece:
        """Return the wanted rows as a payload; the entry's own where all are wanted.

        With `corrections`: as they stand by what is known now.
        """
        if corrections is not None and not corrections.version:
            corrections = None
        key = selection if corrections is None else (selection, corrections.version)
        piece = self._made.get(key)
        if piece is None:
            piece = self._made[key] = self._columns(selection, corrections)
            if self.gaps:
                piece.data = encode_gaps(self.gaps) + piece.data
        return piece

    def _columns(self, selection: Selection, corrections: KnownCorrections | None) -> Piece:
        if selection.everything and corrections is None:
            return Piece(self.payload, self.rows)
        batches = selection.filter(self.batches)
        if corrections is not None:
            batches = corrections.apply_to(batches)
        return Piece(encode_payload(batches), sum(batch.rows for batch in batches))


def read_entry(stored: StoredEntry, damage: Sequence[Gap] = ()) -> ReadEntry:
    """Return a stored entry as readers use it, with the gaps that it tells of; without both, where it is damaged.

    Parameters
    ----------
    stored
        The entry.
    damage
        The gaps that were found when it was read.
    """
    told, payload = split_payload(stored.entry.payload if not damage or stored.intact else b"")
    return ReadEntry(stored.sequence, payload, stored.time_ns, stored.mark, [*damage, *told])


class Ring:
    """Entries without holes, bounded by bytes.

    Parameters
    ----------
    max_bytes
        The most bytes of payload to hold; the newest entry is always held.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: deque[ReadEntry] = deque()

    def append(self, entry: ReadEntry) -> None:
        """Add the newest entry. A hole before it empties the ring first."""
        if self._entries and entry.sequence != self._entries[-1].sequence + 1:
            self._entries.clear()
            self._bytes = 0
        self._entries.append(entry)
        self._bytes += len(entry.payload)
        while self._bytes > self._max_bytes and len(self._entries) > 1:
            self._bytes -= len(self._entries.popleft().payload)
        if len(self._entries) > _HOT_ENTRIES:
            self._entries[-_HOT_ENTRIES - 1].forget()

    def newest_first(self, limit: int) -> Iterator[ReadEntry]:
        """Yield up to `limit` entries, from the newest on."""
        return islice(reversed(self._entries), limit)

    def after(self, sequence: int, limit: int) -> Sequence[ReadEntry] | None:
        """Return up to `limit` entries after a place; None if the next one is gone."""
        if not self._entries:
            return None
        index = sequence + 1 - self._entries[0].sequence
        if index < 0:
            return None
        return [self._entries[place] for place in range(index, min(index + limit, len(self._entries)))]
