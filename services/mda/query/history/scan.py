"""All rows of a time in the order of the tape: `Scan`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from marketdata.columns import Batch
from mda.lake.lake import Lake, View
from mda.lake.layout import TABLES
from mda.query.backlog import Backlog
from mda.query.corrected import CorrectedView
from mda.query.history.source import EVERYTHING
from mda.query.hub import Hub
from mda.query.ring import ReadEntry
from mda.query.selection import Selection
from mda.query.stream import MAX_WRITE_BYTES
from mda.runtime.usage.account import Account
from mda.tape.payload import decode_payload, encode_payload, rows_of_payload


@dataclass(frozen=True, slots=True)
class Scan:
    """What is scanned.

    Attributes
    ----------
    selection
        The instruments and kinds.
    times
        The first and the last event time, both included.
    corrected
        By what trades are told as they stand; None where they are told as they came.
    account
        What its client may still use; None where nothing is counted.
    """

    selection: Selection
    times: tuple[int, int]
    corrected: CorrectedView | None
    account: Account | None = None


Stretch = tuple[int, int]
"""A stretch of the tape: it begins after the one place, and ends with the other."""


def lake_stretch(lake: Lake, view: View, scan: Scan) -> Stretch:
    """Return the stretch in which the lake has rows of a scan; an empty one where it has none. Blocks."""
    wanted = view.of_epoch() | {"ts_event": scan.times}
    files = [file for kind in scan.selection.kinds for file in view.files(TABLES[kind], wanted)]
    if not files:
        return view.archived, view.archived
    first = min(file.least["tape_sequence"] for file in files)
    return first - 1, min(view.archived, max(file.greatest["tape_sequence"] for file in files))


async def scan_rows(hub: Hub, scan: Scan, stretches: Iterable[Stretch]) -> AsyncGenerator[bytes]:
    """Yield the rows of stretches of the tape as messages with `batches` and `cursor`.

    Raises
    ------
    MarketDataError
        As `Hub.entries_after` and `CorrectedView.reach`; ROW_QUOTA_SPENT.
    """
    for after, until in stretches:
        place = after
        async with aclosing(_pages(hub, after, until)) as pages:
            async for entries in pages:
                if scan.account is not None:
                    scan.account.require_rows()
                async with aclosing(_messages(hub, scan, place, entries)) as messages:
                    async for data in messages:
                        yield data
                place = entries[-1].sequence


async def _pages(hub: Hub, after: int, until: int) -> AsyncGenerator[Sequence[ReadEntry]]:
    """Yield the entries of a stretch, page by page."""
    backlog = Backlog(hub, until)
    try:
        while after < until and (found := await backlog.after(after)):
            after = found[-1].sequence
            if entries := [entry for entry in found if entry.sequence <= until]:
                yield entries
    finally:
        backlog.drop()


async def _messages(hub: Hub, scan: Scan, place: int, entries: Sequence[ReadEntry]) -> AsyncGenerator[bytes]:
    """Yield the messages of entries after a place."""
    data: list[bytes] = []
    size = 0
    for entry in entries:
        if scan.corrected is not None:
            await scan.corrected.reach(place)
        place = entry.sequence
        data.append(_payload(scan, entry))
        size += len(data[-1])
        if size >= MAX_WRITE_BYTES or (size and entry is entries[-1]):
            yield b"".join((*data, hub.tail(entry)))
            data, size = [], 0


def _payload(scan: Scan, entry: ReadEntry) -> bytes:
    if scan.selection.everything and scan.times == EVERYTHING and scan.corrected is None:
        _count(scan, rows_of_payload(entry.payload))
        return entry.payload
    # Decoded here, as the ring would keep what `entry.batches` makes.
    batches = [_within(batch, scan.times) for batch in scan.selection.filter(decode_payload(entry.payload))]
    if scan.corrected is not None:
        batches = scan.corrected.known.apply_to(batches)
    batches = [batch for batch in batches if batch.rows]
    _count(scan, sum(batch.rows for batch in batches))
    return encode_payload(batches)


def _count(scan: Scan, rows: int) -> None:
    if scan.account is not None:
        scan.account.count_rows(rows)


def _within(batch: Batch, times: tuple[int, int]) -> Batch:
    found = batch["ts_event"]
    keep = (found >= times[0]) & (found <= times[1])
    return batch if keep.all() else batch.take(keep)
