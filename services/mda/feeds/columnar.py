"""Reads files of rows in columns: CSV, Parquet, Arrow. Nothing here is done row by row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from marketdata.columns import ABSENT, COLUMNS, NANOS, Batch, Kind, concatenate, make_batch
from marketdata.v1.batch_pb2 import Side
from mda.feeds.dbn import ROWS_AT_ONCE, FileError
from mda.feeds.mapping import ColumnMapping

FileFormat = Literal["csv", "parquet", "arrow"]

SUFFIXES: Final[dict[str, FileFormat]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".arrows": "arrow",
}
COMPRESSED: Final = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
_SIDES: Final = {
    **dict.fromkeys(("b", "buy", "bid", "side_buy", "buyer", "1"), Side.SIDE_BUY),
    **dict.fromkeys(("s", "sell", "a", "ask", "side_sell", "seller", "2"), Side.SIDE_SELL),
}
_PER_UNIT: Final = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_TYPES_OF_TIMES: Final = {"time": pa.timestamp("ns", "UTC"), "utc": pa.timestamp("ns")}
_TIMES: Final = frozenset({"ts_event", "ts_recv"})
_NUMBERS: Final = frozenset({"sequence", "refers_to", "trade_count"})
_NANOS: Final = "interval_ns"
_DECIMAL: Final = pa.decimal128(28, 9)
_BLOCK_BYTES: Final = 4 << 20
_MOST: Final = float(ABSENT)


@dataclass(slots=True)
class ColumnFile:
    """A file of rows in columns.

    Attributes
    ----------
    path
        Where it is.
    form
        Its format.
    compression
        How it is packed, beyond what its format does itself.
    """

    path: Path
    form: FileFormat
    compression: str | None
    _raw: IO[bytes] | None = None

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self.path.stat().st_size

    @property
    def read_bytes(self) -> int:
        """How many of them have been read."""
        raw = self._raw
        if raw is None:
            return 0
        return self.size if raw.closed else raw.tell()

    def producer(self, mapping: ColumnMapping) -> str:
        """Return the producer's name for the file, so mapped: the same content and mapping give the same name."""
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        digest.update(mapping.to_yaml().encode())
        return f"file-{digest.hexdigest()[:32]}"

    def head(self) -> pa.RecordBatch:
        """Return the first rows, with all columns.

        Raises
        ------
        FileError
            If it cannot be read, or has no rows.
        """
        for batch in self.records(None):
            if batch.num_rows:
                return batch.slice(0, 100)
        raise FileError(f"{self.path} has no rows.")

    def schema(self) -> pa.Schema:
        """Return the columns, with what the file says of itself."""
        if self.form != "parquet":
            return self.head().schema
        try:
            return pq.read_schema(self.path)
        except (OSError, pa.ArrowException) as error:
            raise FileError(f"{self.path} cannot be read as parquet: {error}") from error

    def pieces(self, mapping: ColumnMapping) -> Iterator[Piece]:
        """Yield the rows of the file, in its order, in batches of one size.

        Raises
        ------
        FileError
            If it cannot be read, or has values that are not what the mapping says.
        """
        names = Names(mapping)
        waiting: list[Batch] = []
        rows = 0
        for records in self.records(mapping):
            if records.num_rows == 0:
                continue
            waiting.append(to_batch(records, mapping, names, str(self.path)))
            rows += records.num_rows
            while rows >= ROWS_AT_ONCE:
                whole = concatenate(waiting)
                yield Piece(whole.slice(0, ROWS_AT_ONCE), names.all)
                rows -= ROWS_AT_ONCE
                waiting = [whole.slice(ROWS_AT_ONCE, whole.rows)] if rows else []
        if rows:
            yield Piece(concatenate(waiting), names.all)

    def records(self, mapping: ColumnMapping | None) -> Iterator[pa.RecordBatch]:
        """Yield the records of the file as they are; only the columns of a mapping, where one is given.

        Raises
        ------
        FileError
            If it cannot be read.
        """
        try:
            with self.path.open("rb") as self._raw:
                yield from self._batches(self._raw, mapping)
        except (OSError, pa.ArrowException) as error:
            raise FileError(f"{self.path} cannot be read as {self.form}: {error}") from error

    def _batches(self, raw: IO[bytes], mapping: ColumnMapping | None) -> Iterator[pa.RecordBatch]:
        source: Any = raw
        file: Any = raw
        compression: Any = self.compression
        if self.form == "parquet":
            wanted = None if mapping is None else _wanted(mapping)
            yield from pq.ParquetFile(source).iter_batches(1 << 16, columns=wanted)
            return
        if self.compression:
            source = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), compression)
        if self.form == "csv":
            yield from self._csv(source, mapping)
        elif self.compression is None and _is_file(raw):
            reader: Any = pa.ipc.open_file(source)
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            yield from pa.ipc.open_stream(source)

    def _csv(self, source: Any, mapping: ColumnMapping | None) -> Iterator[pa.RecordBatch]:
        read = pacsv.ReadOptions(block_size=_BLOCK_BYTES)
        parse = pacsv.ParseOptions(delimiter="\t" if ".tsv" in self.path.suffixes else ",")
        if mapping is None:
            yield from pacsv.open_csv(source, read, parse)
            return
        # What each column is, is said once for the whole file: a guess from its beginning may not hold.
        types = {theirs: _csv_type(ours, mapping) for ours, theirs in mapping.columns.items()}
        if mapping.symbol:
            types[mapping.symbol] = pa.string()
        convert = pacsv.ConvertOptions(
            column_types=types,
            include_columns=[*types],
            strings_can_be_null=True,
            null_values=["", "null", "NaN", "nan"],
        )
        yield from pacsv.open_csv(source, read, parse, convert)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a file.

    Attributes
    ----------
    batch
        The rows; their instrument ids are places in `symbols`.
    symbols
        All symbols so far; more may be added with later pieces.
    """

    batch: Batch
    symbols: list[str]


def open_columnar(path: Path, form: str | None = None) -> ColumnFile:
    """Return a file of rows in columns; of the format that its name says, where none is given.

    Raises
    ------
    FileError
        If its name says none.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = COMPRESSED.get(suffixes[-1]) if suffixes else None
    named = next((SUFFIXES[suffix] for suffix in reversed(suffixes) if suffix in SUFFIXES), None)
    found = form or named
    if found is None:
        raise FileError(f"{path} does not tell its format by its name: give --format.")
    return ColumnFile(path, cast("FileFormat", found), compression)


