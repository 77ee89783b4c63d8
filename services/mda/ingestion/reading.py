"""A producer's messages, read into numbered batches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from google.protobuf.message import DecodeError

from marketdata.codec import UnusualFormError, decode, field_tag, read_field, read_fields, read_varint, varint
from marketdata.columns import ABSENT, MAX_ROWS, NANOS, ColumnError, from_message
from marketdata.ingestion.v1.ingestion_service_pb2 import Batches, NumberedBatch, PublishRequest
from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1.gap_pb2 import Gap
from marketdata.wire import parse
from mda.ingestion.commit import NO_ROWS, Numbered
from mda.market.errors import MarketDataError, invalid_field

_BATCH: Final = field_tag(PublishRequest, "batch")
_BATCHES: Final = field_tag(PublishRequest, "batches")
_NUMBERED: Final = field_tag(Batches, "batches")
_NUMBER: Final = varint(NumberedBatch.DESCRIPTOR.fields_by_name["number"].number << 3)
_ROWS: Final = field_tag(NumberedBatch, "batch")
_TYPE: Final = "marketdata.ingestion.v1.PublishRequest"
_TOLD_CAUSES: Final = frozenset({Gap.CAUSE_SEQUENCE, Gap.CAUSE_DISCONNECTED})
_MOST_GAPS: Final = 1_000
_PRODUCER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_POSITION: Final = re.compile(r"[ -~]{0,32768}")
"""What goes into a header of an entry as it stands; 64 KiB are the most that NATS takes there."""


def read_request(data: bytes) -> Any:
    """Parse a producer's message into its view.

    Raises
    ------
    MarketDataError
        MALFORMED_MESSAGE.
    """
    try:
        return parse(PublishRequest, data)
    except DecodeError:
        raise MarketDataError(
            reasons.ERROR_REASON_MALFORMED_MESSAGE,
            f"The bytes are not a {_TYPE}. Send the message that the contract describes.",
            type=_TYPE,
        ) from None


def read_batches(data: bytes) -> Iterator[Numbered]:
    """Yield the numbered batches of a producer's message, in its order.

    Raises
    ------
    MarketDataError
        MALFORMED_MESSAGE, OUT_OF_TURN, INVALID_FIELD, EMPTY_BATCH, BATCH_TOO_LARGE or
        RAGGED_COLUMN, after the batches before the bad one.
    """
    try:
        yield from _read_usual(data)
    except UnusualFormError:
        yield from _read_any(read_request(data))


def _read_usual(data: bytes) -> list[Numbered]:
    """Return the batches of a message in the usual form, without copying their columns."""
    end = len(data)
    if data[:1] == _BATCH:
        start, stop = read_field(data, 0, end, _BATCH[0])
        found = [_read_numbered(data, start, stop)]
    else:
        start, stop = read_field(data, 0, end, _BATCHES[0])
        found = [_read_numbered(data, *place) for place in read_fields(data, start, stop, _NUMBERED[0])]
    if stop != end or not found:
        raise UnusualFormError
    return found


def _read_numbered(data: bytes, at: int, end: int) -> Numbered:
    if at == end or data[at] != _NUMBER[0]:
        raise UnusualFormError
    number, at = read_varint(data, at + 1)
    start, stop = read_field(data, at, end, _ROWS[0])
    batch = decode(data, start, stop)
    if batch.rows > MAX_ROWS:
        raise UnusualFormError
    if stop == end:
        return Numbered(number, batch)
    try:
        rest = NumberedBatch.FromString(data[stop:end])
    except DecodeError:
        raise UnusualFormError from None
    if rest.number or rest.HasField("batch"):  # there again, which is legal: what is to be done, the parser knows
        raise UnusualFormError
    return _told(Numbered(number, batch), rest.gaps, rest.position)


def _read_any(message: Any) -> Iterator[Numbered]:
    match message.WhichOneof("message"):
        case "batch":
            yield _numbered(message.batch)
        case "batches" if message.batches.batches:
            yield from map(_numbered, message.batches.batches)
        case "batches":
            raise invalid_field("batches.batches", "repeated.min_items", "batches.batches: send at least one batch.")
        case _:
            raise out_of_turn("open", "Only the first message opens; after it send batches.")


def _numbered(message: Any) -> Numbered:
    rows = message.batch.rows
    if not message.HasField("batch") and (message.gaps or message.position):
        return _told(Numbered(message.number, NO_ROWS), message.gaps, message.position)
    if rows > MAX_ROWS:
        raise MarketDataError(
            reasons.ERROR_REASON_BATCH_TOO_LARGE,
            f"batch.rows: {rows} rows are too many for one batch. Send at most {MAX_ROWS}.",
            field="batch.rows",
            rows=rows,
            limit=MAX_ROWS,
        )
    try:
        found = Numbered(message.number, from_message(message.batch))
    except ColumnError as error:
        raise _of_column(error) from None
    return _told(found, message.gaps, message.position)


def _told(found: Numbered, gaps: Sequence[Any], position: str) -> Numbered:
    """Return a batch with what its producer tells of its source, which is checked."""
    if not gaps and not position:
        return found
    if not _POSITION.fullmatch(position):
        raise invalid_field(
            "batch.position", "string.pattern", "batch.position: send up to 32,768 printable ASCII characters."
        )
    if len(gaps) > _MOST_GAPS:
        raise invalid_field(
            "batch.gaps", "repeated.max_items", f"batch.gaps: {len(gaps)} are too many. Send at most {_MOST_GAPS}."
        )
    return replace(found, gaps=tuple(map(_gap, range(len(gaps)), gaps)), position=position)


def _gap(place: int, message: Any) -> Gap:
    gap = Gap.FromString(message.SerializeToString())
    field = f"batch.gaps[{place}]"
    if gap.cause not in _TOLD_CAUSES:
        raise invalid_field(
            f"{field}.cause", "enum.in", f"{field}.cause: a producer tells of CAUSE_SEQUENCE and CAUSE_DISCONNECTED."
        )
    closed = gap.state == Gap.STATE_CLOSED
    if gap.state not in {Gap.STATE_OPEN, Gap.STATE_CLOSED} or gap.HasField("close_time") != closed:
        raise invalid_field(
            f"{field}.state", "enum.in", f"{field}.state: send STATE_OPEN, or STATE_CLOSED with a close_time."
        )
    if gap.producer and not _PRODUCER.fullmatch(gap.producer):
        raise invalid_field(f"{field}.producer", "string.pattern", f"{field}.producer: is not the name of a producer.")
    if not gap.HasField("open_time"):
        raise invalid_field(f"{field}.open_time", "required", f"{field}.open_time: say when it was noticed.")
    for name in ("open_time", "close_time"):
        time = getattr(gap, name)
        if not (0 <= time.nanos < NANOS and 0 <= time.seconds * NANOS + time.nanos < ABSENT):
            raise invalid_field(f"{field}.{name}", "timestamp", f"{field}.{name}: is not a time between 1970 and 2262.")
    return gap


def out_of_turn(field: str, message: str) -> MarketDataError:
    """Return the error for a message that comes where it may not."""
    return MarketDataError(reasons.ERROR_REASON_OUT_OF_TURN, message, field=field)


def _of_column(error: ColumnError) -> MarketDataError:
    if error.field == "rows":
        return MarketDataError(
            reasons.ERROR_REASON_EMPTY_BATCH,
            "batch.rows: the batch has no rows or no columns. Send at least one row, of one kind.",
            field="batch.rows",
        )
    return MarketDataError(
        reasons.ERROR_REASON_RAGGED_COLUMN,
        f"batch.{error}. Send one value for each row, or leave out a column that may be left out.",
        field=f"batch.{error.field}",
        rows=error.rows,
        values=f"{error.values:g}",
    )
