"""An entry's payload: its batches as the bytes of `repeated Batch batches = 1`.

Gaps that open or close with its rows stand before them, as `repeated Gap gaps = 10`.
Both are fields of `SubscribeResponse`, so a payload goes to subscribers as it stands, and
several payloads one after the other are one message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from typing import Final

from marketdata.codec import UnusualFormError, decode, encode, field_tag, read_field, read_fields, read_varint
from marketdata.columns import Batch, concatenate, from_message
from marketdata.query.v1.query_service_pb2 import SubscribeResponse
from marketdata.v1.batch_pb2 import Batch as BatchMessage
from marketdata.v1.gap_pb2 import Gap
from marketdata.wire import view

_RESPONSE: Final = view(SubscribeResponse)
_BATCHES: Final = field_tag(SubscribeResponse, "batches")
_ROWS: Final = BatchMessage.DESCRIPTOR.fields_by_name["rows"].number << 3
_GAPS: Final = field_tag(SubscribeResponse, "gaps")[0]
_SNAPSHOT: Final = field_tag(SubscribeResponse, "snapshot")


def encode_payload(batches: Iterable[Batch]) -> bytes:
    """Return the payload of batches; neighbours of one kind become one."""
    parts = (encode(batch).within(_BATCHES).parts for batch in merge_neighbours(batches))
    return b"".join(chain.from_iterable(parts))


def encode_gaps(gaps: Sequence[Gap]) -> bytes:
    """Return the bytes of gaps, which go before those of batches."""
    return SubscribeResponse(gaps=gaps).SerializeToString() if gaps else b""


def split_payload(payload: bytes) -> tuple[list[Gap], bytes]:
    """Return the gaps of a payload, and the rest of it; the same bytes where it has none."""
    start = _batches_start(payload)
    return (list(SubscribeResponse.FromString(payload[:start]).gaps), payload[start:]) if start else ([], payload)


def decode_payload(payload: bytes) -> list[Batch]:
    """Return the batches of a payload, without copying their columns."""
    start = _batches_start(payload)
    try:
        return [decode(payload, *place) for place in read_fields(payload, start, len(payload), _BATCHES[0])]
    except UnusualFormError:
        return [from_message(message) for message in _RESPONSE.FromString(payload).batches]


def rows_of_payload(payload: bytes) -> int:
    """Return how many rows the batches of a payload have, without looking at their columns."""
    start = _batches_start(payload)
    try:
        return sum(_rows_at(payload, at) for at, _ in read_fields(payload, start, len(payload), _BATCHES[0]))
    except UnusualFormError:
        return sum(batch.rows for batch in decode_payload(payload))


def _rows_at(payload: bytes, at: int) -> int:
    if payload[at] != _ROWS:
        raise UnusualFormError
    return read_varint(payload, at + 1)[0]


def decode_with_snapshot(payload: bytes) -> tuple[list[Batch], list[Batch]]:
    """Return the batches of a payload, and those that `encode_snapshot` wrote after them."""
    message = _RESPONSE.FromString(payload)
    return [from_message(batch) for batch in message.batches], [from_message(batch) for batch in message.snapshot]


def _batches_start(payload: bytes) -> int:
    """Return where the gaps before the batches of a payload end."""
    start = 0
    while start < len(payload) and payload[start] == _GAPS:
        _, start = read_field(payload, start, len(payload), _GAPS)
    return start


def merge_neighbours(batches: Iterable[Batch]) -> list[Batch]:
    """Return batches in their order, with runs of one kind as one batch each."""
    return [concatenate(list(run)) for _, run in groupby(batches, key=lambda batch: batch.kind)]


def encode_snapshot(batch: Batch) -> bytes:
    """Return a `SubscribeResponse` that holds a batch as snapshot."""
    return b"".join(encode(batch).within(_SNAPSHOT).parts)
