"""The bytes of batches, written and read by hand.

Both are in the order and form of every protobuf encoder. A message object would copy
each column twice in either direction, at many times the cost for large batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray
from typing_extensions import Buffer

from marketdata.columns import COLUMNS, FIELDS, Batch, Kind
from marketdata.query.v1.query_service_pb2 import ScanResponse
from marketdata.v1 import batch_pb2

_LENGTH_DELIMITED: Final = 2
_MOST_VARINT_BYTES: Final = 5
"""No length in a message of up to 2 GiB takes more."""


def field_tag(message: type[Message], field: str) -> bytes:
    """Return the tag of a field that has a length, as it stands on the wire."""
    return varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | _LENGTH_DELIMITED)


@lru_cache(maxsize=4096)  # the lengths of columns come again and again
def varint(value: int) -> bytes:
    """Return a non-negative number as protobuf writes it."""
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


_MESSAGES: Final = {
    Kind.QUOTE: batch_pb2.QuoteColumns,
    Kind.TRADE: batch_pb2.TradeColumns,
    Kind.BAR: batch_pb2.BarColumns,
}
_ROWS_TAG: Final = varint(batch_pb2.Batch.DESCRIPTOR.fields_by_name["rows"].number << 3)
_KIND_TAGS: Final = {kind: field_tag(batch_pb2.Batch, field) for kind, field in FIELDS.items()}
_TAGS: Final = {
    kind: [(field_tag(message, column.name), column.name) for column in COLUMNS[kind]]
    for kind, message in _MESSAGES.items()
}
# All these fields have numbers below 16, and so tags of one byte.
_KIND_OF_TAG: Final = {tag[0]: kind for kind, tag in _KIND_TAGS.items()}
_COLUMN_OF_TAG: Final = {
    kind: {
        field_tag(message, column.name)[0]: (column.name, column.dtype, column.dtype.itemsize)
        for column in COLUMNS[kind]
    }
    for kind, message in _MESSAGES.items()
}
_REQUIRED: Final = {kind: {column.name for column in COLUMNS[kind] if column.required} for kind in Kind}


@dataclass(frozen=True, slots=True)
class Encoded:
    """A piece of a message: its bytes in parts, and how many they are."""

    parts: list[Buffer]
    size: int

    def within(self, tag: bytes) -> Encoded:
        """Return the piece as a field, with its tag and length before it."""
        head = tag + varint(self.size)
        return Encoded([head, *self.parts], len(head) + self.size)


def encode(batch: Batch) -> Encoded:
    """Return the bytes of a batch as a `marketdata.v1.Batch`, without copying its columns."""
    parts: list[Buffer] = []
    size = 0
    for tag, name in _TAGS[batch.kind]:
        values = batch.columns.get(name)
        if values is not None:
            head = tag + varint(values.nbytes)
            parts += (head, values.data)
            size += len(head) + values.nbytes
    columns = Encoded(parts, size).within(_KIND_TAGS[batch.kind])
    rows = _ROWS_TAG + varint(batch.rows)
    return Encoded([rows, *columns.parts], len(rows) + columns.size)


def to_bytes(batch: Batch) -> bytes:
    """Return the bytes of a batch as a `marketdata.v1.Batch`."""
    return b"".join(encode(batch).parts)


class UnusualFormError(ValueError):
    """Bytes that are not in the usual form: they may be wrong, or legal in a way that takes a parser."""


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, and the place after it.

    Raises
    ------
    UnusualFormError
        If there is none.
    """
    value = shift = 0
    for place in range(at, min(at + _MOST_VARINT_BYTES, len(data))):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise UnusualFormError


def read_field(data: bytes, at: int, end: int, tag: int) -> tuple[int, int]:
    """Return where the field at a place begins and ends, which has a length and must have the tag.

    Raises
    ------
    UnusualFormError
        If it is another field, or goes beyond the end.
    """
    if at >= end or data[at] != tag:
        raise UnusualFormError
    size, start = read_varint(data, at + 1)
    if start + size > end:
        raise UnusualFormError
    return start, start + size


def read_fields(data: bytes, at: int, end: int, tag: int) -> Iterator[tuple[int, int]]:
    """Yield where each of the fields that follow one another begins and ends, as `read_field` does."""
    while at < end:
        start, at = read_field(data, at, end, tag)
        yield start, at


def decode(data: bytes, at: int, end: int) -> Batch:
    """Return the batch that stands in a part of some bytes, without copying its columns.

    Raises
    ------
    UnusualFormError
        If the part is not a `marketdata.v1.Batch` in the form that `encode` writes, with
        whole columns and no fields but those that we know.
    """
    if at >= end or data[at] != _ROWS_TAG[0]:
        raise UnusualFormError
    rows, at = read_varint(data, at + 1)
    kind = _KIND_OF_TAG.get(data[at]) if at < end else None
    if kind is None or rows == 0:
        raise UnusualFormError
    at, columns_end = read_field(data, at, end, data[at])
    columns: dict[str, NDArray[Any]] = {}
    known = _COLUMN_OF_TAG[kind]
    while at < end:
        column = known.get(data[at])
        if column is None or column[0] in columns:
            raise UnusualFormError
        name, dtype, width = column
        size, at = read_varint(data, at + 1)
        if size != rows * width or at + size > end:
            raise UnusualFormError
        columns[name] = np.frombuffer(data, dtype, rows, at)
        at += size
    if columns_end != end or not _REQUIRED[kind] <= columns.keys():
        raise UnusualFormError
    return Batch(kind, rows, columns)


_BATCHES: Final = field_tag(ScanResponse, "batches")[0]
_CURSOR: Final = field_tag(ScanResponse, "cursor")[0]


def decode_rows(data: bytes) -> tuple[list[Batch], str] | None:
    """Return the batches and the cursor of a message, without copying columns; None where it is not these alone.

    Parameters
    ----------
    data
        A `ScanResponse`, or a `SubscribeResponse`: both have them under the same numbers.
    """
    end = len(data)
    at = 0
    batches: list[Batch] = []
    try:
        while at < end and data[at] == _BATCHES:
            start, at = read_field(data, at, end, _BATCHES)
            batches.append(decode(data, start, at))
        start, stop = read_field(data, at, end, _CURSOR)
    except UnusualFormError:
        return None
    return (batches, data[start:stop].decode()) if batches and stop == end else None
