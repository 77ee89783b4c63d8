"""The Parquet files of a table."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from deltalake.transaction import AddAction, RemoveAction
from numpy.typing import NDArray

from mda.lake.errors import told
from mda.lake.layout import PARTITION, encodings
from mda.lake.location import Location

BOUNDED: Final = ("instrument_id", "ts_event", "tape_epoch", "tape_sequence", "time_ns", "action", "refers_to")
"""Columns of which the log tells each file's least and greatest value; of the last two not of files of before."""

Range = tuple[int, int]
"""The least and the greatest value that are wanted, both included."""

_SORTED: Final = "sorted-"
_FRESH_GROUP: Final = 131_072
_SORTED_GROUP: Final = 16_384
"""Rows of a row group: small where they are sorted, so that few are read for one instrument."""


@dataclass(frozen=True, slots=True)
class LakeFile:
    """A file of a table, as the log tells.

    Attributes
    ----------
    path
        Relative to the table.
    size
        Its bytes.
    rows
        How many rows it has.
    partition
        Its values of the partition's columns.
    least, greatest
        Of each column in `BOUNDED` that has values in it.
    """

    path: str
    size: int
    rows: int
    partition: Mapping[str, str]
    least: Mapping[str, int]
    greatest: Mapping[str, int]

    @property
    def is_sorted(self) -> bool:
        """Whether its rows are sorted by instrument and time, not in the order of the tape."""
        return self.path.rpartition("/")[2].startswith(_SORTED)

    def is_within(self, name: str, bounds: Range) -> bool:
        """Whether all its rows are known to be in a range of a column of `BOUNDED` that has no nulls."""
        return name in self.least and bounds[0] <= self.least[name] and self.greatest[name] <= bounds[1]

    def remove(self, *, changes_rows: bool) -> RemoveAction:
        """Return the action that takes it out of the table."""
        return RemoveAction(self.path, changes_rows, _now_ms(), self.size, dict(self.partition))


class FileIndex:
    """The files of a table in the order of the tape, found by what they hold.

    Attributes
    ----------
    files
        All of them.
    """

    def __init__(self, files: Sequence[LakeFile]) -> None:
        self.files = sorted(files, key=_place)
        names = {name for file in self.files for name in file.least}
        self._bounds = {name: self._bounds_of(name) for name in names}

    def _bounds_of(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        every = np.iinfo(np.int64)  # where a file tells none: it may hold any, or has nulls alone
        least = [file.least.get(name, every.min) for file in self.files]
        greatest = [file.greatest.get(name, every.max) for file in self.files]
        return np.array(least, dtype=np.int64), np.array(greatest, dtype=np.int64)

    def find(self, wanted: Mapping[str, Range]) -> list[LakeFile]:
        """Return the files that may hold rows in all of some ranges, in the order of the tape."""
        keep = np.ones(len(self.files), dtype=np.bool_)
        for name, (least, greatest) in wanted.items():
            if name in self._bounds:
                lows, highs = self._bounds[name]
                keep &= (highs >= least) & (lows <= greatest)
        return [self.files[place] for place in np.flatnonzero(keep).tolist()]

    def is_all(self, name: str, value: int) -> bool:
        """Return whether a column has one value alone in all files."""
        if name not in self._bounds:
            return not self.files
        lows, highs = self._bounds[name]
        return bool((lows == value).all() and (highs == value).all())

    def after(self, file: LakeFile) -> LakeFile | None:
        """Return the file that comes after one on the tape; None if it is the last."""
        place = self.files.index(file) + 1
        return self.files[place] if place < len(self.files) else None


def _place(file: LakeFile) -> tuple[int, int]:
    return file.least.get("tape_epoch", 0), file.least.get("tape_sequence", 0)


def write_file(
    location: Location, table: pa.Table, date: str | None, *, is_sorted: bool = False, changes_rows: bool = True
) -> AddAction:
    """Write rows as a file of a table, and return the action that adds it.

    Parameters
    ----------
    location
        The table.
    table
        The rows.
    date
        Their partition; None where the table has none.
    is_sorted
        Whether they are sorted by instrument and time.
    changes_rows
        Whether it brings rows that the table does not have.

    Raises
    ------
    LakeError
    """
    partition = {} if date is None else {PARTITION: date}
    folder = "".join(f"{name}={value}/" for name, value in partition.items())
    data = pa.BufferOutputStream()
    pq.write_table(
        _without_levels(table),
        data,
        compression="zstd",
        compression_level=3 if is_sorted else 1,
        row_group_size=_SORTED_GROUP if is_sorted else _FRESH_GROUP,
        write_page_checksum=True,
        **encodings(table.column_names),
    )
    content = data.getvalue()
    form = _SORTED if is_sorted else ""
    path = f"{folder}{form}{uuid.uuid4().hex}-{footer_hash(content)}.parquet"
    with told(location):
        location.write(path, content)
    return AddAction(path, content.size, partition, _now_ms(), changes_rows, _stats(table))


def _without_levels(table: pa.Table) -> pa.Table:
    """Return a table whose columns without nulls say so: the file is read a fifth faster without levels."""
    fields = [field.with_nullable(table.column(field.name).null_count > 0) for field in table.schema]
    return table.cast(pa.schema(fields))


def footer_hash(content: pa.Buffer) -> str:
    """Return the hash of a Parquet file's footer, of which Parquet itself has none: it ends the file's name.

    Parameters
    ----------
    content
        The file, or its end, from the footer on or before.
    """
    end = content.slice(max(0, content.size - 8)).to_pybytes()
    size = int.from_bytes(end[:4], "little") + 8
    return xxhash.xxh3_64_hexdigest(content.slice(max(0, content.size - size)))


def _stats(table: pa.Table) -> str:
    bounds: dict[str, Any] = {
        name: pc.min_max(table.column(name)).as_py() for name in BOUNDED if name in table.column_names
    }
    return json.dumps(
        {
            "numRecords": table.num_rows,
            "minValues": {name: bound["min"] for name, bound in bounds.items()},
            "maxValues": {name: bound["max"] for name, bound in bounds.items()},
            "nullCount": {name: table.column(name).null_count for name in bounds},
        }
    )


def files_of(actions: pa.Table) -> list[LakeFile]:
    """Return the files that a log's `add` actions, flattened, tell of."""
    return [_file_of(row) for row in actions.to_pylist()]


def _file_of(row: dict[str, Any]) -> LakeFile:
    def of(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}

    partition = {name: str(value) for name, value in of("partition.").items()}
    least = {name: value for name, value in of("min.").items() if value is not None}
    greatest = {name: value for name, value in of("max.").items() if value is not None}
    return LakeFile(row["path"], row["size_bytes"], row["num_records"], partition, least, greatest)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
