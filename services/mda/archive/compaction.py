"""Small files written together: each is then of one stretch of the tape, sorted by instrument and time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from mda.archive.settings import ArchiveSettings
from mda.lake.files import LakeFile, write_file
from mda.lake.layout import ENTRIES, GAPS, PARTITION, TABLES
from mda.lake.location import Location
from mda.lake.reading import FileReader
from mda.lake.table import LakeTable

_MANY: Final = 32
"""So many small files in a row are written together even if they are no large one yet."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What was written together: how many files, into how many, and how many rows they have."""

    before: int = 0
    after: int = 0
    rows: int = 0

    def __add__(self, other: Compacted) -> Compacted:
        """Return what both did."""
        return Compacted(self.before + other.before, self.after + other.after, self.rows + other.rows)


def compact(folder: Location, settings: ArchiveSettings, *, whole: bool = False) -> Compacted:
    """Write the small files of a dataset's tables together. Blocks.

    Rows stay the same, and the table's readers see either the old files or the new.

    Parameters
    ----------
    folder
        The dataset's tables.
    settings
        How large files should be, and for how long replaced ones stay.
    whole
        Whether to write together what there is, however little.

    Raises
    ------
    LakeError
    ConflictError
        If somebody else does the same.
    """
    total = Compacted()
    for name in (*TABLES.values(), GAPS, ENTRIES):
        table = LakeTable(folder, name)
        if not table.exists():
            continue
        table.refresh()
        for group in _groups(table.snapshot().files, settings.file_rows, 2 if whole else _MANY):
            total += _rewrite(table, name, group)
        if total.before:
            table.vacuum(settings.vacuum_hours)
    return total


def _rewrite(table: LakeTable, name: str, group: Sequence[LakeFile]) -> Compacted:
    reader = FileReader()
    # Files of before a column was added do not have it.
    rows = pa.concat_tables([reader.read(table.location, file, {}) for file in group], promote_options="default")
    date = group[0].partition.get(PARTITION)
    added = write_file(table.location, _sorted(name, rows), date, is_sorted=True, changes_rows=False)
    table.replace(group, [added])
    return Compacted(len(group), 1, rows.num_rows)


def _sorted(name: str, rows: pa.Table) -> pa.Table:
    keys = ["tape_epoch", "tape_sequence"]
    if name in TABLES.values():
        keys = ["instrument_id", "ts_event", *keys, "tape_row"]
    order = np.lexsort([rows.column(key).to_numpy() for key in reversed(keys)])
    return rows.take(order)


def _groups(files: Sequence[LakeFile], file_rows: int, many: int) -> Iterator[list[LakeFile]]:
    """Yield runs of small files, each of one day and one tape, that follow one another on the tape."""
    partitions: dict[tuple[str, int], list[LakeFile]] = {}
    for file in files:
        partitions.setdefault((file.partition.get(PARTITION, ""), file.least["tape_epoch"]), []).append(file)
    for found in partitions.values():
        found.sort(key=lambda file: file.least["tape_sequence"])
        run: list[LakeFile] = []
        rows = 0
        for file in found:
            is_done = file.is_sorted and file.rows > file_rows // 2
            if is_done or rows + file.rows > file_rows:
                if _is_worth_it(run, rows, file_rows, 2):
                    yield run
                run, rows = [], 0
            if not is_done:
                run, rows = [*run, file], rows + file.rows
        if _is_worth_it(run, rows, file_rows, many):
            yield run


def _is_worth_it(run: Sequence[LakeFile], rows: int, file_rows: int, many: int) -> bool:
    """Return whether to write files anew: there are many, or they are large and in the order of the tape."""
    return len(run) >= many or (rows > file_rows // 2 and any(not file.is_sorted for file in run))
