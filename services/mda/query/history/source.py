"""Where queries of the past read: the lake, and what of the tape is not there yet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import ABSENT, Batch, Kind
from mda.lake.errors import LakeError
from mda.lake.lake import Lake, View
from mda.lake.layout import TABLES, Placed
from mda.market.corrections import Corrections, KnownCorrections, corrections_of
from mda.market.errors import archive_unavailable
from mda.query.history.changed import ChangeFinder, changes_alone
from mda.query.hub import Hub
from mda.query.ring import ReadEntry
from mda.tape.payload import decode_payload

_MOST_RECENT_ROWS: Final = 8 << 20
_ENTRIES_AT_ONCE: Final = 1_024
_TURN_S: Final = 0.002

EVERYTHING: Final = (0, ABSENT)
"""All event times."""

Ids = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows.

    Attributes
    ----------
    kind
        Their kind.
    ids
        Their instruments, ascending; None for all.
    times
        The first and the last event time, both included.
    columns
        The columns of the batch that matter; None for all.
    numbered
        Whether the rows' numbers in their entries matter; see `Lake.rows`.
    """

    kind: Kind
    ids: Ids | None = None
    times: tuple[int, int] = EVERYTHING
    columns: Sequence[str] | None = None
    numbered: bool = True

    def pick(self, placed: Placed) -> Placed:
        """Return the rows that are wanted, of rows of the kind."""
        times = placed.batch["ts_event"]
        keep = (times >= self.times[0]) & (times <= self.times[1])
        if self.ids is not None:
            keep &= np.isin(placed.batch["instrument_id"], self.ids)
        return placed if keep.all() else placed.take(keep)


@dataclass(slots=True)
class Source:
    """All rows of a dataset as they were at one moment: those of the lake, and those after them.

    Attributes
    ----------
    epoch
        The tape's epoch.
    until
        The sequence number of the tape's newest entry whose rows are there.
    lake, view
        The lake; None where there is none.
    recent
        By kind, the rows that the lake does not have.
    corrections
        The newest cancels and corrections of trades, which are known as they come.
    finder
        Finds all of them.
    """

    epoch: int
    until: int
    lake: Lake | None
    view: View | None
    recent: dict[Kind, list[Placed]] = field(default_factory=dict)
    corrections: Corrections = field(default_factory=Corrections)
    finder: ChangeFinder = field(init=False)

    def __post_init__(self) -> None:
        recent = self.recent.get(Kind.TRADE, [])
        self.finder = ChangeFinder(self.lake, self.view, recent, self.corrections, self.until)

    def span(self, kind: Kind) -> tuple[int, int]:
        """Return the least and the greatest event time of a kind; the least is above where there are no rows."""
        times = [placed.batch["ts_event"] for placed in self.recent.get(kind, ())]
        least = [int(found.min()) for found in times]
        greatest = [int(found.max()) for found in times]
        for file in self.view.tables[TABLES[kind]].files if self.view is not None else ():
            least.append(file.least["ts_event"])
            greatest.append(file.greatest["ts_event"])
        return (min(least), max(greatest)) if least else (1, 0)

    def rows(self, wanted: Wanted) -> Iterator[Placed]:
        """Yield the rows that are wanted, part by part. Blocks."""
        for placed in self.recent.get(wanted.kind, ()):
            found = wanted.pick(placed)
            if found.batch.rows:
                yield found
        if self.lake is not None and self.view is not None:
            yield from self.lake.rows(
                self.view, wanted.kind, wanted.ids, wanted.times, wanted.columns, numbered=wanted.numbered
            )

    def standing(self, wanted: Wanted) -> Iterator[Placed]:
        """Yield the rows that are wanted, trades as they stand. Blocks; errors are those of `ChangeFinder`."""
        if wanted.kind is not Kind.TRADE:
            yield from self.rows(wanted)
            return
        corrections = self.finder.of_trades(wanted.ids, wanted.times)
        for placed in self.rows(wanted):
            found = standing(placed, corrections)
            if self.finder.has_lost(corrections):
                corrections = self.finder.of_trades(wanted.ids, wanted.times)
                found = standing(placed, corrections)
            yield found


