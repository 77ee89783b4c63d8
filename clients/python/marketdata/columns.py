"""Batches of rows as NumPy columns.

Conventions (those of `marketdata/v1/batch.proto`): times are int64 nanoseconds since
the epoch, UTC; prices and sizes are int64 in units of 1e-9; `ABSENT` stands for "not
there".

>>> batch = make_batch(Kind.QUOTE, {"instrument_id": [1, 2], "ts_event": [5, 6], "bid_price": [7 * NANOS, ABSENT]})
>>> batch["bid_price"] / NANOS
array([7.00000000e+00, 9.22337204e+09])
>>> batch["bid_price"] == ABSENT
array([False,  True])
>>> batch["ask_price"].tolist() == [ABSENT, ABSENT]  # a column that was left out
True
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from numpy.typing import ArrayLike, NDArray

from marketdata.tables import Prices, Table
from marketdata.v1 import batch_pb2

if TYPE_CHECKING:
    import pyarrow

ABSENT: Final = np.iinfo(np.int64).max
"""The value that means "not there" in int64 columns."""

NANOS: Final = 1_000_000_000
"""Units in one whole price, size or second."""

MAX_ROWS: Final = 32_768
"""The most rows that a batch may have (`marketdata/v1/batch.proto`)."""


class Kind(IntEnum):
    """The kind of a row; the values are those of `marketdata.v1.Kind`."""

    QUOTE = batch_pb2.KIND_QUOTE
    TRADE = batch_pb2.KIND_TRADE
    BAR = batch_pb2.KIND_BAR


class ColumnError(ValueError):
    """A column that does not fit its batch.

    Attributes
    ----------
    field
        The path of the column in the batch, for example `quotes.bid_price`; or `rows`.
    rows
        How many rows the batch says it has.
    values
        How many values the column holds; a fraction where its bytes are not a whole
        number of values.
    """

    def __init__(self, field: str, rows: int, values: float) -> None:
        super().__init__(f"column {field} holds {values:g} values, but the batch has {rows} rows")
        self.field = field
        self.rows = rows
        self.values = values


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a kind.

    Attributes
    ----------
    name
        Its name in the proto.
    dtype
        Its little-endian NumPy type.
    required
        Whether it may not be left out.
    absent
        The value of every row where it is left out.
    """

    name: str
    dtype: np.dtype[Any]
    required: bool
    absent: int


_DTYPES: Final = {
    FieldDescriptor.TYPE_FIXED32: np.dtype("<u4"),
    FieldDescriptor.TYPE_FIXED64: np.dtype("<u8"),
    FieldDescriptor.TYPE_SFIXED32: np.dtype("<i4"),
    FieldDescriptor.TYPE_SFIXED64: np.dtype("<i8"),
}
_REQUIRED: Final = frozenset({"instrument_id", "ts_event", "price", "interval_ns", "open", "high", "low", "close"})


def _columns_of(message: type[Message]) -> tuple[Column, ...]:
    columns: list[Column] = []
    for field in message.DESCRIPTOR.fields:
        dtype = _DTYPES[field.type]
        absent = ABSENT if dtype.itemsize == 8 else 0
        columns.append(Column(field.name, dtype, field.name in _REQUIRED, absent))
    return tuple(columns)


COLUMNS: Final[Mapping[Kind, tuple[Column, ...]]] = {
    Kind.QUOTE: _columns_of(batch_pb2.QuoteColumns),
    Kind.TRADE: _columns_of(batch_pb2.TradeColumns),
    Kind.BAR: _columns_of(batch_pb2.BarColumns),
}
"""Every column of each kind, in the proto's order."""

FIELDS: Final[Mapping[Kind, str]] = {Kind.QUOTE: "quotes", Kind.TRADE: "trades", Kind.BAR: "bars"}
"""The field of `marketdata.v1.Batch` that holds each kind's columns."""

PRICES: Final = frozenset({"bid_price", "ask_price", "price", "open", "high", "low", "close"})
"""The columns of prices, in units of 1e-9."""

SIZES: Final = frozenset({"bid_size", "ask_size", "size", "volume"})
"""The columns of sizes, in units of 1e-9."""

_KINDS: Final = {field: kind for kind, field in FIELDS.items()}


