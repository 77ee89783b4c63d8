"""Payloads: batches as the bytes of field 1."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.columns import COLUMNS, Batch, Kind, make_batch
from marketdata.query.v1.query_service_pb2 import SubscribeResponse
from marketdata.v1.gap_pb2 import Gap
from mda.tape.payload import (
    decode_payload,
    encode_gaps,
    encode_payload,
    encode_snapshot,
    merge_neighbours,
    split_payload,
)
from tests.tape.helpers import quotes, rows_of, trades


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Draw a batch of up to four rows; columns that may be left out sometimes are."""
    kind = draw(st.sampled_from(list(Kind)))
    rows = draw(st.integers(1, 4))
    columns = {}
    for column in COLUMNS[kind]:
        if column.required or draw(st.booleans()):
            limits = np.iinfo(column.dtype)
            values = st.integers(limits.min, limits.max)
            columns[column.name] = np.array([draw(values) for _ in range(rows)], dtype=column.dtype)
    return make_batch(kind, columns)


def _rows(given_batches: list[Batch]) -> list[tuple[Kind, tuple[int, ...]]]:
    """Return every row with all its columns, left out ones by their absent value."""
    return [
        (batch.kind, tuple(int(batch[name][row]) for name in batch))
        for batch in given_batches
        for row in range(batch.rows)
    ]


@settings(derandomize=True, deadline=None)
@given(st.lists(batches(), max_size=5))
def test_rows_come_back_in_order_and_neighbours_are_one(written: list[Batch]) -> None:
    read = decode_payload(encode_payload(written))
    assert _rows(read) == _rows(written)
    kinds = [batch.kind for batch in read]
    assert all(one != other for one, other in pairwise(kinds))


@settings(derandomize=True, deadline=None)
@given(st.lists(batches(), max_size=3), st.lists(batches(), max_size=3))
def test_payloads_one_after_the_other_are_one_message(one: list[Batch], other: list[Batch]) -> None:
    assert _rows(decode_payload(encode_payload(one) + encode_payload(other))) == _rows([*one, *other])


def test_a_payload_is_a_subscribe_response() -> None:
    message = SubscribeResponse.FromString(encode_payload([trades(1, 2), quotes(5, 1)]))
    assert [list(batch.trades.sequence) or list(batch.quotes.sequence) for batch in message.batches] == [[1, 2], [5]]
    assert message.ByteSize() == sum(1 + 1 + batch.ByteSize() for batch in message.batches)


def test_nothing_is_the_empty_payload() -> None:
    assert encode_payload([]) == b""
    assert decode_payload(b"") == []


def test_neighbours_of_one_kind_become_one_and_others_stay() -> None:
    merged = merge_neighbours([trades(1), trades(2, 2), quotes(4), trades(5), trades(6)])
    assert [(batch.kind, rows_of([batch])) for batch in merged] == [
        (Kind.TRADE, [1, 2, 3]),
        (Kind.QUOTE, [4]),
        (Kind.TRADE, [5, 6]),
    ]


def test_a_batch_alone_is_not_copied() -> None:
    batch = trades(1)
    assert merge_neighbours([batch])[0] is batch


def test_a_column_that_some_lack_is_filled() -> None:
    with_verdicts = trades(2, 1, verdicts=[4])
    (merged,) = merge_neighbours([trades(1, 2), with_verdicts, trades(4)])
    assert merged["verdicts"].tolist() == [0, 0, 4, 0]


def test_a_snapshot_is_no_row_of_the_stream() -> None:
    message = SubscribeResponse.FromString(encode_snapshot(quotes(3, 2)))
    assert len(message.batches) == 0
    assert list(message.snapshot[0].quotes.sequence) == [3, 4]


def test_columns_are_not_copied_when_read() -> None:
    (batch,) = decode_payload(encode_payload([trades(1, 2)]))
    assert all(not values.flags.owndata and not values.flags.writeable for values in batch.columns.values())


@settings(derandomize=True, deadline=None)
@given(st.lists(batches(), max_size=3), st.integers(0, 3))
def test_gaps_stand_before_the_rows_and_come_apart_again(written: list[Batch], count: int) -> None:
    gaps = [Gap(producer="p" * 200, cause=Gap.CAUSE_SEQUENCE, first_sequence=number) for number in range(count)]
    rows = encode_payload(written)
    payload = encode_gaps(gaps) + rows
    assert split_payload(payload) == (gaps, rows)
    assert _rows(decode_payload(payload)) == _rows(written)
    message = SubscribeResponse.FromString(payload)
    assert (list(message.gaps), len(message.batches)) == (gaps, len(decode_payload(rows)))


def test_a_payload_without_gaps_is_not_copied() -> None:
    payload = encode_payload([trades(1)])
    assert split_payload(payload)[1] is payload


def test_gaps_and_rows_in_another_order_are_read_too() -> None:
    payload = encode_gaps([Gap()]) + encode_payload([trades(1)]) + encode_gaps([Gap()]) + encode_payload([trades(2)])
    assert rows_of(decode_payload(payload)) == [1, 2]