class Names:
    """The symbols of a file, in the order in which they come.

    Attributes
    ----------
    all
        The symbols so far.
    """

    def __init__(self, mapping: ColumnMapping) -> None:
        self.all: list[str] = [mapping.only_symbol] if mapping.only_symbol else []
        self._places = {name: place for place, name in enumerate(self.all)}

    def places(self, column: Any) -> NDArray[np.uint32]:
        """Return the place of each symbol of a column."""
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        values: list[str | None] = encoded.dictionary.cast(pa.string()).to_pylist()
        if column.null_count:
            raise FileError("there are rows without a symbol.")
        known = np.array([self._place(value or "") for value in values], np.uint32)
        return known[encoded.indices.to_numpy(zero_copy_only=False)]

    def _place(self, name: str) -> int:
        if name not in self._places:
            self._places[name] = len(self.all)
            self.all.append(name)
        return self._places[name]


def _wanted(mapping: ColumnMapping) -> list[str]:
    return [*dict.fromkeys([*mapping.columns.values(), *([mapping.symbol] if mapping.symbol else [])])]


def _is_file(raw: IO[bytes]) -> bool:
    start = raw.read(6)
    raw.seek(0)
    return start == b"ARROW1"


def _csv_type(name: str, mapping: ColumnMapping) -> Any:
    if name in _TIMES:
        return _TYPES_OF_TIMES.get(mapping.times, pa.int64())
    if name in _NUMBERS:
        return pa.uint64()
    if name == _NANOS:
        return pa.int64()
    if name in {"side", "action"}:
        return pa.string()
    return pa.int64() if mapping.prices == "nanos" else _DECIMAL


def to_batch(records: pa.RecordBatch, mapping: ColumnMapping, names: Names, where: str) -> Batch:
    """Return records as rows, whose instrument ids are places in `names`.

    Raises
    ------
    FileError
        If they have values that are not what the mapping says; it begins with `where`.
    """
    kind = mapping.rows_kind
    columns: dict[str, Any] = {"instrument_id": np.zeros(records.num_rows, np.uint32)}
    try:
        if mapping.symbol:
            columns["instrument_id"] = names.places(records[mapping.symbol])
        for column in COLUMNS[kind]:
            theirs = mapping.columns.get(column.name)
            if theirs is not None:
                columns[column.name] = _column(column.name, cast("Any", records[theirs]), mapping)
    except (ValueError, pa.ArrowException, OverflowError) as error:
        raise FileError(f"{where}: {error}") from error
    if kind is Kind.TRADE and "price" not in columns:
        raise FileError(f"{where} has trades without a price.")
    if mapping.interval_s is not None:
        columns["interval_ns"] = np.full(records.num_rows, mapping.interval_s * NANOS)
    return make_batch(kind, columns)


