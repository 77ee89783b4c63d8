"""Files of rows: CSV, JSON lines, Parquet, Arrow.

All have the same columns. In Parquet and Arrow prices and sizes are int64 in units of
1e-9, as everywhere in columns; in CSV and JSON lines they are decimals. Times are int64
nanoseconds since the epoch. Nothing here is done row by row.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from typing import IO, Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from marketdata.columns import ABSENT, COLUMNS, PRICES, SIZES, Batch, Column, Kind
from mda.market.decimals import format_decimal


class Format(StrEnum):
    """A format of files; its value is the suffix of their names, too."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    ARROW = "arrow"


TEXTS: Final = (Format.CSV, Format.JSONL)
"""The formats that are text, a row a line: they go through pipes."""

_DECIMALS: Final = PRICES | SIZES
_WORDS: Final = {"side": (None, "buy", "sell"), "action": ("trade", "cancel", "correct")}
"""Columns whose values have names: those of `Side` and `TradeAction`."""


class RowFile(Protocol):
    """A file that is being written."""

    def write(self, rows: pa.RecordBatch, /) -> None:
        """Add rows."""
        ...

    def close(self) -> None:
        """Write what ends the file."""
        ...


def schema_of(kind: Kind, dataset: str) -> pa.Schema:
    """Return the columns of a file."""
    fields = [_field(column) for column in COLUMNS[kind]]
    return pa.schema(fields, metadata={"dataset": dataset, "unit of prices and sizes": "1e-9"})


def _field(column: Column) -> pa.Field[Any]:
    if column.name == "instrument_id":
        return pa.field("symbol", pa.string())
    return pa.field(column.name, pa.string() if column.name in _WORDS else pa.from_numpy_dtype(column.dtype))


def to_rows(batch: Batch, symbols: pa.Array[Any], schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch as rows of a file.

    Parameters
    ----------
    batch
        The batch.
    symbols
        The symbol of each instrument id.
    schema
        The columns.
    """
    arrays = [_array(batch, column, symbols) for column in COLUMNS[batch.kind]]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(batch: Batch, column: Column, symbols: pa.Array[Any]) -> pa.Array[Any]:
    values = batch[column.name]
    if column.name == "instrument_id":
        return symbols.take(values)
    if column.name in _WORDS:
        words = pa.array([*_WORDS[column.name], None], pa.string())
        return words.take(np.minimum(values, len(words) - 1))
    return pa.array(values, mask=values == ABSENT if column.dtype.itemsize == 8 else None)


def open_row_file(form: Format, sink: IO[bytes], schema: pa.Schema) -> RowFile:
    """Begin a file."""
    target: Any = sink  # the stubs know fewer files than the library
    match form:
        case Format.CSV:
            sink.write((",".join(schema.names) + "\n").encode())
            return _Lines(sink, ["", *[","] * (len(schema) - 1), "\n"], _csv, "")
        case Format.JSONL:
            names = [f"{',' if position else '{'}{json.dumps(name)}:" for position, name in enumerate(schema.names)]
            return _Lines(sink, [*names, "}\n"], json.dumps, "null")
        case Format.PARQUET:
            return pq.ParquetWriter(target, schema, compression="zstd")
        case Format.ARROW:
            return pa.ipc.new_file(target, schema)


class _Lines:
    """Text, a row a line: what stands before, between and after the values is the same in each."""

    def __init__(self, sink: IO[bytes], between: list[str], quote: Callable[[str], str], null: str) -> None:
        self._sink = sink
        self._between = between
        self._quote = quote
        self._null = null

    def write(self, rows: pa.RecordBatch) -> None:
        parts: list[Any] = []
        for between, name, column in zip(self._between, rows.schema.names, rows.columns, strict=False):
            parts += [between, pc.fill_null(self._texts(name, column), self._null)]
        lines: Any = pc.binary_join_element_wise(*parts, self._between[-1], "")
        _, offsets, data = lines.buffers()
        self._sink.write(memoryview(data)[: np.frombuffer(offsets, np.int32)[len(lines)]])

    def close(self) -> None:
        pass

    def _texts(self, name: str, column: pa.Array[Any]) -> Any:
        if name in _DECIMALS:
            return _by_value(column, lambda value: self._quote(format_decimal(value)))
        if pa.types.is_string(column.type):
            return _by_value(column, self._quote)
        return column.cast(pa.string())


def _by_value(column: pa.Array[Any], text: Callable[[Any], str]) -> Any:
    """Return the text of each value, made once for all that are the same."""
    encoded: Any = column.dictionary_encode()
    texts = pa.array([text(value) for value in encoded.dictionary.to_pylist()], pa.string())
    return texts.take(encoded.indices)


def _csv(text: str) -> str:
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if set(text) & set('",\r\n') else text
