"""Commits of rows to the tables of a dataset: exactly once, whoever is killed in between."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from marketdata.columns import Kind
from mda.archive.pending import Pending, instruments_table
from mda.lake.errors import LakeError
from mda.lake.files import write_file
from mda.lake.layout import ENTRIES, GAPS, INSTRUMENTS, TABLES, to_table
from mda.lake.location import Location
from mda.lake.reading import FileReader
from mda.lake.table import LakeTable
from mda.market.instruments import Directory


class Tables:
    """The tables of one dataset, for the one who fills them. Its methods block; one thread at a time may use it.

    Each table is committed by itself, with the place on the tape up to which it has all
    rows. Rows come first, and the table of entries last: what that tells of is in the
    others. After a kill some tables may be ahead of others; they are given only what they
    lack.

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
        self._epoch = epoch
        folder = location.child(dataset)
        self._rows = {kind: LakeTable(folder, TABLES[kind]) for kind in Kind}
        self._gaps = LakeTable(folder, GAPS)
        self._entries = LakeTable(folder, ENTRIES)
        self._instruments = LakeTable(folder, INSTRUMENTS)
        self._reader = FileReader()

    @property
    def _all(self) -> list[LakeTable]:
        return [*self._rows.values(), self._gaps, self._entries]

    def open(self) -> int:
        """Make tables that are not there; return the place up to which all have all rows.

        Raises
        ------
        LakeError
        """
        for table in (*self._all, self._instruments):
            table.create()
            table.refresh()
        for table in self._all:
            self._check(table)
        return self._entries.offset(self._epoch)

    def _check(self, table: LakeTable) -> None:
        """See that no rows are there beyond the place that a table has: their commit was cut short."""
        offset = table.offset(self._epoch)
        for file in table.snapshot().files:
            if file.least["tape_epoch"] == self._epoch and file.greatest["tape_sequence"] > offset:
                raise table.damaged(
                    f"has rows up to entry {file.greatest['tape_sequence']} of the tape, but says {offset}: a commit "
                    f"of its log was cut short. Restore the log, or take {file.path} out of the table."
                )

    def commit(self, pending: Pending) -> None:
        """Commit entries and their rows.

        Raises
        ------
        ConflictError
            If another archive has committed some of these: open anew.
        LakeError
        """
        for kind, table in self._rows.items():
            after = table.offset(self._epoch)
            if after < pending.last:
                days = pending.days(kind, after)
                files = [write_file(table.location, to_table(placed), day) for day, placed in days]
                if files:
                    table.append(files, self._epoch, pending.last)
        gaps = pending.gaps(self._gaps.offset(self._epoch))
        if gaps is not None:
            self._gaps.append([write_file(self._gaps.location, gaps, None)], self._epoch, pending.last)
        file = write_file(self._entries.location, pending.entries(), None)
        self._entries.append([file], self._epoch, pending.last)

    def put_instruments(self, directory: Directory) -> None:
        """Write the instruments, where the table has those of an earlier version.

        Raises
        ------
        ConflictError, LakeError
        """
        if self._instruments.number < directory.version and len(directory):
            file = write_file(self._instruments.location, instruments_table(directory), None)
            self._instruments.put([file], directory.version)

    def mark(self, sequence: int) -> int:
        """Return the mark of an entry; 0 where it is not there.

        Raises
        ------
        LakeError
        """
        wanted = {"tape_epoch": (self._epoch, self._epoch), "tape_sequence": (sequence, sequence)}
        snapshot = self._entries.snapshot()
        for file in snapshot.index.find(wanted):
            table = self._reader.read(snapshot.location, file, wanted, ["tape_sequence", "mark"])
            found = table.filter(pc.equal(table.column("tape_sequence"), pa.scalar(sequence)))
            if found.num_rows:
                return int(found.column("mark")[0].as_py())
        return 0

    def lost(self, problem: str) -> LakeError:
        """Return the error for a tape that does not go on from where the lake is."""
        return self._entries.damaged(
            f"has more than the tape: {problem}. What the lake has is kept. To go on, put the dataset's tape in "
            "order, or remove it, so that it is made anew."
        )
