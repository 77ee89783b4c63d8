"""The tables of a dataset: their columns, and rows of the tape as rows of them.

Each row keeps its place on the tape: the tape's epoch, the sequence number of its entry,
and its number in the entry. Values that are "not there" are null. `recv_delay_ns` is
`ts_recv` less `ts_event`, which takes a third less room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from marketdata.columns import ABSENT, COLUMNS, PRICES, SIZES, Batch, Kind

TABLES: Final = {Kind.QUOTE: "quotes", Kind.TRADE: "trades", Kind.BAR: "bars"}
"""The table of each kind."""

ENTRIES: Final = "entries"
GAPS: Final = "gaps"
INSTRUMENTS: Final = "instruments"
PARTITION: Final = "date"
"""The partition of rows: the day of `ts_event`, UTC."""

DAY_NS: Final = 86_400_000_000_000
_EPOCH: Final = "tape_epoch"
_SEQUENCE: Final = "tape_sequence"
_ROW: Final = "tape_row"
_PLACE: Final = (pa.field(_EPOCH, pa.int64()), pa.field(_SEQUENCE, pa.int64()), pa.field(_ROW, pa.int32()))
_RECV_DELAY: Final = "recv_delay_ns"
_STORED: Final = {"ts_recv": _RECV_DELAY}
_FEW_VALUES: Final = frozenset(
    PRICES
    | (SIZES - {"volume"})
    | {"verdicts", "side", "action", "interval_ns"}
    | {_EPOCH, "producer", "gaps", "cause", "state", "kind"}
    | {"symbol", "negative_prices", "description"}
)
"""Columns in which few values come again and again, or that hold no numbers."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Rows of one kind with their places on a tape.

    Attributes
    ----------
    batch
        The rows.
    epoch
        The tape's epoch.
    sequence
        Per row, the sequence number of its entry: int64.
    row
        Per row, its number in the entry, over all its batches: int32.
    """

    batch: Batch
    epoch: int
    sequence: NDArray[np.int64]
    row: NDArray[np.int32]

    def take(self, rows: NDArray[Any]) -> Placed:
        """Return some rows: an index array or a boolean mask."""
        return Placed(self.batch.take(rows), self.epoch, self.sequence[rows], self.row[rows])


def _field(name: str, dtype: np.dtype[Any]) -> pa.Field[Any]:
    return pa.field(_STORED.get(name, name), pa.int32() if dtype.itemsize == 4 else pa.int64())


SCHEMAS: Final = {
    TABLES[kind]: pa.schema([*(_field(column.name, column.dtype) for column in COLUMNS[kind]), *_PLACE])
    for kind in Kind
} | {
    ENTRIES: pa.schema(
        [
            *_PLACE[:2],
            pa.field("time_ns", pa.int64()),
            pa.field("mark", pa.int64()),
            pa.field("producer", pa.string()),
            pa.field("first_number", pa.int64()),
            pa.field("last_number", pa.int64()),
            pa.field("rows", pa.int32()),
            pa.field("gaps", pa.binary()),
        ]
    ),
    GAPS: pa.schema(
        [
            *_PLACE[:2],
            pa.field("producer", pa.string()),
            pa.field("cause", pa.string()),
            pa.field("state", pa.string()),
            pa.field("first_sequence", pa.int64()),
            pa.field("last_sequence", pa.int64()),
            pa.field("open_time_ns", pa.int64()),
            pa.field("close_time_ns", pa.int64()),
            pa.field("instrument_id", pa.int32()),
            pa.field("kind", pa.string()),
        ]
    ),
    INSTRUMENTS: pa.schema(
        [
            pa.field("instrument_id", pa.int32()),
            pa.field("symbol", pa.string()),
            pa.field("tick_size_nanos", pa.int64()),
            pa.field("negative_prices", pa.bool_()),
            pa.field("description", pa.string()),
        ]
    ),
}
"""What each table's files hold; the partition is in the paths."""


def encodings(names: Sequence[str]) -> dict[str, Any]:
    """Return how a file's columns are encoded, as options of `pyarrow.parquet.write_table`."""
    numbers = {name: "DELTA_BINARY_PACKED" for name in names if name not in _FEW_VALUES}
    return {"use_dictionary": [name for name in names if name in _FEW_VALUES], "column_encoding": numbers}


def to_table(placed: Placed) -> pa.Table:
    """Return rows as a table's."""
    batch = placed.batch
    arrays: list[pa.Array[Any]] = []
    for column in COLUMNS[batch.kind]:
        values = batch[column.name]
        absent = values == ABSENT if column.absent == ABSENT and column.name != "ts_event" else None
        if column.name in _STORED:
            values = values - batch["ts_event"]
        arrays.append(pa.array(_signed(values), mask=absent))
    arrays += [pa.repeat(placed.epoch, batch.rows), pa.array(placed.sequence), pa.array(placed.row)]
    return pa.Table.from_arrays(arrays, schema=SCHEMAS[TABLES[batch.kind]])


def from_table(kind: Kind, table: pa.Table, epoch: int) -> Placed:
    """Return a table's rows, which are all of one epoch.

    Columns that it lacks are left out; where it lacks the rows' numbers, their places in it are told instead.
    """
    columns: dict[str, NDArray[Any]] = {}
    for column in COLUMNS[kind]:
        stored = _STORED.get(column.name, column.name)
        if stored not in table.column_names:
            continue
        found = table.column(stored)
        if found.null_count == len(found) and not column.required:
            continue
        columns[column.name] = _numbers(found, column.absent).view(column.dtype)
    if (delay := columns.get("ts_recv")) is not None:
        columns["ts_recv"] = np.where(delay == ABSENT, ABSENT, delay + columns["ts_event"])
    batch = Batch(kind, table.num_rows, columns)
    numbered = _ROW in table.column_names
    row = _numbers(table.column(_ROW), 0) if numbered else np.arange(table.num_rows, dtype=np.int32)
    return Placed(batch, epoch, _numbers(table.column(_SEQUENCE), 0), row)


def stored_names(kind: Kind, columns: Sequence[str] | None, *, numbered: bool = True) -> list[str]:
    """Return the columns of a table that some columns of a batch, or all, are made of, with the rows' places.

    Parameters
    ----------
    kind
        The kind.
    columns
        The columns; None for all.
    numbered
        Whether places have the rows' numbers in their entries.
    """
    chosen = [column.name for column in COLUMNS[kind]] if columns is None else columns
    wanted = {"instrument_id", "ts_event", *(_STORED.get(name, name) for name in chosen)}
    return [*sorted(wanted), _SEQUENCE, *([_ROW] if numbered else [])]


def _numbers(column: pa.ChunkedArray[Any], absent: int) -> NDArray[Any]:
    if column.null_count:
        column = pc.fill_null(column, pa.scalar(absent, column.type))
    return np.ascontiguousarray(column.to_numpy())


def _signed(values: NDArray[Any]) -> NDArray[Any]:
    """Return the same bits as signed numbers: Delta has no others."""
    return np.ascontiguousarray(values).view(f"<i{values.dtype.itemsize}")
