"""A stream of rows to one reader: a place on the tape that moves on."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NoReturn

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from marketdata.query.v1.query_service_pb2 import Watermark
from marketdata.v1.gap_pb2 import Gap
from mda.market.corrections import KnownCorrections
from mda.market.errors import MarketDataError
from mda.market.rows import timestamp
from mda.query.backlog import Backlog
from mda.query.corrected import CorrectedView
from mda.query.hub import Hub
from mda.query.ring import Piece, ReadEntry
from mda.runtime.usage.account import Account

MAX_WRITE_BYTES: Final = 1 << 20
"""Entries are joined into one message up to this size; one entry may be larger."""

ENTRIES_AT_ONCE: Final = 256
"""A stream looks at so many entries before others have their turn."""


class Stream:
    """One reader's stream, as messages in bytes.

    The rows of an entry are encoded once for all readers that want the same; a reader
    that is behind gets several entries in one message. Memory per reader is bounded by
    one message: what it has yet to read is in the ring, or on the tape.

    Parameters
    ----------
    hub
        The dataset.
    position
        The sequence number of the entry after which the stream begins.
    heartbeat_s
        A watermark is sent when nothing else was for this long, in seconds.
    corrected
        Whether trades are told as they stand, not as they came.

    Attributes
    ----------
    account
        What its client may still use; None where nothing is counted.
    position
        The sequence number of the newest entry that the reader has been sent, or did
        not want.
    delivered_rows
        How many rows the reader has been sent, those of snapshots not counted.
    conflated_rows
        How many rows were folded into those.
    snapshot_rows
        How many rows of snapshots were put out since its client's rows were counted.
    """

    def __init__(self, hub: Hub, position: int, heartbeat_s: float, *, corrected: bool = False) -> None:
        self.hub = hub
        self.position = position
        self._heartbeat_s = heartbeat_s
        self._outbox: deque[bytes] = deque()
        self._woken = asyncio.Event()
        self._sent_s = time.monotonic()
        self._silent = False
        self._error: Exception | None = None
        self._sent_bytes = 0
        self._counted = (0, 0)
        self._stirred = True
        self._backlog = Backlog(hub)
        self._corrected = CorrectedView(hub) if corrected else None
        self._place_ns = 0  # when the tape took the entry at `position`, where the stream was behind
        self.account: Account | None = None
        self.delivered_rows = 0
        self.conflated_rows = 0
        self.snapshot_rows = 0

    def wake(self) -> None:
        """Note that there is something new."""
        self._woken.set()

    def tick(self, now_s: float) -> None:
        """Note the time, in seconds on the monotonic clock."""
        if self._sent_bytes != self._counted[0]:
            self._report()
            self._sent_s = now_s
            self._end_where_spent()
        elif now_s - self._sent_s >= self._heartbeat_s:
            self._silent = True
            self._stir()

    def go_back(self, position: int, gap: Gap) -> None:
        """Go on from an earlier place, where the tape has lost its entries after it; tell of the gap."""
        self.position = min(self.position, position)
        self._backlog.drop()
        if self._corrected is not None:
            self._corrected.forget()
        self._outbox.append(self._gap_message(gap))
        self._stir()

    def _stir(self) -> None:
        """Note that there is something to do besides new entries."""
        self._stirred = True
        self._woken.set()

    def close(self, error: Exception) -> None:
        """End the stream with an error, after the message that is under way."""
        self._error = error
        self._woken.set()

    async def send(self, write: Callable[[bytes], Awaitable[None]]) -> NoReturn:
        """Write the stream's messages, for ever. All that is done per reader and entry is done here.

        Raises
        ------
        Exception
            That of `close`.
        MarketDataError
            CURSOR_OUT_OF_RANGE if the tape loses the reader's place; ROW_QUOTA_SPENT; those of
            `CorrectedView.reach`.
        """
        if self.account is not None:
            self.account.require_rows()
        self.hub.add(self)
        try:
            while self._error is None:
                self._woken.clear()  # what wakes from here on has to be looked at
                if self.position >= self.hub.head and not self._stirred:
                    await self._woken.wait()
                    continue
                self._stirred = False
                await self._know()
                self._prepare()
                place = self.position
                data = self._outbox.popleft() if self._outbox else self._from_ring()
                if data is None:
                    entries = await self._backlog.after(place)
                    await self._know()
                    data = self._next(entries)
                if self._outbox:
                    self._stirred = True
                if not data and self._silent:
                    data = self._watermark_message(self._watermark())
                if data:
                    self._sent_bytes += len(data)
                    self._silent = False
                    await write(data)
                else:
                    await self._pause(place)
            raise self._error
        finally:
            self.hub.remove(self)
            self._backlog.drop()
            self._report()

    async def _know(self) -> None:
        """Know what has changed the trades that are yet to be told."""
        if self._corrected is not None:
            await self._corrected.reach(self._untold)

    async def _pause(self, place: int) -> None:
        """Wait, where there was nothing to write; `place` is where the stream was before it looked."""
        if self.position < self.hub.head:
            await asyncio.sleep(0)  # it may skip for long, and others want their turn
        elif self.position == place:  # otherwise a change may have waited for the head
            await self._woken.wait()

    @property
    def _untold(self) -> int:
        """The place after which rows are yet to be told."""
        return self.position

    @property
    def _corrections(self) -> KnownCorrections | None:
        """By what trades are told as they stand; None where they are told as they came."""
        return None if self._corrected is None else self._corrected.known

    @property
    def cursor(self) -> str:
        """The token for the stream's place."""
        return self.hub.cursor(self.position)

    def _prepare(self) -> None:
        """Put into the outbox what must go before the next rows."""

    def _piece(self, entry: ReadEntry) -> Piece:
        """Return the wanted rows of an entry, as the bytes of field 1 of a message."""
        raise NotImplementedError

    def _gap_message(self, gap: Gap) -> bytes:
        """Return the message that tells of a gap."""
        raise NotImplementedError

    def _watermark_message(self, watermark: Watermark) -> bytes:
        """Return the message that carries a watermark."""
        raise NotImplementedError

    def _from_ring(self) -> bytes | None:
        """Move on, as `_next` does, by entries of the ring; None if they are there no more."""
        newest = self.hub.newest
        if newest is None or newest.sequence != self.position + 1:
            entries = self.hub.in_ring(self.position, ENTRIES_AT_ONCE)
            return None if entries is None else self._next(entries)
        # A reader that keeps up: the message is the same for all who want the same.
        piece = self._piece(newest)
        self.position = newest.sequence
        self.delivered_rows += piece.rows
        if not piece.data:
            return b""
        return piece.message or piece.finish(self.hub.tail(newest))

    def _next(self, entries: Sequence[ReadEntry]) -> bytes:
        """Move over entries and return their message; empty if none of their rows is wanted."""
        data: list[bytes] = []
        size = 0
        last: ReadEntry | None = None
        for entry in entries:
            piece = self._piece(entry)
            if data and size + len(piece.data) > MAX_WRITE_BYTES:
                break
            last = entry
            self._move(entry)
            if piece.data:
                data.append(piece.data)
                size += len(piece.data)
                self.delivered_rows += piece.rows
        return b"".join((*data, self.hub.tail(last))) if data and last else b""

    def _move(self, entry: ReadEntry) -> None:
        """Move over an entry."""
        self.position = entry.sequence
        self._place_ns = entry.time_ns

    def _watermark(self) -> Watermark:
        return Watermark(
            time=timestamp(time.time_ns()),
            delivered_rows=self.delivered_rows,
            tape_sequence=self.hub.head,
            lag_entries=max(self.hub.head - self.position, 0),  # a cursor of a replica that is ahead
            conflated_rows=self.conflated_rows,
            lag=self._lag(),
            rows_left_today=self.account.rows_left if self.account is not None else None,
        )

    def _lag(self) -> Duration:
        newest, lag = self.hub.newest, Duration()
        if newest is not None and self.position < newest.sequence and self._place_ns:
            lag.FromNanoseconds(max(newest.time_ns - self._place_ns, 0))
        return lag

    def _end_where_spent(self) -> None:
        if self.account is not None:
            try:
                self.account.require_rows()
            except MarketDataError as error:
                self.close(error)

    def _report(self) -> None:
        """Count what was sent since the last time: not at each message, which would cost more than the message."""
        rows = self.delivered_rows - self._counted[1]
        self.hub.count(self._sent_bytes - self._counted[0], rows)
        if self.account is not None:
            self.account.count_rows(rows + self.snapshot_rows)
        self.snapshot_rows = 0
        self._counted = (self._sent_bytes, self.delivered_rows)


def serialize(message: Message) -> bytes:
    """Return a message's bytes."""
    return message.SerializeToString()
