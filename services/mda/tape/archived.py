"""What the archive has told: up to where it has a tape, and where each producer stood there.

The tape may drop what the archive has. A producer whose newest entry is dropped goes on from
its standing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from nats.aio.client import Client

from mda.tape.log import Log, Record, WrongPlaceError, token_of

_MAX_BYTES: Final = 64 << 20
"""Room for some hundred thousand producers."""

_EPOCH: Final = "Mda-Epoch"
_SEQUENCE: Final = "Mda-Sequence"
_LAST: Final = "Mda-Last"
_INSTRUMENTS: Final = "Mda-Instruments"
_HASH: Final = "Mda-Hash"
_NUMBERING: Final = "Mda-Numbering"
_POSITION: Final = "Mda-Position"


@dataclass(frozen=True, slots=True)
class Place:
    """Up to where the archive has a tape.

    Attributes
    ----------
    epoch
        The tape's epoch.
    sequence
        The sequence number of the newest entry that it has.
    """

    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a producer stood on a tape; of one that has nothing there by default.

    Attributes
    ----------
    sequence
        The sequence number of its newest entry.
    on_tape
        Whether that is on the tape still.
    last_number, instruments_version, numbering, position
        As in that entry.
    hash
        That of its link.
    """

    sequence: int = 0
    on_tape: bool = False
    last_number: int = 0
    instruments_version: int = 0
    hash: str = ""
    numbering: str = ""
    position: str = ""

    @property
    def expected(self) -> int:
        """What the tape takes for the sequence number of its newest entry: 0 once it has dropped that."""
        return self.sequence if self.on_tape else 0


class Archived:
    """What the archive has told of one dataset: on a log that keeps the newest record of each subject."""

    def __init__(self, client: Client, dataset: str) -> None:
        token = token_of(dataset)
        self._prefix = f"archived.{token}"
        self._log = Log(client, f"ARCHIVED_{token}", f"{self._prefix}.>")
        self._told: dict[str, int] = {}  # the newest record of each subject, as far as we know

    async def create(self, replicas: int) -> None:
        """Make the log, if it is not there."""
        await self._log.create(max_bytes=_MAX_BYTES, replicas=replicas, keep_s=None, newest_only=True)

    async def tell(self, place: Place, standings: Iterable[tuple[str, Standing]]) -> None:
        """Tell that the archive has a tape up to a place, and of the producers whose standing has changed.

        The standings first: who drops entries up to the place knows them to be there. What
        another archive has told meanwhile of a later entry stays.
        """
        epoch = {_EPOCH: str(place.epoch)}
        for producer, standing in standings:
            await self._tell(self._subject(producer), epoch | _headers(standing))
        await self._tell(f"{self._prefix}.place", epoch | {_SEQUENCE: str(place.sequence)})

    async def _tell(self, subject: str, headers: dict[str, str]) -> None:
        """Make a record the newest of its subject, unless that is of the same entry, or a later one."""
        while True:
            expected = self._told.get(subject)
            if expected is None:
                newest = await self._log.last(subject)
                if newest is not None and _entry(newest.headers) >= _entry(headers):
                    return
                expected = newest.sequence if newest is not None else 0
            try:
                self._told[subject] = await self._log.append(subject, b"", headers, expected)
            except WrongPlaceError:
                self._told.pop(subject, None)  # somebody else told: look what
            else:
                return

    async def place(self) -> Place | None:
        """Return up to where the archive has the tape; None where it has told of none."""
        record = await self._log.last(f"{self._prefix}.place")
        return None if record is None else _read_place(record)

    async def standing(self, producer: str) -> Standing:
        """Return the last standing of a producer that was told."""
        record = await self._log.last(self._subject(producer))
        return Standing() if record is None else _read_standing(record)

    async def follow(self) -> AsyncGenerator[Place]:
        """Yield the places that the archive tells, for ever; the newest first of all."""
        async with aclosing(self._log.follow(0)) as followed:
            async for records in followed:
                for record in records:
                    if record.subject == f"{self._prefix}.place":
                        yield _read_place(record)

    def _subject(self, producer: str) -> str:
        return f"{self._prefix}.producer.{token_of(producer)}"


def _entry(headers: Mapping[str, str]) -> tuple[int, int]:
    """Return the entry that a record is of: tapes that are made anew have greater epochs."""
    return int(headers[_EPOCH]), int(headers[_SEQUENCE])


def _read_place(record: Record) -> Place:
    return Place(int(record.headers[_EPOCH]), int(record.headers[_SEQUENCE]))


def _read_standing(record: Record) -> Standing:
    headers = record.headers
    return Standing(
        sequence=int(headers[_SEQUENCE]),
        last_number=int(headers[_LAST]),
        instruments_version=int(headers[_INSTRUMENTS]),
        hash=headers[_HASH],
        numbering=headers.get(_NUMBERING, ""),
        position=headers.get(_POSITION, ""),
    )


def _headers(standing: Standing) -> dict[str, str]:
    headers = {
        _SEQUENCE: str(standing.sequence),
        _LAST: str(standing.last_number),
        _INSTRUMENTS: str(standing.instruments_version),
        _HASH: standing.hash,
    }
    known = {_NUMBERING: standing.numbering, _POSITION: standing.position}
    return headers | {name: text for name, text in known.items() if text}