def standing(placed: Placed, corrections: KnownCorrections) -> Placed:
    """Return trades as they stand: without those that were cancelled, and without corrections themselves."""
    batch, keep = corrections.stand(placed.batch)
    changes = corrections_of(placed.batch)
    if changes is not None:
        keep &= ~changes
    found = Placed(batch, placed.epoch, placed.sequence, placed.row)
    return found if keep.all() else found.take(keep)


async def open_source(hub: Hub, kinds: Sequence[Kind], *, changes: bool = False) -> Source:
    """Return all rows of a dataset as they are now: what is durable is there.

    Parameters
    ----------
    hub
        The dataset.
    kinds
        The kinds.
    changes
        Whether of what the lake does not have only cancels and corrections are wanted.

    Raises
    ------
    MarketDataError
        TAPE_UNAVAILABLE; ARCHIVE_UNAVAILABLE, among others where the archive is so far
        behind that the rest does not fit into memory.
    """
    lake, view = await look(hub)
    archived = view.archived if view is not None else 0
    source = Source(hub.epoch, max(archived, hub.head), lake, view, {kind: [] for kind in kinds}, hub.corrections)
    await _gather(hub, archived, source, changes=changes)
    return source


async def look(hub: Hub) -> tuple[Lake | None, View | None]:
    """Return the lake as it is now, once the hub has read what is on the tape now; None where there is none.

    Raises
    ------
    MarketDataError
        TAPE_UNAVAILABLE; ARCHIVE_UNAVAILABLE.
    """
    await hub.caught_up()
    lake = hub.lake
    if lake is None:
        return None, None
    first = await hub.first()
    try:
        view = await asyncio.to_thread(lake.view)
        if view.archived < first - 1:  # it has dropped, since that look, what the lake has
            view = await asyncio.to_thread(partial(lake.view, fresh=True))
    except LakeError as error:
        raise archive_unavailable(hub.dataset, str(error)) from error
    return lake, view


async def _gather(hub: Hub, archived: int, source: Source, *, changes: bool) -> None:
    """Add the rows after what the lake has; of a tape that dropped entries before that, those that there are."""
    after, until = max(archived, await hub.first() - 1), source.until
    rows = 0
    turn = time.monotonic() + _TURN_S
    while after < until:
        entries = await hub.entries_after(after, _ENTRIES_AT_ONCE)
        if not entries:
            return
        for entry in entries:
            after = entry.sequence
            if after > until:
                return
            rows += _add(entry, source, changes=changes)
            if time.monotonic() > turn:
                await asyncio.sleep(0)
                turn = time.monotonic() + _TURN_S
        if rows > _MOST_RECENT_ROWS:
            raise archive_unavailable(
                hub.dataset, f"The archive of {hub.dataset} is more than {rows:,} rows behind. Try again later."
            )


def _add(entry: ReadEntry, source: Source, *, changes: bool) -> int:
    """Add what is wanted of an entry; return of how many rows that holds the memory."""
    row = kept = 0
    for batch in decode_payload(entry.payload):
        if batch.kind in source.recent:
            placed = _placed(batch, source.epoch, entry.sequence, row)
            parts = list(changes_alone([placed])) if changes else [placed]
            source.recent[batch.kind] += parts
            kept += sum(part.batch.rows for part in parts)
        row += batch.rows
    return kept if changes else row


def _placed(batch: Batch, epoch: int, sequence: int, row: int) -> Placed:
    rows = np.arange(row, row + batch.rows, dtype=np.int32)
    return Placed(batch, epoch, np.broadcast_to(np.int64(sequence), (batch.rows,)), rows)
