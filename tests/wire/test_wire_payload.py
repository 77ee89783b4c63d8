"""A tape entry's payload is the beginning of a SubscribeResponse, and so are several in a row."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_bytes import batches, lists, typed, untyped

from marketdata.columns import Batch, ColumnError, Kind, make_batch
from marketdata.query.v1.query_service_pb2 import SubscribeResponse
from mda.tape.payload import decode_payload, encode_payload, encode_snapshot, merge_neighbours

SOME = st.lists(batches(max_rows=4), min_size=1, max_size=4)


def rows(parts: list[Batch]) -> list[tuple[object, ...]]:
    return [(part.kind, *row) for part in parts for row in zip(*(part[name].tolist() for name in part), strict=True)]


@given(SOME)
def test_a_payload_gives_the_rows_back_in_order(parts: list[Batch]) -> None:
    found = decode_payload(encode_payload(parts))
    assert rows(found) == rows(parts)
    assert [batch.kind for batch in found] == [kind for kind, _ in groupby(part.kind for part in parts)]


@given(SOME)
def test_a_payload_is_what_a_stub_writes(parts: list[Batch]) -> None:
    message = SubscribeResponse(batches=[typed(batch) for batch in merge_neighbours(parts)])
    assert encode_payload(parts) == message.SerializeToString()


@given(SOME, SOME)
def test_payloads_one_after_the_other_are_one_response(first: list[Batch], second: list[Batch]) -> None:
    data = encode_payload(first) + encode_payload(second)
    stub = SubscribeResponse.FromString(data)
    expected = [*merge_neighbours(first), *merge_neighbours(second)]
    assert [untyped(batch) for batch in stub.batches] == [lists(batch) for batch in expected]
    assert rows(decode_payload(data)) == rows(first) + rows(second)


@given(SOME)
def test_a_payload_goes_on_with_the_other_fields_of_a_response(parts: list[Batch]) -> None:
    tail = SubscribeResponse(cursor="AQ", draining=True)
    stub = SubscribeResponse.FromString(encode_payload(parts) + tail.SerializeToString())
    assert (stub.cursor, stub.draining) == ("AQ", True)
    assert len(stub.batches) == len(merge_neighbours(parts))


@given(batches(max_rows=4))
def test_a_snapshot_is_what_a_stub_writes(batch: Batch) -> None:
    assert encode_snapshot(batch) == SubscribeResponse(snapshot=[typed(batch)]).SerializeToString()


def test_no_batches_are_no_bytes() -> None:
    assert encode_payload([]) == b""
    assert decode_payload(b"") == []


def test_a_payload_with_a_ragged_column_is_refused() -> None:
    batch = make_batch(Kind.TRADE, {"instrument_id": [1], "ts_event": [2], "price": [3]})
    message = SubscribeResponse(batches=[typed(batch)])
    message.batches[0].trades.price.append(4)
    with pytest.raises(ColumnError) as caught:
        decode_payload(message.SerializeToString())
    assert caught.value.field == "trades.price"
