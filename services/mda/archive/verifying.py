"""Whether tape and lake have the same rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from marketdata.columns import Batch, Kind
from marketdata.digest import Digest, digest_of
from mda.archive.archiver import Archiver
from mda.lake.lake import Lake, View
from mda.tape.payload import decode_payload, split_payload
from mda.tape.tape import StoredEntry

_WITHIN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Verified:
    """The digests of a stretch of tape and lake.

    Attributes
    ----------
    tape, lake
        The digests.
    first, last
        The stretch: the sequence numbers of its first and last entry.
    complete
        Whether that is all that was asked for.
    """

    tape: Digest
    lake: Digest
    first: int
    last: int
    complete: bool


async def verify(archiver: Archiver, lake: Lake, first: int, last: int) -> Verified:
    """Compare a stretch of the tape with the lake, for up to two seconds.

    Parameters
    ----------
    archiver, lake
        The dataset's.
    first, last
        The stretch; it is cut to what both have. 0 for `last`: all that both have.

    Raises
    ------
    MarketDataError
        TAPE_UNAVAILABLE.
    LakeError
        Among others, for a file that is missing or damaged.
    """
    deadline = time.monotonic() + _WITHIN_S
    view = await asyncio.to_thread(lake.view, fresh=True)
    bounds = await archiver.tape.bounds()
    first = max(first, view.first, bounds.first if bounds is not None else 1)
    last = min(last or view.archived, view.archived)
    total = Verified(Digest(), Digest(), first, first - 1, complete=first > last)
    while total.last < last and (total.last < first or time.monotonic() < deadline):
        entries = [entry for entry in await archiver.tape.read(total.last) if entry.sequence <= last]
        until = entries[-1].sequence if entries else last
        from_tape, from_lake = await asyncio.to_thread(_compare, lake, view, entries, total.last + 1, until)
        total = Verified(total.tape + from_tape, total.lake + from_lake, first, until, complete=until == last)
    return total


def _compare(lake: Lake, view: View, entries: Iterable[StoredEntry], first: int, last: int) -> tuple[Digest, Digest]:
    found = [lake.stretch(view, kind, first, last) for kind in Kind]
    of_tape = [
        batch for entry in entries if entry.intact for batch in decode_payload(split_payload(entry.entry.payload)[1])
    ]
    return _digest(of_tape), _digest(placed.batch for placed in found if placed is not None)


def _digest(batches: Iterable[Batch]) -> Digest:
    return sum(map(digest_of, batches), Digest())
