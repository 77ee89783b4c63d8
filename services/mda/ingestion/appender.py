"""Appends of one producer: each batch on the tape exactly once."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Final

from marketdata.v1 import error_reason_pb2 as reasons
from mda.market.errors import MarketDataError
from mda.tape.chain import Link
from mda.tape.log import WrongPlaceError
from mda.tape.tape import Entry, Tape

_GIVE_UP_S: Final = 15.0
"""How long to try against a tape that does not answer, in seconds."""
_PAUSE_S: Final = 0.2
_CLAIMS: Final = 10
"""How many times to look up and claim, while others append under the producer's name."""
_PATIENT_APPENDS: Final = 64
"""How many appends wait for the one before them, after another producer's entry came in between."""


@dataclass(frozen=True, slots=True)
class _Placed:
    """An entry that is, or will be, on the tape: its hash, and its sequence number once it is known."""

    hash: str
    sequence: asyncio.Future[int]


class Appender:
    """Knows where a producer stands on the tape and appends its next entries there.

    The expected place of an append makes it exclusive: of two connections of one
    producer, the one that opened later goes on, and the other is fenced off. An append
    whose answer is lost is looked up before it is tried again.

    An append may begin while the one before it is under way. It is then sent with the
    condition that the one before it is the newest entry of the tape; where other
    producers' entries come in between, it waits for its place to be known, and for a
    while so do those after it.

    Attributes
    ----------
    last_number
        The number of the producer's newest batch on the tape; 0 if there is none.
    opened_sequence
        The sequence number of the entry that claimed its place; 0 before `open`.
    numbering, position
        What the tape told of its sequence numbers, and of its place in its source, when it
        was opened.
    """

    def __init__(self, tape: Tape, producer: str) -> None:
        self._tape = tape
        self._producer = producer
        self._newest = _placed("", 0)
        self._patient = 0
        self.last_number = 0
        self.opened_sequence = 0
        self.numbering = self.position = ""

    async def open(self) -> None:
        """Look up where the producer stands, and claim the place after it by an entry without rows.

        From then on, whatever an older connection has under way cannot land any more.

        Raises
        ------
        MarketDataError
            FENCED, if others keep claiming; TAPE_FULL; TAPE_UNAVAILABLE, after 15 s
            without an answer.
        """
        deadline = time.monotonic() + _GIVE_UP_S
        claims = 0
        while claims < _CLAIMS:
            standing = await self._tape.standing_of(self._producer)
            last, numbering, position = standing.last_number, standing.numbering, standing.position
            claim = Entry(last, last, standing.instruments_version, b"", numbering, position)
            link = claim.link(self._producer, standing.hash, secrets.token_hex(8))
            try:
                sequence = await self._tape.append(self._producer, claim, link, standing.expected)
            except WrongPlaceError:  # something landed in between: look again
                claims += 1
                continue
            except MarketDataError as error:  # whether it landed or not: look again
                if error.reason != reasons.ERROR_REASON_TAPE_UNAVAILABLE or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_PAUSE_S)
                continue
            self._newest = _placed(link.hash, sequence)
            self.opened_sequence = sequence
            self.last_number, self.numbering, self.position = last, numbering, position
            return
        raise self._fenced()

    async def append(self, entry: Entry) -> int:
        """Append the producer's next entry; return its sequence number, once it is durable.

        Raises
        ------
        MarketDataError
            FENCED, if another connection has appended; TAPE_FULL; TAPE_UNAVAILABLE,
            after 15 s without an answer; or that of the append before it.
        """
        previous = self._newest
        link = entry.link(self._producer, previous.hash)
        current = self._newest = _Placed(link.hash, asyncio.get_running_loop().create_future())
        try:
            sequence = await self._append(entry, link, previous)
        except BaseException as error:
            # What comes after it cannot land either.
            current.sequence.set_exception(error if isinstance(error, MarketDataError) else self._fenced())
            current.sequence.exception()  # somebody has looked: nobody may be waiting
            raise
        current.sequence.set_result(sequence)
        self.last_number = entry.last_number
        return sequence

    async def _append(self, entry: Entry, link: Link, previous: _Placed) -> int:
        if not previous.sequence.done() and not self._patient:
            try:
                return await self._tape.append(self._producer, entry, link, previous.hash)
            except WrongPlaceError:
                self._patient = _PATIENT_APPENDS
            except MarketDataError as error:
                if error.reason != reasons.ERROR_REASON_TAPE_UNAVAILABLE:
                    raise
        self._patient = max(0, self._patient - 1)
        return await self._append_after(entry, link, await previous.sequence)

    async def _append_after(self, entry: Entry, link: Link, expected: int) -> int:
        deadline = time.monotonic() + _GIVE_UP_S
        while True:
            try:
                return await self._tape.append(self._producer, entry, link, expected)
            except WrongPlaceError:
                found = await self._tape.next_of(self._producer, expected)
                if found is not None and found.link == link:
                    return found.sequence  # it had landed, and the answer was lost
                if not expected or found is not None or not await self._dropped(link.previous):
                    raise self._fenced() from None
                expected = 0
            except MarketDataError as error:
                if error.reason != reasons.ERROR_REASON_TAPE_UNAVAILABLE or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_PAUSE_S)

    async def _dropped(self, newest: str) -> bool:
        """Return whether the tape has dropped all of the producer's entries, the newest of which has a hash."""
        standing = await self._tape.standing_of(self._producer)
        return standing.expected == 0 and standing.hash == newest

    def _fenced(self) -> MarketDataError:
        return MarketDataError(
            reasons.ERROR_REASON_FENCED,
            f"Another connection publishes as {self._producer!r} in {self._tape.dataset}. "
            "Give each producer a name of its own; then open again.",
            dataset=self._tape.dataset,
            producer=self._producer,
        )


def _placed(entry_hash: str, sequence: int) -> _Placed:
    placed = _Placed(entry_hash, asyncio.get_running_loop().create_future())
    placed.sequence.set_result(sequence)
    return placed
