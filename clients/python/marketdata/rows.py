"""Rows as messages, and as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from marketdata.tables import PLACES, Prices, Table, library

if TYPE_CHECKING:
    import pyarrow

M = TypeVar("M", bound=Message)

_TIMESTAMP: Final = "google.protobuf.Timestamp"
_DECIMALS: Final = frozenset(
    {
        *("bid_price", "bid_size", "ask_price", "ask_size", "price", "size"),
        *("open", "high", "low", "close", "volume", "vwap"),
    }
)
_MOST_DIGITS: Final = 38


class Rows(list[M], Table, Generic[M]):
    """Rows as messages, for people: a list that can be given as a table, too.

    The columns of a table are the message's fields: decimals as `prices` says, times as
    `timestamp[ns, UTC]`, values of enums as words in lower case. What is not there is
    null. A row costs microseconds here: for many rows, `scan` is the way.

    Parameters
    ----------
    message
        The class of the messages.
    rows
        The messages.
    """

    __slots__ = ("_message",)

    def __init__(self, message: type[M], rows: Sequence[M] = ()) -> None:
        super().__init__(rows)
        self._message = message

    def to_arrow(self, *, prices: Prices = "float", symbols: Mapping[int, str] | None = None) -> pyarrow.Table:
        """Return the rows as an Arrow table, as `Batch.to_arrow` does; they have their symbols."""
        columns = dict(_columns(self._message.DESCRIPTOR, list(self), prices, ""))
        return library("pyarrow").table(columns)


def _columns(descriptor: Any, rows: Sequence[Any], prices: Prices, prefix: str) -> Iterator[tuple[str, Any]]:
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE and field.message_type.full_name != _TIMESTAMP:
            # A trade with the quote before it: the trade's fields as they are, the quote's with its name.
            inner = [getattr(row, field.name) for row in rows]
            yield from _columns(field.message_type, inner, prices, "" if field.name == "trade" else f"{field.name}_")
        else:
            yield prefix + field.name, _array(field, rows, prices)


def _array(field: FieldDescriptor, rows: Sequence[Any], prices: Prices) -> Any:
    pa = library("pyarrow")
    name = field.name
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        times = [getattr(row, name).ToNanoseconds() if row.HasField(name) else None for row in rows]
        return pa.array(times, pa.timestamp("ns", "UTC"))
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _words(field, rows)
    values = [getattr(row, name) for row in rows]
    if field.has_presence:
        values = [value if row.HasField(name) else None for row, value in zip(rows, values, strict=True)]
    if name in _DECIMALS:
        return _decimals([value or None for value in values], prices)
    types = {FieldDescriptor.TYPE_UINT64: pa.uint64(), FieldDescriptor.TYPE_BOOL: pa.bool_()}
    return pa.array(values, types.get(field.type, pa.string()))


def _words(field: FieldDescriptor, rows: Sequence[Any]) -> Any:
    pa = library("pyarrow")
    described = field.enum_type
    if described is None:
        raise TypeError(f"{field.name} is no enum")
    words = _names(described)
    values = [getattr(row, field.name) for row in rows]
    if field.is_repeated:
        return pa.array([[words.get(value) for value in several] for several in values], pa.list_(pa.string()))
    return pa.array([words.get(value) for value in values], pa.string())


def _names(described: EnumDescriptor) -> dict[int, str]:
    """Return the word for each value but the one that says nothing."""
    first = described.values_by_number[0].name
    prefix = first.removesuffix("UNSPECIFIED")
    return {value.number: value.name.removeprefix(prefix).lower() for value in described.values if value.number}


def _decimals(texts: list[str | None], prices: Prices) -> Any:
    pa = library("pyarrow")
    strings = pa.array(texts, pa.string())
    if prices == "float":
        return strings.cast(pa.float64())
    exact = strings.cast(pa.decimal128(_MOST_DIGITS, PLACES))
    if prices == "decimal":
        return exact
    # The same bytes without places are the units.
    units = pa.Array.from_buffers(pa.decimal128(_MOST_DIGITS, 0), len(exact), exact.buffers())
    return units.cast(pa.int64())
