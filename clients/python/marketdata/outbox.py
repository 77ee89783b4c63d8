"""A publisher's batches from when they are given until they are acknowledged: what is sent next, and what again."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import grpc

from marketdata.codec import Encoded, encode, field_tag, varint
from marketdata.columns import Batch
from marketdata.errors import error_of
from marketdata.ingestion.v1.ingestion_service_pb2 import Batches, NumberedBatch, PublishRequest
from marketdata.spool import Numbered, SpoolFile
from marketdata.v1.gap_pb2 import Gap

_BATCHES: Final = field_tag(PublishRequest, "batches")
_NUMBERED: Final = field_tag(Batches, "batches")
_NUMBER: Final = varint(NumberedBatch.DESCRIPTOR.fields_by_name["number"].number << 3)
_ROWS: Final = field_tag(NumberedBatch, "batch")
_NOTHING: Final = Encoded([], 0)
_JOINED_BYTES: Final = 512 * 1024
"""Batches that wait are sent in messages of up to so many bytes."""
_ACCEPTED_ROWS: Final = 1 << 19
"""Of so many of the newest accepted rows a copy is kept: more than the server may hold in memory."""
_IN_FLIGHT: Final = 4
_WORTH_BYTES: Final = 64 * 1024
"""While so many messages wait for their acknowledgement, another is sent from so many bytes on only: small
batches that come fast are joined, which costs everybody less."""


class Outbox:
    """Batches that are not acknowledged yet, in the order of their numbers.

    Parameters
    ----------
    keeps_accepted
        Whether an acknowledgement says only that a batch was accepted: the newest of these are
        kept, as a server that is killed may lose them.
    until_visible
        Whether it says that a batch is in the lake: one that is on the tape is sent again after
        a break all the same, to hear that.
    spool
        Where batches are kept besides; None for nowhere.

    Attributes
    ----------
    last_number
        The number of the last batch that was put in.
    position
        Where the producer stood in its source when it was opened.
    rows
        How many rows wait for their acknowledgement.
    acknowledged_rows, duplicate_batches
        As a `Publisher` has them.
    """

    def __init__(self, *, keeps_accepted: bool, until_visible: bool, spool: SpoolFile | None) -> None:
        self._keeps_accepted = keeps_accepted
        self._until_visible = until_visible
        self._spool = spool
        self._sent: deque[Numbered] = deque()  # not acknowledged yet
        self._unsent: deque[Numbered] = deque()
        self._unsent_bytes = 0
        self._accepted: deque[Numbered] = deque()  # acknowledged, and perhaps not durable yet
        self._accepted_rows = 0
        self._in_flight: deque[int] = deque()  # the last number of each message that is not acknowledged
        self._acknowledged_number = 0
        self._counted_number = 0  # up to here batches are counted, although they may be sent again
        self.last_number = 0
        self.position = ""
        self.rows = 0
        self.acknowledged_rows = 0
        self.duplicate_batches = 0

    @property
    def is_empty(self) -> bool:
        """Whether all is acknowledged."""
        return not self._sent and not self._unsent

    @property
    def is_worth_a_message(self) -> bool:
        """Whether what waits is to be sent now, rather than joined by more of it."""
        enough = len(self._in_flight) < _IN_FLIGHT or self._unsent_bytes >= _WORTH_BYTES
        return bool(self._unsent) and enough

    def put(self, batch: Batch | None, gaps: Sequence[Gap], position: str) -> Numbered:
        """Take the next batch, as `Publisher.publish` is given it; return it with its number.

        Raises
        ------
        SpoolError
            If it cannot be kept.
        """
        item = _numbered(self.last_number + 1, batch, gaps, position)
        if self._spool is not None:
            self._spool.append(item)
        self._unsent.append(item)
        self._unsent_bytes += len(item.message)
        self.rows += item.rows
        self.last_number = item.number
        return item

    def begin(self, last_number: int, position: str) -> None:
        """Begin where the server says that the producer stands; what is in the spool beyond that is to be sent.

        Raises
        ------
        ApiError
            DATA_LOSS if the server has less than it had acknowledged.
        """
        self.last_number, self.position = last_number, position
        if self._spool is None or not self._spool.found:
            return
        found = [item for item in self._spool.found if item.number > last_number]
        if found and found[0].number > last_number + 1:
            raise error_of(
                grpc.StatusCode.DATA_LOSS,
                f"the tape has lost batches from {last_number + 1} on, which it had acknowledged: the spool"
                f" goes on with {found[0].number}",
            )
        self._spool.found.clear()
        self._spool.acknowledge(last_number)
        self._unsent += found
        self.rows += sum(item.rows for item in found)
        self.last_number = found[-1].number if found else last_number
        self.position = next(filter(None, map(_position, reversed(found))), position)

    def resume(self, last_number: int) -> None:
        """Go on by a new connection: what the server has is acknowledged, the rest is to be sent again.

        Raises
        ------
        ApiError
            DATA_LOSS as in `begin`.
        """
        if self._until_visible:
            again = [*self._sent]  # those that are durable are acknowledged, too, once they are visible
        else:
            self.acknowledge(last_number)
            again = [item for item in (*self._accepted, *self._sent) if item.number > last_number]
        if last_number < self._acknowledged_number and (not again or again[0].number > last_number + 1):
            raise error_of(
                grpc.StatusCode.DATA_LOSS,
                f"the tape has lost batches from {last_number + 1} on, which it had acknowledged",
            )
        self._counted_number = self._acknowledged_number if self._keeps_accepted else 0
        self._unsent.extendleft(reversed(again))
        self._unsent_bytes = sum(len(item.message) for item in self._unsent)
        self._in_flight.clear()
        self._accepted.clear()
        self._accepted_rows = 0
        self._sent.clear()

    def next_message(self) -> bytes:
        """Return the next batches that wait as one message. There must be one."""
        items = [self._unsent.popleft()]
        size = len(items[0].message)
        while self._unsent and size + len(self._unsent[0].message) <= _JOINED_BYTES:
            items.append(self._unsent.popleft())
            size += len(items[-1].message)
        self._sent += items
        self._unsent_bytes -= size
        self._in_flight.append(items[-1].number)
        if len(items) == 1:
            return items[0].message
        parts = [memoryview(item.message)[item.start :] for item in items]
        return b"".join((_BATCHES, varint(sum(map(len, parts))), *parts))

    def acknowledge(self, number: int, *, duplicate: bool = False) -> None:
        """Forget batches up to a number."""
        while self._in_flight and self._in_flight[0] <= number:
            self._in_flight.popleft()
        while self._sent and self._sent[0].number <= number:
            item = self._sent.popleft()
            if self._keeps_accepted:
                self._keep(item)
            if item.number <= self._counted_number:
                continue  # accepted before, and sent again
            self.rows -= item.rows
            if duplicate:
                self.duplicate_batches += 1
            else:
                self.acknowledged_rows += item.rows
        self._acknowledged_number = max(self._acknowledged_number, number)
        if self._spool is not None:
            self._spool.acknowledge(number)

    def _keep(self, item: Numbered) -> None:
        """Keep a batch that was accepted: it may have to be sent again, if the server is killed."""
        self._accepted.append(item)
        self._accepted_rows += item.rows
        while self._accepted_rows - self._accepted[0].rows > _ACCEPTED_ROWS:
            self._accepted_rows -= self._accepted.popleft().rows


def _position(item: Numbered) -> str:
    """Return the position of a batch that was written as a message."""
    return PublishRequest.FromString(item.message).batches.batches[-1].position


def _numbered(number: int, batch: Batch | None, gaps: Sequence[Gap], position: str) -> Numbered:
    rows = _NOTHING if batch is None else encode(batch).within(_ROWS)
    head = _NUMBER + varint(number)
    told = NumberedBatch(gaps=gaps, position=position).SerializeToString() if gaps or position else b""
    numbered = Encoded([head, *rows.parts, told], len(head) + rows.size + len(told)).within(_NUMBERED)
    message = numbered.within(_BATCHES)
    count = 0 if batch is None else batch.rows
    return Numbered(number, count, b"".join(message.parts), message.size - numbered.size)
