"""Appends of one producer: each batch on the tape exactly once."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from marketdata.v1 import error_reason_pb2 as reasons
from mda.market.errors import MarketDataError
from mda.tape.log import WrongPlaceError
from mda.tape.tape import Entry, Tape

_GIVE_UP_S: Final = 15.0
"""How long to try against a tape that does not answer, in seconds."""
_PAUSE_S: Final = 0.2
_CLAIMS: Final = 10
"""How many times to look up and claim, while others append under the producer's name."""


class Appender:
    """Knows where a producer stands on the tape and appends its next entry there.

    The expected place of an append makes it exclusive: of two connections of one
    producer, the one that opened later goes on, and the other is fenced off. An append
    whose answer is lost is looked up before it is tried again.

    Attributes
    ----------
    last_number
        The number of the producer's newest batch on the tape; 0 if there is none.
    """

    def __init__(self, tape: Tape, producer: str) -> None:
        self._tape = tape
        self._producer = producer
        self._expected = 0
        self.last_number = 0

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
            newest = await self._tape.newest_of(self._producer)
            last = newest.entry.last_number if newest else 0
            claim = Entry(last, last, newest.entry.instruments_version if newest else 0, b"")
            try:
                self._expected = await self._tape.append(self._producer, claim, newest.sequence if newest else 0)
            except WrongPlaceError:  # something landed in between: look again
                claims += 1
                continue
            except MarketDataError as error:  # whether it landed or not: look again
                if error.reason != reasons.ERROR_REASON_TAPE_UNAVAILABLE or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_PAUSE_S)
                continue
            self.last_number = last
            return
        raise self._fenced()

    async def append(self, entry: Entry) -> int:
        """Append the producer's next entry; return its sequence number, once it is durable.

        Raises
        ------
        MarketDataError
            FENCED, if another connection has appended; TAPE_FULL; TAPE_UNAVAILABLE,
            after 15 s without an answer.
        """
        deadline = time.monotonic() + _GIVE_UP_S
        doubtful = False
        while True:
            try:
                sequence = await self._tape.append(self._producer, entry, self._expected)
                break
            except WrongPlaceError:
                found = await self._find(entry, doubtful=doubtful)
                if found is None:
                    raise self._fenced() from None
                sequence = found
                break
            except MarketDataError as error:
                if error.reason != reasons.ERROR_REASON_TAPE_UNAVAILABLE or time.monotonic() > deadline:
                    raise
                doubtful = True
                await asyncio.sleep(_PAUSE_S)
        self._expected = sequence
        self.last_number = entry.last_number
        return sequence

    async def _find(self, entry: Entry, *, doubtful: bool) -> int | None:
        """Return where an entry is that we may have appended without hearing of it."""
        newest = await self._tape.newest_of(self._producer)
        if not doubtful or newest is None or newest.entry != entry:
            return None
        return newest.sequence

    def _fenced(self) -> MarketDataError:
        return MarketDataError(
            reasons.ERROR_REASON_FENCED,
            f"Another connection publishes as {self._producer!r} in {self._tape.dataset}. "
            "Give each producer a name of its own; then open again.",
            dataset=self._tape.dataset,
            producer=self._producer,
        )
