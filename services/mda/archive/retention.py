"""Rows that are older than they need to be kept go from the lake, oldest first, file by file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from mda.lake.files import LakeFile
from mda.lake.layout import ENTRIES, GAPS, TABLES
from mda.lake.location import Location
from mda.lake.table import LakeTable

Choose = Callable[[Sequence[LakeFile]], Iterator[LakeFile]]


def retire(folder: Location, before_ns: int, vacuum_hours: int) -> int:
    """Take files out of a dataset's tables whose entries the tape took before a time. Blocks.

    Entries go first: readers take no row of one that is not there. So it does not matter
    where a kill comes in between; the next call takes out the rest. The newest entries
    stay, however old they are.

    Parameters
    ----------
    folder
        The dataset's tables.
    before_ns
        The time, in nanoseconds since the epoch.
    vacuum_hours
        As in `LakeTable.vacuum`.

    Returns
    -------
    int
        How many files it were.

    Raises
    ------
    LakeError
    ConflictError
        If somebody else takes out files, or writes them anew.
    """
    entries = LakeTable(folder, ENTRIES)
    if not entries.exists():
        return 0
    total = _take_out(entries, lambda files: _older(files, before_ns), vacuum_hours)
    firsts: dict[int, int] = {}
    for file in reversed(entries.snapshot().files):
        firsts[file.least["tape_epoch"]] = file.least["tape_sequence"]
    for name in (*TABLES.values(), GAPS):
        total += _take_out(LakeTable(folder, name), lambda files: _without_entries(files, firsts), vacuum_hours)
    return total


def _take_out(table: LakeTable, choose: Choose, vacuum_hours: int) -> int:
    table.refresh()
    chosen = list(choose(table.snapshot().files))
    if chosen:
        table.replace(chosen, [], changes_rows=True)
        table.vacuum(vacuum_hours)
    return len(chosen)


def _older(files: Sequence[LakeFile], before_ns: int) -> Iterator[LakeFile]:
    """Yield the first files of the table of entries, as long as all of each is older than a time."""
    for file in files[:-1]:
        if file.greatest["time_ns"] >= before_ns:
            return
        yield file


def _without_entries(files: Sequence[LakeFile], firsts: dict[int, int]) -> Iterator[LakeFile]:
    """Yield the files all of whose rows are of entries before the first that there is of their tape."""
    for file in files:
        first = firsts.get(file.least["tape_epoch"])
        if first is None or file.greatest["tape_sequence"] < first:
            yield file
