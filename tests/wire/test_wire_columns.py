"""Batches as columns: making, reading, taking, joining."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from wire_bytes import batches, lists

from marketdata.columns import ABSENT, COLUMNS, FIELDS, MAX_ROWS, Batch, ColumnError, Kind, concatenate, make_batch
from marketdata.v1 import batch_pb2
from mda.market.errors import MarketDataError
from mda.runtime.validation import validate_request

REQUIRED = {
    Kind.QUOTE: {"instrument_id", "ts_event"},
    Kind.TRADE: {"instrument_id", "ts_event", "price"},
    Kind.BAR: {"instrument_id", "ts_event", "interval_ns", "open", "high", "low", "close"},
}
IDS: dict[str, Any] = {"instrument_id": [1, 2], "ts_event": [3, 4]}


def test_limits_and_kinds_are_those_of_the_contract() -> None:
    validate_request(batch_pb2.Batch(rows=MAX_ROWS))
    with pytest.raises(MarketDataError, match=f"{MAX_ROWS}"):
        validate_request(batch_pb2.Batch(rows=MAX_ROWS + 1))
    assert {f"KIND_{kind.name}": kind.value for kind in Kind} == {
        name: value for name, value in batch_pb2.Kind.items() if value
    }


@pytest.mark.parametrize("kind", Kind)
def test_columns_are_those_of_the_contract(kind: Kind) -> None:
    message = batch_pb2.Batch.DESCRIPTOR.fields_by_name[FIELDS[kind]].message_type
    assert [column.name for column in COLUMNS[kind]] == [field.name for field in message.fields]
    assert {column.name for column in COLUMNS[kind] if column.required} == REQUIRED[kind]


@given(batches())
def test_a_column_left_out_is_absent_in_every_row(batch: Batch) -> None:
    assert list(batch) == [column.name for column in COLUMNS[batch.kind]]
    for column in COLUMNS[batch.kind]:
        values = batch[column.name]
        assert values.dtype == column.dtype
        assert values.shape == (batch.rows,)
        if column.name not in batch.columns:
            assert set(values.tolist()) == {ABSENT if column.dtype.itemsize == 8 else 0}


@pytest.mark.parametrize(("kind", "name"), [(Kind.QUOTE, "price"), (Kind.TRADE, "bid_price"), (Kind.QUOTE, "")])
def test_a_column_of_another_kind_is_not_there(kind: Kind, name: str) -> None:
    batch = make_batch(kind, IDS | ({"price": [1, 1]} if kind is Kind.TRADE else {}))
    with pytest.raises(KeyError, match=f"{kind.name.lower()} batches have no column '{name}'"):
        batch[name]
    with pytest.raises(KeyError, match="have no column"):
        make_batch(kind, {**batch.columns, name: [1, 2]})


@pytest.mark.parametrize(
    ("kind", "columns", "field", "rows", "values"),
    [
        (Kind.QUOTE, {}, "quotes.instrument_id", 0, 0),
        (Kind.QUOTE, {"ts_event": [1]}, "quotes.instrument_id", 0, 0),
        (Kind.QUOTE, {"instrument_id": [1]}, "quotes.ts_event", 1, 0),
        (Kind.TRADE, IDS, "trades.price", 2, 0),
        (Kind.TRADE, IDS | {"price": [1]}, "trades.price", 2, 1),
        (Kind.QUOTE, IDS | {"ask_size": [1, 2, 3]}, "quotes.ask_size", 2, 3),
        (Kind.QUOTE, IDS | {"verdicts": []}, "quotes.verdicts", 2, 0),
        (Kind.QUOTE, IDS | {"bid_price": [[1, 2]]}, "quotes.bid_price", 2, 2),
    ],
)
def test_columns_that_do_not_fit_are_named(
    kind: Kind, columns: dict[str, Any], field: str, rows: int, values: int
) -> None:
    with pytest.raises(ColumnError) as caught:
        make_batch(kind, columns)
    assert (caught.value.field, caught.value.rows, caught.value.values) == (field, rows, values)


@pytest.mark.parametrize(("name", "value"), [("instrument_id", 1 << 32), ("ts_event", 1 << 63), ("instrument_id", -1)])
def test_integers_that_do_not_fit_the_column_are_refused(name: str, value: int) -> None:
    with pytest.raises(OverflowError):
        make_batch(Kind.QUOTE, IDS | {name: [1, value]})


@given(batches(), st.data())
def test_take_gives_the_rows_of_a_mask_or_an_index(batch: Batch, data: st.DataObject) -> None:
    mask = data.draw(arrays.arrays(np.bool_, batch.rows))
    index = data.draw(arrays.arrays(np.intp, st.integers(0, 9), elements=st.integers(0, batch.rows - 1)))
    for rows, positions in ((mask, np.flatnonzero(mask)), (index, index)):
        taken = batch.take(rows)
        assert (taken.kind, taken.rows) == (batch.kind, len(positions))
        assert lists(taken) == {name: [values[i] for i in positions] for name, values in lists(batch).items()}


@given(st.data())
def test_concatenated_batches_keep_every_row_in_order(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(Kind)))
    parts = data.draw(st.lists(batches(kinds=(kind,), max_rows=5), min_size=1, max_size=4))
    whole = concatenate(parts)
    assert whole.kind is kind
    assert whole.rows == sum(part.rows for part in parts)
    for name in whole:
        assert whole[name].tolist() == [value for part in parts for value in part[name].tolist()]
        assert (name in whole.columns) == any(name in part.columns for part in parts)


def test_one_batch_alone_is_not_copied() -> None:
    batch = make_batch(Kind.QUOTE, IDS)
    assert concatenate([batch]) is batch


@given(batches())
def test_make_batch_of_lists_is_make_batch_of_arrays(batch: Batch) -> None:
    again = make_batch(batch.kind, lists(batch))
    assert lists(again) == lists(batch)
    assert all(values.dtype == batch.columns[name].dtype for name, values in again.columns.items())