def _column(name: str, values: Any, mapping: ColumnMapping) -> NDArray[Any]:
    if name in _TIMES:
        return _times(name, values, mapping)
    if name in _NUMBERS:
        return pc.fill_null(values.cast(pa.uint64()), ABSENT).to_numpy(zero_copy_only=False)
    if name == _NANOS:
        return values.cast(pa.int64()).to_numpy(zero_copy_only=False)
    if name == "side":
        return _sides(values)
    if name == "action":
        return pc.fill_null(values.cast(pa.uint32()), 0).to_numpy(zero_copy_only=False)
    return _units(name, values, mapping)


def _times(name: str, values: Any, mapping: ColumnMapping) -> NDArray[np.int64]:
    if mapping.times not in _PER_UNIT:
        if pa.types.is_string(values.type):
            values = values.cast(_TYPES_OF_TIMES[mapping.times])
        if not pa.types.is_timestamp(values.type):
            raise ValueError(f"{mapping.columns[name]} is {values.type}, and no time: say its unit.")
        if (values.type.tz is None) is not (mapping.times == "utc"):
            told = (
                "has no time zone: say `times: utc`" if values.type.tz is None else "has a time zone: say `times: time`"
            )
            raise ValueError(f"{mapping.columns[name]} {told}.")
        values = values.cast(pa.timestamp("ns", values.type.tz))
        return pc.fill_null(values.cast(pa.int64()), ABSENT).to_numpy(zero_copy_only=False)
    numbers = pc.multiply_checked(values.cast(pa.int64()), _PER_UNIT[mapping.times])
    return pc.fill_null(numbers, ABSENT).to_numpy(zero_copy_only=False)


def _units(name: str, values: Any, mapping: ColumnMapping) -> NDArray[np.int64]:
    if mapping.prices == "nanos":
        return pc.fill_null(values.cast(pa.int64()), ABSENT).to_numpy(zero_copy_only=False)
    if pa.types.is_integer(values.type):
        units = pc.multiply_checked(values.cast(pa.int64()), NANOS)
        return pc.fill_null(units, ABSENT).to_numpy(zero_copy_only=False)
    if pa.types.is_floating(values.type):
        return _units_of_floats(name, values.cast(pa.float64()).to_numpy(zero_copy_only=False))
    return _units_of_decimals(values.cast(_DECIMAL))


def _units_of_floats(name: str, values: NDArray[np.float64]) -> NDArray[np.int64]:
    absent = np.isnan(values)
    scaled = np.rint(np.where(absent, 0.0, values) * NANOS)
    if (np.abs(scaled) >= _MOST).any():
        raise ValueError(f"{name}: a value is too large for units of 1e-9.")
    return np.where(absent, ABSENT, scaled.astype(np.int64))


def _units_of_decimals(values: Any) -> NDArray[np.int64]:
    """Return decimals with nine places as their units: the low half of each, where the high one is its sign."""
    data = np.frombuffer(values.buffers()[1], np.int64)[2 * values.offset :][: 2 * len(values)].reshape(-1, 2)
    absent = pc.is_null(values).to_numpy(zero_copy_only=False)
    units = np.where(absent, ABSENT, data[:, 0])
    if ((data[:, 1] != data[:, 0] >> 63) & ~absent).any():
        raise ValueError("a price or size is too large for units of 1e-9.")
    return units


def _sides(values: Any) -> NDArray[np.uint32]:
    if pa.types.is_integer(values.type):
        return pc.fill_null(values.cast(pa.uint32()), 0).to_numpy(zero_copy_only=False)
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    words: list[str | None] = encoded.dictionary.cast(pa.string()).to_pylist()
    known = np.array([*(_SIDES.get((word or "").lower(), Side.SIDE_UNSPECIFIED) for word in words), 0], np.uint32)
    return known[pc.fill_null(encoded.indices, len(words)).to_numpy(zero_copy_only=False)]
