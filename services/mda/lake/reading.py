"""Reading files: only the row groups and columns that are wanted, with the files' footers kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mda.lake.errors import LakeError
from mda.lake.files import LakeFile, Range, footer_hash
from mda.lake.location import Location

_KEPT_BYTES: Final = 128 << 20
_PARSED: Final = 8
"""So many times its size in the file a footer takes in memory: measured, of files of 1 to 65 row groups."""
_HASH_DIGITS: Final = 16
_Bounds = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class _Footer:
    """What a file's footer tells. The bounds of a column are looked up when they are first asked for."""

    metadata: pq.FileMetaData
    schema: pa.Schema
    known: dict[str, _Bounds] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """About how much memory it takes."""
        return self.metadata.serialized_size * _PARSED

    def groups(self, wanted: Mapping[str, Range]) -> list[int]:
        """Return the row groups that may hold rows in all of some ranges."""
        keep = np.ones(self.metadata.num_row_groups, dtype=np.bool_)
        for name, (least, greatest) in wanted.items():
            if self.schema.get_field_index(name) < 0:  # a column that came later: nulls alone
                return []
            lows, highs = self.bounds(name)
            keep &= (highs >= least) & (lows <= greatest)
        return np.flatnonzero(keep).tolist()

    def bounds(self, name: str) -> _Bounds:
        """Return the least and the greatest values of a column, by row group."""
        if name not in self.known:
            column = self.schema.get_field_index(name)
            groups = map(self.metadata.row_group, range(self.metadata.num_row_groups))
            told = np.array([_bounds(group.column(column).statistics) for group in groups], np.int64).reshape(-1, 2)
            self.known[name] = (told[:, 0], told[:, 1])
        return self.known[name]

    def schema_of(self, columns: Sequence[str] | None) -> pa.Schema:
        """Return the schema of some columns, as far as the file has them; of all for None."""
        if columns is None:
            return self.schema
        return pa.schema([self.schema.field(name) for name in columns if self.schema.get_field_index(name) >= 0])


class FileReader:
    """Reads files of the lake. Its methods block; many threads may use it.

    Keeps the footers of the files that were read last: files never change.

    Parameters
    ----------
    most_bytes
        How much memory these may take.

    Attributes
    ----------
    kept_bytes
        How much they take, about.
    """

    def __init__(self, most_bytes: int = _KEPT_BYTES) -> None:
        self.kept_bytes = 0
        self._most_bytes = most_bytes
        self._footers: OrderedDict[str, _Footer] = OrderedDict()
        self._lock = threading.Lock()

    def read(
        self, location: Location, file: LakeFile, wanted: Mapping[str, Range], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Return the row groups of a file that may hold rows in all of some ranges.

        Parameters
        ----------
        location
            The table.
        file
            The file.
        wanted
            Ranges by column, of whole numbers. Where a file lacks the column, none of its rows is in one.
        columns
            The wanted columns; None for all. Those that the file lacks are left out.

        Raises
        ------
        LakeError
            If the file is missing or damaged.
        """
        with _reading(location, file):
            footer = self._footer(location, file)
            groups, schema = footer.groups(wanted), footer.schema_of(columns)
            if not groups:
                return schema.empty_table()
            with pq.ParquetFile(
                location.filesystem.open_input_file(file.path),
                metadata=footer.metadata,
                page_checksum_verification=True,
            ) as opened:
                return opened.read_row_groups(groups, columns=schema.names)

    def bounds(self, location: Location, file: LakeFile, wanted: Mapping[str, Range], name: str) -> Range | None:
        """Return the bounds of a column in the row groups that `read` would return; None where there are none.

        Reads no more than the file's footer.

        Raises
        ------
        LakeError
            If the file is missing or damaged.
        """
        with _reading(location, file):
            footer = self._footer(location, file)
            groups = footer.groups(wanted)
            if not groups or footer.schema.get_field_index(name) < 0:
                return None
            least, greatest = footer.bounds(name)
            return int(least[groups].min()), int(greatest[groups].max())

    def _footer(self, location: Location, file: LakeFile) -> _Footer:
        key = f"{location.uri}/{file.path}"
        with self._lock:
            found = self._footers.get(key)
            if found is not None:
                self._footers.move_to_end(key)
                return found
        found = _read_footer(location, file)
        with self._lock:
            self._keep(key, found)
        return found

    def _keep(self, key: str, footer: _Footer) -> None:
        if key in self._footers:  # another thread has read it meanwhile
            return
        self._footers[key] = footer
        self.kept_bytes += footer.bytes
        while self.kept_bytes > self._most_bytes:
            _, oldest = self._footers.popitem(last=False)
            self.kept_bytes -= oldest.bytes


@contextmanager
def _reading(location: Location, file: LakeFile) -> Generator[None]:
    """Tell what is wrong with a file that cannot be read."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise LakeError(
            f"The file {location.uri}/{file.path} cannot be read ({error}). Restore it; or take it out of the "
            "table, and the archive's offset back, so that its rows are read again where the tape has them."
        ) from error


def _read_footer(location: Location, file: LakeFile) -> _Footer:
    with location.filesystem.open_input_file(file.path) as source:
        _check_footer(source, file)
        with pq.ParquetFile(source) as opened:
            return _Footer(opened.metadata, opened.schema_arrow)


def _bounds(statistics: Any) -> tuple[int, int]:
    """Return the least and the greatest value of a row group; where it tells none, as of nulls alone, all there are."""
    if statistics is None or not statistics.has_min_max:
        every = np.iinfo(np.int64)
        return every.min, every.max
    return statistics.min, statistics.max


def _check_footer(source: pa.NativeFile, file: LakeFile) -> None:
    """See that a footer is what was written, by the hash in the file's name; other writers' files have none."""
    _, dash, written = file.path.removesuffix(".parquet").rpartition("-")
    if not dash or len(written) != _HASH_DIGITS:
        return
    end = source.size()
    source.seek(max(0, end - 8))
    size = int.from_bytes(source.read(4), "little") + 8
    source.seek(max(0, end - size))
    if footer_hash(source.read_buffer()) != written:
        raise pa.ArrowInvalid("its footer is not what was written")
    source.seek(0)
