"""The digest of a stretch of the tape."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from marketdata.columns import Batch, Kind, concatenate
from marketdata.digest import Digest, digest_of
from marketdata.query.v1.query_service_pb2 import GetDigestRequest
from mda.market.errors import invalid_field
from mda.query.hub import Hub
from mda.query.ring import ReadEntry
from mda.query.selection import ALL_KINDS, Selection, select
from mda.tape.payload import decode_payload

_WITHIN_S: Final = 1.0
_TURN_S: Final = 0.002
"""After so long the streams of the same loop have their turn, in seconds."""

_WAIT_S: Final = 0.02
_ENTRIES_AT_ONCE: Final = 1024
"""As many as one read of the tape gives, as those beyond it would be read again."""

_ROWS_AT_ONCE: Final = 8192
_BATCHES_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True)
class TapeDigest:
    """The digest of a stretch of the tape, or of its beginning.

    Attributes
    ----------
    digest
        The digest of the wanted rows.
    cursor
        The place that it goes up to.
    complete
        Whether that is the place that was asked for.
    """

    digest: Digest
    cursor: str
    complete: bool


async def tape_digest(
    hub: Hub, request: GetDigestRequest, ids: Sequence[int] | None, *, within_s: float = _WITHIN_S
) -> TapeDigest:
    """Return the digest of what a subscription gets of a stretch of the tape.

    Parameters
    ----------
    hub
        The dataset.
    request
        The stretch and the kinds.
    ids
        The instruments that its symbols stand for; None for all.
    within_s
        How long to read, in seconds, before the rest is left for the next call; one
        entry is read in any case.

    Raises
    ------
    MarketDataError
        TAPE_UNAVAILABLE; INVALID_FIELD if `until` is before `after`; INVALID_CURSOR; CURSOR_OUT_OF_RANGE
        if the tape does not hold a place, or loses it meanwhile.
    """
    deadline = time.monotonic() + within_s
    after, until = await _stretch(hub, request)
    kinds = frozenset(Kind(kind) for kind in request.kinds if kind) or ALL_KINDS
    reading = _Reading(hub, select(None if ids is None else frozenset(ids), kinds), after, until)
    await reading.run(deadline)
    complete = reading.place == until
    cursor = request.until if complete and request.until else hub.cursor(reading.place)
    return TapeDigest(reading.digest(), cursor, complete)


async def _stretch(hub: Hub, request: GetDigestRequest) -> tuple[int, int]:
    after = await hub.place(request.after, "after") if request.after else await hub.earliest()
    if not request.until:
        await hub.caught_up()  # what is durable counts, whichever replica is asked
        return after, max(hub.head, after)  # `after` may be of a replica that is ahead
    until = await hub.place(request.until, "until")
    if until < after:
        raise invalid_field("until", "after", "until: is before `after`. Send a place that comes after it.")
    return after, until


class _Reading:
    """Reads a stretch of the tape and adds up the digests of its wanted rows.

    Attributes
    ----------
    place
        Up to where it has read.
    """

    def __init__(self, hub: Hub, selection: Selection, after: int, until: int) -> None:
        self.place = after
        self._hub = hub
        self._selection = selection
        self._until = until
        self._sums = {kind: _Sum() for kind in Kind}

    def digest(self) -> Digest:
        """Return the digest of what was read."""
        return sum((kind.total() for kind in self._sums.values()), Digest())

    async def run(self, deadline: float) -> None:
        """Read on, to the end or until a time on the monotonic clock."""
        turn = time.monotonic() + _TURN_S
        while self.place < self._until:
            entries = await self._hub.entries_after(self.place, _ENTRIES_AT_ONCE, self._until)
            if not entries:
                await self._wait()
            for entry in entries:
                self._take(entry)
                now = time.monotonic()
                if self.place == self._until or now >= deadline:
                    return
                if now >= turn:
                    await asyncio.sleep(0)
                    turn = time.monotonic() + _TURN_S
            if time.monotonic() >= deadline:
                return

    def _take(self, entry: ReadEntry) -> None:
        # Where entries are missing, the stretch may end between two that are there.
        self.place = min(entry.sequence, self._until)
        if entry.sequence > self._until:
            return
        # Decoded here, as the ring would keep what `entry.batches` makes.
        for batch in self._selection.filter(decode_payload(entry.payload)):
            self._sums[batch.kind].add(batch)

    async def _wait(self) -> None:
        """Wait for a hub that is behind the end; where it is not, the tape has lost the last entries."""
        if self._hub.head >= self._until:
            self.place = self._until
        else:
            await asyncio.sleep(_WAIT_S)


class _Sum:
    """The digest of batches of one kind; small ones are joined, as one digest costs less than many."""

    def __init__(self) -> None:
        self._digest = Digest()
        self._waiting: list[Batch] = []
        self._rows = 0

    def add(self, batch: Batch) -> None:
        """Add a batch."""
        self._waiting.append(batch)
        self._rows += batch.rows
        if self._rows >= _ROWS_AT_ONCE or len(self._waiting) >= _BATCHES_AT_ONCE:
            self.total()

    def total(self) -> Digest:
        """Return the digest of all batches."""
        if self._waiting:
            self._digest += digest_of(concatenate(self._waiting))
            self._waiting, self._rows = [], 0
        return self._digest
