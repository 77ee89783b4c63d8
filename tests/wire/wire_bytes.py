"""Batches of any kind, and bytes of messages written by hand, as a legal encoder may write them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from marketdata.columns import COLUMNS, FIELDS, Batch, Kind, make_batch
from marketdata.v1 import batch_pb2

KIND_FIELD = {Kind.QUOTE: 2, Kind.TRADE: 3, Kind.BAR: 4}
ROWS_FIELD = 1
_WIRE_TYPE = {4: 5, 8: 1}


def varint(value: int) -> bytes:
    data = b""
    while value > 0x7F:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def with_length(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def number_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def fixed(number: int, data: bytes) -> bytes:
    """Return one value of a fixed-width field, as an encoder that does not pack writes it."""
    return varint(number << 3 | _WIRE_TYPE[len(data)]) + data


def column_number(kind: Kind, name: str) -> int:
    return [column.name for column in COLUMNS[kind]].index(name) + 1


def typed(batch: Batch) -> batch_pb2.Batch:
    """Return a batch as a generated stub builds it."""
    message = batch_pb2.Batch(rows=batch.rows)
    target = getattr(message, FIELDS[batch.kind])
    for name, values in batch.columns.items():
        getattr(target, name).extend(values.tolist())
    return message


def untyped(message: batch_pb2.Batch) -> dict[str, list[int]]:
    """Return the columns that a generated stub reads."""
    source = getattr(message, message.WhichOneof("columns"))
    return {field.name: list(values) for field, values in source.ListFields()}


def lists(batch: Batch) -> dict[str, list[int]]:
    return {name: values.tolist() for name, values in batch.columns.items()}


@st.composite
def _values(draw: st.DrawFn, dtype: np.dtype[Any], rows: int) -> NDArray[Any]:
    limits = np.iinfo(dtype)
    random = np.frombuffer(draw(st.binary(min_size=rows * dtype.itemsize, max_size=rows * dtype.itemsize)), dtype)
    extreme = draw(st.sampled_from([None, limits.max, limits.min, 0, 1]))
    return random if extreme is None else np.where(random & 1, random, dtype.type(extreme)).astype(dtype)


@st.composite
def batches(draw: st.DrawFn, kinds: tuple[Kind, ...] = tuple(Kind), max_rows: int = 30) -> Batch:
    kind = draw(st.sampled_from(kinds))
    rows = draw(st.integers(1, max_rows))
    columns = {
        column.name: draw(_values(column.dtype, rows))
        for column in COLUMNS[kind]
        if column.required or draw(st.booleans())
    }
    return make_batch(kind, columns)


def _pieces(draw: st.DrawFn, number: int, width: int, data: bytes) -> list[bytes]:
    """Cut a column into packed chunks and values that are not packed."""
    pieces: list[bytes] = []
    while data:
        size = width * draw(st.integers(1, len(data) // width))
        if draw(st.booleans()):
            pieces.append(with_length(number, data[:size]))
        else:
            pieces += [fixed(number, data[at : at + width]) for at in range(0, size, width)]
        data = data[size:]
    return pieces


def _interleaved(draw: st.DrawFn, sequences: list[list[bytes]]) -> list[bytes]:
    waiting = [list(sequence) for sequence in sequences if sequence]
    result: list[bytes] = []
    while waiting:
        sequence = waiting[draw(st.integers(0, len(waiting) - 1))]
        result.append(sequence.pop(0))
        waiting = [sequence for sequence in waiting if sequence]
    return result


_UNKNOWN = st.sampled_from([with_length(900, b"from a later version"), number_field(901, 7), fixed(902, bytes(8))])


@st.composite
def odd_bytes(draw: st.DrawFn, batch: Batch) -> bytes:
    """Return bytes that mean a batch, but are not what most encoders write."""
    columns = [
        _pieces(draw, column_number(batch.kind, name), values.dtype.itemsize, values.tobytes())
        for name, values in batch.columns.items()
    ]
    pieces = _interleaved(draw, [*columns, draw(st.lists(_UNKNOWN, max_size=2))])
    cut = draw(st.integers(0, len(pieces)))
    parts = [part for part in (pieces[:cut], pieces[cut:]) if part]
    messages: list[list[bytes]] = [[with_length(KIND_FIELD[batch.kind], b"".join(part)) for part in parts]]
    rows = [number_field(ROWS_FIELD, value) for value in (*draw(st.lists(st.integers(0, 99), max_size=1)), batch.rows)]
    return b"".join(_interleaved(draw, [*messages, rows, draw(st.lists(_UNKNOWN, max_size=1))]))
