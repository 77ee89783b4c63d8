"""Rows of one producer that are set aside: each once, however often their batch is sent."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from marketdata.columns import Batch
from marketdata.v1 import error_reason_pb2 as reasons
from mda.market.bits import Mask, some
from mda.market.errors import MarketDataError
from mda.market.verdicts import Judged
from mda.tape.log import WrongPlaceError
from mda.tape.quarantine import MAX_ITEM_ROWS, Quarantine, QuarantineEntry, SetAside

_GIVE_UP_S: Final = 15.0
"""How long to try against a quarantine that does not answer, in seconds."""
_PAUSE_S: Final = 0.2
_MOST_ENTRIES: Final = 256
"""How many entries to look up when a producer opens: many more than groups wait for the tape."""


class Sideline:
    """Writes a producer's rows to the quarantine before the rest of their batch goes on the tape.

    A batch that did not reach the tape may have been here: it is sent again, and its rows
    are known by its number, their positions and themselves. They stay set aside, even if
    the policy has changed since, and are not written again. So a row is on the tape or in
    the quarantine, and there once.
    """

    def __init__(self, quarantine: Quarantine, producer: str) -> None:
        self._quarantine = quarantine
        self._producer = producer
        self._place = 0
        self._known: dict[int, list[SetAside]] = {}

    async def open(self, last_number: int) -> None:
        """Look up what was set aside of batches after the last one on the tape.

        Raises
        ------
        MarketDataError
            TAPE_UNAVAILABLE.
        """
        entry = await self._quarantine.newest_of(self._producer)
        place = 0 if entry is None else entry.sequence
        for _ in range(_MOST_ENTRIES):
            if entry is None or entry.items[-1].number <= last_number:
                break
            self._know(entry)  # of a group that was judged, and had not reached the tape
            entry = await self._before(entry)
        self._place = place

    async def settle(self, numbers: Sequence[int], judged: Sequence[Judged]) -> list[Judged]:
        """Set aside what is to be set aside of batches; return once that is durable.

        Parameters
        ----------
        numbers, judged
            The batches, with their numbers, in order of number.

        Returns
        -------
        list of Judged
            The same, with what was set aside before among what is now.

        Raises
        ------
        MarketDataError
            TAPE_FULL; TAPE_UNAVAILABLE, after 15 s without an answer.
        """
        while True:
            settled = [self._settled(number, part) for number, part in zip(numbers, judged, strict=True)]
            fresh = [
                item
                for number, (part, known) in zip(numbers, settled, strict=True)
                for item in _items(number, part, known)
            ]
            if not fresh or await self._write(fresh):
                break
        self._known = {number: items for number, items in self._known.items() if number > numbers[-1]}
        return [part for part, _ in settled]

    @property
    def expects(self) -> bool:
        """Whether rows of batches to come were set aside before."""
        return bool(self._known)

    def _settled(self, number: int, part: Judged) -> tuple[Judged, Mask]:
        """Return a batch with what is known to be set aside, and which rows that is."""
        known = np.zeros(part.batch.rows, dtype=np.bool_)
        for item in self._known.get(number, ()):
            if _holds(part.batch, item):
                known[item.positions] = True
        if not some(known):
            return part, known
        aside = known if part.aside is None else part.aside | known
        return replace(part, aside=aside, flagged=None if part.flagged is None else part.flagged & ~aside), known

    async def _write(self, items: Sequence[SetAside]) -> bool:
        """Append an entry; return whether it is there, and not first to be looked at what others wrote."""
        entry_id = secrets.token_hex(16)
        deadline = time.monotonic() + _GIVE_UP_S
        while True:
            try:
                self._place = await self._quarantine.append(self._producer, items, entry_id, self._place)
            except WrongPlaceError:
                return await self._catch_up(entry_id)
            except MarketDataError as error:
                if error.reason != reasons.ERROR_REASON_TAPE_UNAVAILABLE or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_PAUSE_S)
            else:
                return True

    async def _catch_up(self, entry_id: str) -> bool:
        """Look at the entries since; return whether ours is among them: it had landed, and the answer was lost."""
        while (entry := await self._quarantine.next_of(self._producer, self._place)) is not None:
            self._place = entry.sequence
            if entry.id == entry_id:
                return True
            self._know(entry)  # of an older connection, which has not noticed yet that it is fenced off
        return False

    async def _before(self, entry: QuarantineEntry) -> QuarantineEntry | None:
        found = await self._quarantine.next_of(self._producer, entry.previous - 1) if entry.previous else None
        return found if found is not None and found.sequence == entry.previous else None  # else gone by age

    def _know(self, entry: QuarantineEntry) -> None:
        for item in entry.items:
            self._known.setdefault(item.number, []).append(item)


def _holds(batch: Batch, item: SetAside) -> bool:
    """Return whether a batch has an item's rows where they were: a producer may send other rows by that number."""
    if batch.kind is not item.batch.kind or int(item.positions[-1]) >= batch.rows:
        return False
    return all(np.array_equal(batch[name][item.positions], item.batch[name]) for name in batch if name != "verdicts")


def _items(number: int, part: Judged, known: Mask) -> list[SetAside]:
    """Return what is to be set aside of a batch and is not yet."""
    if part.aside is None:
        return []
    positions = np.flatnonzero(part.aside & ~known).astype(np.uint32)
    pieces = (positions[start : start + MAX_ITEM_ROWS] for start in range(0, len(positions), MAX_ITEM_ROWS))
    return [SetAside(number, piece, part.batch.take(piece)) for piece in pieces]
