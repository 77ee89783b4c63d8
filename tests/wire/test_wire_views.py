"""A view and a generated stub read and write the same bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from wire_bytes import (
    KIND_FIELD,
    batches,
    column_number,
    fixed,
    lists,
    number_field,
    odd_bytes,
    typed,
    untyped,
    with_length,
)

from marketdata.codec import UnusualFormError, decode, to_bytes
from marketdata.columns import COLUMNS, FIELDS, Batch, ColumnError, Kind, from_message, make_batch
from marketdata.ingestion.v1.ingestion_service_pb2 import NumberedBatch, PublishRequest
from marketdata.query.v1.query_service_pb2 import SubscribeResponse
from marketdata.v1 import batch_pb2
from marketdata.wire import parse, view

BATCH = batch_pb2.Batch
MESSAGES = [BATCH, batch_pb2.QuoteColumns, batch_pb2.TradeColumns, NumberedBatch, PublishRequest, SubscribeResponse]
TRADE = make_batch(Kind.TRADE, {"instrument_id": [1, 2, 3], "ts_event": [4, 5, 6], "price": [7, 8, 9]})


def same(left: Batch, right: Batch) -> bool:
    return (left.kind, left.rows, lists(left)) == (right.kind, right.rows, lists(right))


@given(batches())
def test_bytes_are_those_of_the_stub(batch: Batch) -> None:
    assert to_bytes(batch) == typed(batch).SerializeToString()


@given(batches())
def test_a_stub_reads_what_we_write(batch: Batch) -> None:
    message = BATCH.FromString(to_bytes(batch))
    assert message.rows == batch.rows
    assert message.WhichOneof("columns") == {Kind.QUOTE: "quotes", Kind.TRADE: "trades", Kind.BAR: "bars"}[batch.kind]
    assert untyped(message) == lists(batch)


@given(batches())
def test_we_read_what_a_stub_writes(batch: Batch) -> None:
    assert same(from_message(parse(BATCH, typed(batch).SerializeToString())), batch)


@given(batches(max_rows=1))
def test_the_view_class_writes_the_same_bytes(batch: Batch) -> None:
    message = view(BATCH)(rows=batch.rows)
    columns = getattr(message, message.DESCRIPTOR.fields_by_number[KIND_FIELD[batch.kind]].name)
    for name, values in batch.columns.items():
        setattr(columns, name, values.tobytes())
    assert message.SerializeToString() == to_bytes(batch)


@pytest.mark.parametrize("kind", Kind)
def test_large_batches_have_the_same_bytes(kind: Kind) -> None:
    random = np.random.default_rng(7)
    names = {"instrument_id", "ts_event", "sequence", *(column.name for column in COLUMNS[kind] if column.required)}
    columns = {name: random.integers(0, 1 << 31, 32_768) for name in names}
    batch = make_batch(kind, columns)
    data = to_bytes(batch)
    assert data == typed(batch).SerializeToString()
    assert same(from_message(parse(BATCH, data)), batch)


@pytest.mark.parametrize("public", MESSAGES, ids=lambda public: public.DESCRIPTOR.name)
def test_a_view_has_the_public_fields_with_columns_as_bytes(public: Any) -> None:
    fields = {field.name: field for field in view(public).DESCRIPTOR.fields}
    assert view(public) is view(public)
    assert view(public).DESCRIPTOR.full_name == public.DESCRIPTOR.full_name
    assert list(fields) == [field.name for field in public.DESCRIPTOR.fields]
    for field in public.DESCRIPTOR.fields:
        fixed_width = field.type in {FieldDescriptor.TYPE_SFIXED64, FieldDescriptor.TYPE_FIXED64} | {
            FieldDescriptor.TYPE_FIXED32,
            FieldDescriptor.TYPE_SFIXED32,
        }
        column = field.is_repeated and fixed_width
        assert fields[field.name].number == field.number
        assert fields[field.name].type == (FieldDescriptor.TYPE_BYTES if column else field.type)
        assert fields[field.name].is_repeated == (field.is_repeated and not column)


@given(batches(), st.binary(max_size=9), st.binary(max_size=9))
def test_bytes_in_the_usual_form_are_read_by_hand(batch: Batch, before: bytes, after: bytes) -> None:
    data = to_bytes(batch)
    assert same(decode(before + data + after, len(before), len(before) + len(data)), batch)


@given(st.data())
def test_reading_by_hand_and_by_parser_agree(data: st.DataObject) -> None:
    encoded = data.draw(odd_bytes(data.draw(batches(max_rows=6))))
    try:
        found = decode(encoded, 0, len(encoded))
    except UnusualFormError:
        return
    assert same(found, from_message(parse(BATCH, encoded)))


@given(st.data())
def test_what_is_damaged_is_not_read_by_hand_beyond_its_end(data: st.DataObject) -> None:
    batch = data.draw(batches(max_rows=4))
    encoded = to_bytes(batch)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(UnusualFormError):
        decode(encoded, 0, cut)
    with pytest.raises(UnusualFormError):
        decode(encoded[:cut], 0, cut)


@given(st.binary(max_size=64))
def test_any_bytes_are_read_as_the_parser_reads_them_or_not_by_hand(data: bytes) -> None:
    try:
        found = decode(data, 0, len(data))
    except UnusualFormError:
        return
    assert same(found, from_message(parse(BATCH, data)))


@given(st.data())
def test_any_legal_encoding_is_read_as_the_stub_reads_it(data: st.DataObject) -> None:
    batch = data.draw(batches(max_rows=6))
    encoded = data.draw(odd_bytes(batch))
    stub = BATCH.FromString(encoded)
    found = from_message(parse(BATCH, encoded))
    assert lists(found) == untyped(stub)
    assert same(found, batch)


@given(st.data())
def test_legal_encodings_in_a_request_are_read(data: st.DataObject) -> None:
    batch = data.draw(batches(max_rows=4))
    inner = with_length(2, data.draw(odd_bytes(batch)))
    request = parse(PublishRequest, with_length(2, number_field(1, 5) + inner))
    assert request.batch.number == 5
    assert same(from_message(request.batch.batch), batch)


def trades(*pieces: bytes) -> bytes:
    return number_field(1, 3) + with_length(3, b"".join(pieces))


def packed(name: str) -> bytes:
    return with_length(column_number(Kind.TRADE, name), TRADE[name].tobytes())


def unpacked(name: str, rows: slice = slice(None)) -> bytes:
    return b"".join(fixed(column_number(Kind.TRADE, name), value.tobytes()) for value in TRADE[name][rows])


ID, TIME, PRICE = packed("instrument_id"), packed("ts_event"), packed("price")
SPLIT = with_length(5, TRADE["price"][:1].tobytes()) + with_length(5, TRADE["price"][1:].tobytes())


@pytest.mark.parametrize(
    "data",
    [
        trades(ID, TIME, PRICE),
        trades(PRICE, TIME, ID),
        trades(ID, TIME, SPLIT),
        trades(ID, TIME, PRICE, with_length(5, b"")),
        trades(ID, TIME, PRICE, with_length(6, b"")),
        trades(unpacked("instrument_id"), unpacked("ts_event"), unpacked("price")),
        trades(ID, TIME, unpacked("price", slice(1)), with_length(5, TRADE["price"][1:].tobytes())),
        trades(ID, with_length(5, TRADE["price"][:2].tobytes()), TIME, unpacked("price", slice(2, 3))),
        with_length(3, ID) + number_field(1, 3) + with_length(3, TIME + PRICE),
        number_field(1, 9) + trades(ID, TIME, PRICE),
        with_length(2, ID) + trades(ID, TIME, PRICE),
        trades(ID, TIME, PRICE) + with_length(77, b"later"),
        trades(ID, TIME, PRICE, with_length(77, b"later")),
        trades(ID, TIME, PRICE).replace(b"\x08\x03", b"\x08\x83\x00", 1),
    ],
    ids=[
        "usual",
        "other order",
        "split",
        "an empty chunk at the end",
        "an empty column",
        "unpacked",
        "half unpacked",
        "interleaved",
        "columns in two messages",
        "rows twice",
        "another kind before",
        "unknown field",
        "unknown column",
        "long varint",
    ],
)
def test_a_legal_encoding_gives_the_batch(data: bytes) -> None:
    assert same(from_message(parse(BATCH, data)), TRADE)


@pytest.mark.parametrize(
    ("data", "field", "values"),
    [
        (trades(ID, TIME, SPLIT, unpacked("price", slice(1))), "trades.price", 4),
        (trades(ID, TIME, PRICE, PRICE), "trades.price", 6),
        (trades(ID, TIME, unpacked("price", slice(2))), "trades.price", 2),
        (trades(ID, TIME, with_length(5, TRADE["price"][:2].tobytes())), "trades.price", 2),
        (trades(ID, TIME, with_length(5, TRADE["price"].tobytes()[:-1])), "trades.price", 2.875),
        (trades(ID, TIME, with_length(5, b"")), "trades.price", 0),
        (trades(ID, TIME), "trades.price", 0),
        (trades(TIME, PRICE), "trades.instrument_id", 0),
        (trades(ID, PRICE), "trades.ts_event", 0),
        (trades(ID, TIME, PRICE, with_length(6, bytes(8))), "trades.size", 1),
        (trades(ID, TIME, PRICE, with_length(7, bytes(13))), "trades.side", 3.25),
        (trades(ID, TIME, PRICE, with_length(8, bytes(16))), "trades.verdicts", 4),
        (number_field(1, 3) + with_length(2, ID + TIME + with_length(6, bytes(8))), "quotes.bid_size", 1),
        (with_length(3, ID + TIME + PRICE), "rows", 0),
        (number_field(1, 3), "rows", 0),
        (b"", "rows", 0),
        (number_field(1, 3) + with_length(3, b""), "trades.instrument_id", 0),
    ],
)
def test_a_column_that_does_not_fit_is_named(data: bytes, field: str, values: float) -> None:
    with pytest.raises(ColumnError) as caught:
        from_message(parse(BATCH, data))
    assert caught.value.field == field
    assert caught.value.values == values
    assert field in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        trades(ID, TIME, PRICE)[:-1],
        b"\x08",
        with_length(3, ID)[:2],
        b"\xff" * 11,
        trades(ID, TIME, with_length(5, bytes(7)), with_length(77, b"")),
    ],
)
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        parse(BATCH, data)


@given(batches(max_rows=3), st.data())
def test_truncated_bytes_never_read_as_the_batch(batch: Batch, data: st.DataObject) -> None:
    whole = to_bytes(batch)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises((DecodeError, ColumnError)):
        from_message(parse(BATCH, cut))


@given(batches(max_rows=5), st.data())
def test_a_column_of_another_length_is_named(batch: Batch, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(batch.columns)))
    message = view(BATCH).FromString(to_bytes(batch))
    columns = getattr(message, message.WhichOneof("columns"))
    whole = getattr(columns, name)
    size = data.draw(st.integers(1, 2 * len(whole)).filter(lambda size: size != len(whole)))
    setattr(columns, name, (whole + whole)[:size])
    with pytest.raises(ColumnError) as caught:
        from_message(parse(BATCH, message.SerializeToString()))
    assert caught.value.field == f"{FIELDS[batch.kind]}.{name}"
    assert caught.value.rows == batch.rows
    assert caught.value.values * batch.columns[name].dtype.itemsize == size


def test_columns_of_a_message_are_read_only_and_not_copied() -> None:
    message = parse(BATCH, to_bytes(TRADE))
    price = from_message(message)["price"]
    assert not price.flags.writeable
    assert price.base is not None
