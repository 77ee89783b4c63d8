"""The lake of one dataset, for readers: rows by instrument and time, or in the order of the tape."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from marketdata.columns import ABSENT, Batch, Kind, concatenate
from marketdata.v1.batch_pb2 import TradeAction
from mda.lake.ahead import Ahead
from mda.lake.files import FileIndex, LakeFile, Range
from mda.lake.layout import ENTRIES, SCHEMAS, TABLES, Placed, from_table, stored_names
from mda.lake.location import Location
from mda.lake.reading import FileReader
from mda.lake.table import LakeTable, Snapshot
from mda.market.ticks import in_order

_FRESH_S: Final = 1.0
"""For how long a look at the log is good, in seconds."""

_MOST_EMPTY: Final = 8
_ROW_BITS: Final = 20
"""An entry has fewer rows than 2^20."""
_CHANGES: Final = (1, max(TradeAction.values()))
_CHANGE_COLUMNS: Final = ("refers_to", "action", "price", "size", "side")
_LATER: Final = (TABLES[Kind.BAR],)
"""Tables that a lake of an earlier version lacks until an archive of this one has run."""


@dataclass(frozen=True, slots=True)
class View:
    """The tables of a dataset as they stood at one moment.

    Attributes
    ----------
    epoch
        The tape's epoch.
    archived
        The sequence number of the newest entry all of whose rows are there: rows of later
        ones may be, and do not count. Nor do those of entries before `first`.
    tables
        By name.
    """

    epoch: int
    archived: int
    tables: Mapping[str, Snapshot]

    def files(self, table: str, wanted: Mapping[str, Range]) -> list[LakeFile]:
        """Return the files of a table that may hold rows in all of some ranges, in the order of the tape."""
        return self.tables[table].index.find(wanted)

    def is_of_one_tape(self, table: str) -> bool:
        """Return whether all rows of a table are of the tape."""
        return self.tables[table].index.is_all("tape_epoch", self.epoch)

    @property
    def first(self) -> int:
        """The sequence number of the oldest entry; one after `archived` where there is none."""
        entries = self.files(ENTRIES, self.of_epoch())
        return entries[0].least["tape_sequence"] if entries else self.archived + 1

    def of_epoch(self, first: int = 1, last: int | None = None) -> dict[str, Range]:
        """Return the ranges of a stretch of the tape."""
        last = self.archived if last is None else min(last, self.archived)
        return {"tape_epoch": (self.epoch, self.epoch), "tape_sequence": (first, last)}


class Lake:
    """The lake of one dataset. Its methods block; many threads may use it.

    Parameters
    ----------
    location
        Where the lake is.
    dataset
        The dataset.
    epoch
        The epoch of its tape.
    """

    def __init__(self, location: Location, dataset: str, epoch: int) -> None:
        self.epoch = epoch
        self._tables = {name: LakeTable(location.child(dataset), name) for name in (*TABLES.values(), ENTRIES)}
        self._lacking = set(_LATER)
        self._reader = FileReader()
        self._ahead = Ahead()
        self._lock = threading.Lock()
        self._view: View | None = None
        self._looked_s = 0.0

    def view(self, *, fresh: bool = False) -> View:
        """Return the tables as they stand now, or stood within the last second.

        Parameters
        ----------
        fresh
            Whether only now will do.

        Raises
        ------
        LakeError
        """
        with self._lock:
            now = time.monotonic()
            if self._view is None or fresh or now - self._looked_s > _FRESH_S:
                self._view = self._look()
                self._looked_s = now
            return self._view

    def _look(self) -> View:
        # The entries first: what they tell of is in the other tables already.
        entries = self._tables[ENTRIES]
        if not entries.exists():
            return View(self.epoch, 0, {name: _empty(table) for name, table in self._tables.items()})
        entries.refresh()
        archived = entries.offset(self.epoch)
        tables = {ENTRIES: entries.snapshot()}
        for name, table in self._tables.items():
            if table is not entries:
                tables[name] = self._snapshot(name, table)
        return View(self.epoch, archived, tables)

    def _snapshot(self, name: str, table: LakeTable) -> Snapshot:
        if name in self._lacking:
            if not table.exists():
                return _empty(table)
            self._lacking.remove(name)
        table.refresh()
        return table.snapshot()

    def rows(
        self,
        view: View,
        kind: Kind,
        ids: NDArray[np.uint32] | None,
        times: Range,
        columns: Sequence[str] | None = None,
        *,
        numbered: bool = True,
    ) -> Iterator[Placed]:
        """Yield the rows of some instruments, or of all, in a range of event times, file by file.

        Within a file the order is that of the file: of the tape, or of instrument and time.
        Two files are read ahead of who takes their rows.

        Parameters
        ----------
        view
            The tables.
        kind
            The kind.
        ids
            The instruments, ascending; None for all.
        times
            The first and the last `ts_event`, both included.
        columns
            The wanted columns of the batch; None for all. The rows' places come in any case.
        numbered
            Whether these have the rows' numbers in their entries. If not, `Placed.row` is in the
            same order for rows of one entry, instrument and event time, which are in one file.

        Raises
        ------
        LakeError
        """
        yield from self._rows(view, kind, ids, {"ts_event": times}, stored_names(kind, columns, numbered=numbered))

    def changes(
        self, view: View, ids: NDArray[np.uint32] | None, references: Range, after: int = 0
    ) -> Iterator[Placed]:
        """Yield the cancels and corrections of trades, file by file, of no file without any.

        Parameters
        ----------
        view
            The tables.
        ids
            The instruments, ascending; None for all.
        references
            The least and the greatest `refers_to`, both included, as the lake has them: signed.
        after
            More than 0 to leave out what stands no later than there on the tape, and what is of
            other tapes.

        Raises
        ------
        LakeError
        """
        wanted: dict[str, Range] = {"action": _CHANGES, "refers_to": references}
        if after:
            wanted |= view.of_epoch(after + 1)
        for found in self._rows(view, Kind.TRADE, ids, wanted, stored_names(Kind.TRADE, _CHANGE_COLUMNS)):
            keep = found.batch["action"] >= _CHANGES[0]
            keep &= _within(found.batch["refers_to"].view(np.int64), references)
            if keep.any():
                yield found.take(keep)

    def sequences(self, view: View, ids: NDArray[np.uint32] | None, times: Range) -> Range | None:
        """Return bounds of `sequence`, signed, of the trades that `rows` would yield; None if there are none.

        Reads footers alone.

        Raises
        ------
        LakeError
        """
        wanted = _with_ids({"ts_event": times}, ids)
        location = view.tables[TABLES[Kind.TRADE]].location
        files = view.files(TABLES[Kind.TRADE], wanted)
        bounds = [self._reader.bounds(location, file, wanted, "sequence") for file in files]
        found = [bound for bound in bounds if bound is not None]
        return (min(least for least, _ in found), max(greatest for _, greatest in found)) if found else None

    def _rows(
        self,
        view: View,
        kind: Kind,
        ids: NDArray[np.uint32] | None,
        wanted: Mapping[str, Range],
        names: Sequence[str],
    ) -> Iterator[Placed]:
        """Yield what counts of the row groups that may hold rows in all of some ranges: of those times."""
        wanted = _with_ids(wanted, ids)
        times = wanted.get("ts_event", (0, ABSENT))
        told = (view.first, view.archived)

        def read(file: LakeFile) -> Placed:
            found = self._read(view, kind, file, wanted, names)
            keep = np.ones(found.batch.rows, dtype=np.bool_)
            if not file.is_within("ts_event", times):
                keep &= _within(found.batch["ts_event"], times)
            if found.epoch == view.epoch and not file.is_within("tape_sequence", told):
                keep &= _within(found.sequence, told)
            if ids is not None and not (_is_run(ids) and file.is_within("instrument_id", wanted["instrument_id"])):
                keep &= _is_any(found.batch["instrument_id"], ids)
            return found if keep.all() else found.take(keep)

        for found in self._ahead.map(read, view.files(TABLES[kind], wanted)):
            if found.batch.rows:
                yield found

    def stretch(self, view: View, kind: Kind, first: int, last: int) -> Placed | None:
        """Return the rows of a stretch of the tape, in its order; None if there are none.

        Raises
        ------
        LakeError
        """
        wanted = view.of_epoch(first, last)
        parts: list[Placed] = []
        for file in view.files(TABLES[kind], wanted):
            found = self._read(view, kind, file, wanted, stored_names(kind, None))
            keep = _within(found.sequence, wanted["tape_sequence"])
            parts.append(found if keep.all() else found.take(keep))
        return in_tape_order(parts)

    def read(self, view: View, kind: Kind, file: LakeFile) -> Placed:
        """Return all rows of a file.

        Raises
        ------
        LakeError
        """
        return self._read(view, kind, file, {}, stored_names(kind, None))

    def first_since(self, view: View, time_ns: int) -> int | None:
        """Return the sequence number of the first entry that the tape took at or after a time; None if none is there.

        Raises
        ------
        LakeError
        """
        wanted = view.of_epoch() | {"time_ns": (time_ns, ABSENT)}
        for file in view.files(ENTRIES, wanted):
            table = self._reader.read(view.tables[ENTRIES].location, file, wanted)
            sequence = table.column("tape_sequence").to_numpy()
            found = sequence[(table.column("time_ns").to_numpy() >= time_ns) & (sequence <= view.archived)]
            if len(found):
                return int(found.min())
        return None

    def entries(self, view: View, first: int, last: int) -> pa.Table:
        """Return the entries of a stretch of the tape, in its order: the columns of `SCHEMAS`.

        Raises
        ------
        LakeError
        """
        wanted = view.of_epoch(first, last)
        snapshot = view.tables[ENTRIES]
        parts = [self._reader.read(snapshot.location, file, wanted) for file in view.files(ENTRIES, wanted)]
        if not parts:
            return SCHEMAS[ENTRIES].empty_table()
        table = pa.concat_tables(parts, promote_options="default")
        sequence = table.column("tape_sequence").to_numpy()
        rows = np.flatnonzero(_within(sequence, wanted["tape_sequence"]))
        return table.take(rows[np.argsort(sequence[rows], kind="stable")])

    def _read(
        self, view: View, kind: Kind, file: LakeFile, wanted: Mapping[str, Range], names: Sequence[str]
    ) -> Placed:
        table = self._reader.read(view.tables[TABLES[kind]].location, file, wanted, names)
        return from_table(kind, table, file.least["tape_epoch"])


def _with_ids(wanted: Mapping[str, Range], ids: NDArray[np.uint32] | None) -> Mapping[str, Range]:
    if ids is None or not len(ids):
        return wanted
    return dict(wanted) | {"instrument_id": (int(ids[0]), int(ids[-1]))}


def in_tape_order(parts: Sequence[Placed]) -> Placed | None:
    """Return rows of one tape as one, in its order; None if there are none."""
    parts = [part for part in parts if part.batch.rows]
    if len(parts) < 2 and all(_in_order(part) for part in parts):
        return parts[0] if parts else None
    batch = concatenate([part.batch for part in parts])
    sequence = np.concatenate([part.sequence for part in parts])
    row = np.concatenate([part.row for part in parts])
    placed = Placed(batch, parts[0].epoch, sequence, row)
    if _in_order(placed):
        return placed
    places = _places(sequence - sequence.min(), row)
    return _scattered(placed, places) if places is not None else placed.take(np.lexsort((row, sequence)))


def _in_order(placed: Placed) -> bool:
    return in_order((placed.sequence, placed.row))


def _places(sequence: NDArray[np.int64], row: NDArray[np.int32]) -> NDArray[np.int64] | None:
    """Return the place of each row in the order of the tape; None where a sort is cheaper.

    Counted, not sorted: the rows of a file have nearly all places of their stretch.
    """
    width = int(row.max()) + 1
    domain = (int(sequence.max()) + 1) * width
    if domain > _MOST_EMPTY * len(row):
        return None
    number = sequence * width + row
    there = np.zeros(domain, dtype=np.bool_)
    there[number] = True
    return (np.cumsum(there) - 1)[number]


def _scattered(placed: Placed, places: NDArray[np.int64]) -> Placed:
    """Return rows with each at its place."""

    def scatter(values: NDArray[Any]) -> NDArray[Any]:
        scattered = np.empty_like(values)
        scattered[places] = values
        return scattered

    batch = placed.batch
    columns = {name: scatter(values) for name, values in batch.columns.items()}
    return Placed(Batch(batch.kind, batch.rows, columns), placed.epoch, scatter(placed.sequence), scatter(placed.row))


def tape_keys(placed: Placed, base: int) -> NDArray[np.int64]:
    """Return numbers in the order of the rows' places; `base` is no greater than any sequence number."""
    return ((placed.sequence - base) << _ROW_BITS) + placed.row


def _is_run(ids: NDArray[np.uint32]) -> bool:
    """Return whether ascending ids follow one another without a hole."""
    return len(ids) > 0 and int(ids[-1]) - int(ids[0]) < len(ids)


def _is_any(values: NDArray[np.uint32], ids: NDArray[np.uint32]) -> NDArray[np.bool_]:
    return (values >= ids[0]) & (values <= ids[-1]) if _is_run(ids) else np.isin(values, ids)


def _within(values: NDArray[np.int64], bounds: Range) -> NDArray[np.bool_]:
    return (values >= bounds[0]) & (values <= bounds[1])


def _empty(table: LakeTable) -> Snapshot:
    return Snapshot(table.location, -1, FileIndex(()))
