"""All rows of a time in the order of the tape: `Scan`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from marketdata.columns import Batch
from mda.lake.lake import Lake, View
from mda.lake.layout import TABLES
from mda.query.backlog import Backlog
from mda.query.history.source import EVERYTHING
from mda.query.hub import Hub
from mda.query.ring import ReadEntry
from mda.query.selection import Selection
from mda.query.stream import MAX_WRITE_BYTES
from mda.tape.payload import decode_payload, encode_payload


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
        Whether trades are told as they stand.
    """

    selection: Selection
    times: tuple[int, int]
    corrected: bool


def stretch_of(lake: Lake, view: View, scan: Scan) -> tuple[int, int]:
    """Return the places in the lake between which its rows of a scan are; equal ones where there are none. Blocks."""
    wanted = view.of_epoch() | {"ts_event": scan.times}
    files = [file for kind in scan.selection.kinds for file in view.files(TABLES[kind], wanted)]
    if not files:
        return view.archived, view.archived
    first = min(file.least["tape_sequence"] for file in files)
    return first - 1, min(view.archived, max(file.greatest["tape_sequence"] for file in files))


async def scan_rows(hub: Hub, scan: Scan, place: int, until: int) -> AsyncGenerator[bytes]:
    """Yield the rows of a stretch of the tape as messages with `batches` and `cursor`.

    Parameters
    ----------
    hub
        The dataset.
    scan
        The rows.
    place, until
        The stretch begins after the one, and ends with the other.

    Raises
    ------
    MarketDataError
        As `Hub.entries_after`.
    """
    backlog = Backlog(hub)
    data: list[bytes] = []
    size = 0
    try:
        while place < until:
            entries = await backlog.after(place)
            if not entries:
                break
            for entry in entries:
                place = entry.sequence
                payload = _payload(hub, scan, entry) if place <= until else b""
                data.append(payload)
                size += len(payload)
                if size >= MAX_WRITE_BYTES or (size and place >= until):
                    yield b"".join((*data, hub.tail(entry)))
                    data, size = [], 0
                if place >= until:
                    return
            if size:
                yield b"".join((*data, hub.tail(entries[-1])))
                data, size = [], 0
    finally:
        backlog.drop()


def _payload(hub: Hub, scan: Scan, entry: ReadEntry) -> bytes:
    if scan.selection.everything and scan.times == EVERYTHING and not scan.corrected:
        return entry.payload
    # Decoded here, as the ring would keep what `entry.batches` makes.
    batches = [_within(batch, scan.times) for batch in scan.selection.filter(decode_payload(entry.payload))]
    if scan.corrected:
        batches = hub.corrections.apply_to(batches)
    return encode_payload(batch for batch in batches if batch.rows)


def _within(batch: Batch, times: tuple[int, int]) -> Batch:
    found = batch["ts_event"]
    keep = (found >= times[0]) & (found <= times[1])
    return batch if keep.all() else batch.take(keep)