@dataclass(frozen=True, slots=True)
class Batch(Table):
    """Rows of one kind, in columns.

    Attributes
    ----------
    kind
        What the rows are.
    rows
        How many.
    columns
        The columns that are there, by name; each one-dimensional, `rows` long, of the
        dtype in `COLUMNS`. Those that come from a message are read-only.
    """

    kind: Kind
    rows: int
    columns: Mapping[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a column; where it was left out, `rows` times its absent value.

        Raises
        ------
        KeyError
            If the kind has no such column.
        """
        found = self.columns.get(name)
        if found is not None:
            return found
        for column in COLUMNS[self.kind]:
            if column.name == name:
                return np.broadcast_to(column.dtype.type(column.absent), (self.rows,))
        raise KeyError(f"{self.kind.name.lower()} batches have no column {name!r}")

    def to_arrow(self, *, prices: Prices = "float", symbols: Mapping[int, str] | None = None) -> pyarrow.Table:
        """Return the rows as an Arrow table."""
        from marketdata import frames  # it needs this module, and is needed by few

        return frames.to_arrow([self], prices=prices, symbols=symbols)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of all the kind's columns."""
        return (column.name for column in COLUMNS[self.kind])

    def take(self, rows: NDArray[Any]) -> Batch:
        """Return a batch of some rows: an index array or a boolean mask."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        return Batch(self.kind, len(columns["instrument_id"]), columns)

    def slice(self, start: int, stop: int) -> Batch:
        """Return a batch of the rows from `start` up to, and without, `stop`, without copying them."""
        columns = {name: values[start:stop] for name, values in self.columns.items()}
        return Batch(self.kind, stop - start, columns)


def make_batch(kind: Kind, columns: Mapping[str, ArrayLike]) -> Batch:
    """Make a batch of arrays.

    Parameters
    ----------
    kind
        The kind of the rows.
    columns
        Array-likes by column name, all of one length; integers that fit the column's
        dtype.

    Raises
    ------
    ColumnError
        If a required column is missing, or the lengths differ.
    KeyError
        If the kind has no such column.
    ValueError
        If a value does not fit the column's dtype: a fraction, or a number out of range.
    """
    known = {column.name: column for column in COLUMNS[kind]}
    if unknown := set(columns) - set(known):
        raise KeyError(f"{kind.name.lower()} batches have no column {min(unknown)!r}")
    arrays = {name: _exact(name, values, known[name].dtype) for name, values in columns.items()}
    rows = len(arrays["instrument_id"]) if "instrument_id" in arrays else 0
    for column in known.values():
        values = arrays.get(column.name)
        if (values is None and column.required) or (values is not None and values.shape != (rows,)):
            raise ColumnError(f"{FIELDS[kind]}.{column.name}", rows, 0 if values is None else values.size)
    return Batch(kind, rows, arrays)


def _exact(name: str, values: ArrayLike, dtype: np.dtype[Any]) -> NDArray[Any]:
    # NumPy checks Python's integers itself, but wraps those of arrays, and cuts fractions off.
    with np.errstate(invalid="ignore"):
        converted = np.ascontiguousarray(values, dtype)
    if isinstance(values, np.ndarray) and values.dtype != dtype:
        negative = dtype.kind == "u" and bool((values < 0).any())
        if negative or bool((converted != values).any()):
            raise ValueError(f"column {name}: a value does not fit {dtype.name}")
    return converted


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Return the rows of batches of one kind as one batch.

    A column is there if it is there in any of them.
    """
    if len(batches) == 1:
        return batches[0]
    kind = batches[0].kind
    present = [name for name in batches[0] if any(name in batch.columns for batch in batches)]
    columns = {name: np.concatenate([batch[name] for batch in batches]) for name in present}
    return Batch(kind, sum(batch.rows for batch in batches), columns)


def from_message(message: Any) -> Batch:
    """Read a batch from the view of a `marketdata.v1.Batch`, without copying.

    Raises
    ------
    ColumnError
        If a column does not hold `rows` values; `field` is `rows` where there are no
        rows or no columns.
    """
    field = message.WhichOneof("columns")
    rows = message.rows
    if field is None or rows == 0:
        raise ColumnError("rows", rows, 0)
    kind = _KINDS[field]
    source = getattr(message, field)
    columns: dict[str, NDArray[Any]] = {}
    for column in COLUMNS[kind]:
        data: bytes = getattr(source, column.name)
        if len(data) == rows * column.dtype.itemsize:
            columns[column.name] = np.frombuffer(data, column.dtype)
        elif data or column.required:
            raise ColumnError(f"{field}.{column.name}", rows, len(data) / column.dtype.itemsize)
    return Batch(kind, rows, columns)
