"""A stream of rows to one reader: a place on the tape that moves on."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from google.protobuf.message import Message

from marketdata.query.v1.query_service_pb2 import Watermark
from mda.market.rows import timestamp
from mda.query.hub import Hub
from mda.query.ring import Piece, ReadEntry
from mda.runtime.telemetry import BYTES, ROWS

MAX_WRITE_BYTES: Final = 1 << 20
"""Entries are joined into one message up to this size; one entry may be larger."""

_ENTRIES_AT_ONCE: Final = 256


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

    Attributes
    ----------
    position
        The sequence number of the newest entry that the reader has been sent, or did
        not want.
    delivered_rows
        How many rows the reader has been sent, those of snapshots not counted.
    """

    def __init__(self, hub: Hub, position: int, heartbeat_s: float) -> None:
        self.hub = hub
        self.position = position
        self._heartbeat_s = heartbeat_s
        self._outbox: deque[bytes] = deque()
        self._woken = asyncio.Event()
        self._sent_s = time.monotonic()
        self._silent = False
        self._error: Exception | None = None
        self._sent_bytes = BYTES.labels("out", hub.dataset)
        self._sent_rows = ROWS.labels("out", hub.dataset)
        self._unreported_bytes = 0
        self._reported_rows = 0
        self.delivered_rows = 0

    def wake(self) -> None:
        """Note that there is something new."""
        self._woken.set()

    def tick(self, now_s: float) -> None:
        """Note the time, in seconds on the monotonic clock."""
        self._report()
        if now_s - self._sent_s >= self._heartbeat_s:
            self._silent = True
            self._woken.set()

    def close(self, error: Exception) -> None:
        """End the stream with an error, after the message that is under way."""
        self._error = error
        self._woken.set()

    async def messages(self) -> AsyncGenerator[bytes]:
        """Yield the stream's messages, for ever.

        Raises
        ------
        Exception
            That of `close`.
        MarketDataError
            CURSOR_OUT_OF_RANGE if the tape loses the reader's place.
        """
        self.hub.add(self)
        try:
            while self._error is None:
                self._woken.clear()  # what wakes from here on has to be looked at
                self._prepare()
                if self._outbox:
                    yield self._sent(self._outbox.popleft())
                    continue
                place = self.position
                entries = self.hub.in_ring(place, _ENTRIES_AT_ONCE)
                if entries is None:
                    entries = await self.hub.entries_after(place, _ENTRIES_AT_ONCE)
                data = self._next(entries)
                if data:
                    yield self._sent(data)
                elif self._silent:
                    yield self._sent(self._watermark_message(self._watermark()))
                elif self.position < self.hub.head:
                    await asyncio.sleep(0)  # it may skip for long, and others want their turn
                elif self.position == place:  # otherwise a change may have waited for the head
                    await self._woken.wait()
            raise self._error
        finally:
            self.hub.remove(self)
            self._report()

    @property
    def cursor(self) -> str:
        """The token for the stream's place."""
        return self.hub.cursor(self.position)

    def _prepare(self) -> None:
        """Put into the outbox what must go before the next rows."""

    def _piece(self, entry: ReadEntry) -> Piece:
        """Return the wanted rows of an entry, as the bytes of field 1 of a message."""
        raise NotImplementedError

    def _watermark_message(self, watermark: Watermark) -> bytes:
        """Return the message that carries a watermark."""
        raise NotImplementedError

    def _next(self, entries: Sequence[ReadEntry]) -> bytes:
        """Move over entries and return their message; empty if none of their rows is wanted."""
        if len(entries) == 1:  # a reader that keeps up: the message is the same for all who want the same
            piece = self._piece(entries[0])
            self.position = entries[0].sequence
            self.delivered_rows += piece.rows
            return piece.message(self.hub.tail(self.position)) if piece.rows else b""
        data: list[bytes] = []
        size = 0
        for entry in entries:
            piece = self._piece(entry)
            if data and size + len(piece.data) > MAX_WRITE_BYTES:
                break
            self.position = entry.sequence
            if piece.rows:
                data.append(piece.data)
                size += len(piece.data)
                self.delivered_rows += piece.rows
        return b"".join((*data, self.hub.tail(self.position))) if data else b""

    def _watermark(self) -> Watermark:
        return Watermark(
            time=timestamp(time.time_ns()),
            delivered_rows=self.delivered_rows,
            tape_sequence=self.hub.head,
            lag_entries=max(self.hub.head - self.position, 0),  # a cursor of a replica that is ahead
        )

    def _sent(self, data: bytes) -> bytes:
        self._sent_s = time.monotonic()
        self._silent = False
        self._unreported_bytes += len(data)
        return data

    def _report(self) -> None:
        """Count what was sent since the last time: not at each message, which would cost more than the message."""
        self._sent_bytes.inc(self._unreported_bytes)
        self._sent_rows.inc(self.delivered_rows - self._reported_rows)
        self._unreported_bytes, self._reported_rows = 0, self.delivered_rows


def serialize(message: Message) -> bytes:
    """Return a message's bytes."""
    return message.SerializeToString()
