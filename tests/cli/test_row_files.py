"""Files of rows, read back."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.columns import ABSENT, Batch, Kind, make_batch
from mda.cli.row_files import Format, open_row_file, schema_of, to_rows
from mda.market.decimals import format_decimal

SYMBOLS = pa.array([None, "A", 'B"Q,', "C/Ü"], pa.string())
ODD = make_batch(
    Kind.TRADE,
    {
        "instrument_id": [1, 2, 3, 1],
        "ts_event": [1_767_225_600_000_000_001, 0, 5, 6],
        "ts_recv": [ABSENT, 7, 8, 9],
        "sequence": [1, 2, ABSENT, (1 << 64) - 1],
        "price": [-500_000_000, 1, ABSENT, 10_000_000_000],
        "size": [0, ABSENT, 3_500_000_000, ABSENT - 1],
        "side": [1, 2, 0, 77],
        "action": [0, 1, 2, 77],
        "refers_to": [ABSENT, 1, 2, 3],
        "verdicts": [0, 1, 1 << 31, 3],
    },
)
TEXTS: list[dict[str, Any]] = [
    {"symbol": "A", "ts_event": 1_767_225_600_000_000_001, "ts_recv": None, "sequence": 1, "price": "-0.5"}
    | {"size": "0", "side": "buy", "verdicts": 0, "action": "trade", "refers_to": None},
    {"symbol": 'B"Q,', "ts_event": 0, "ts_recv": 7, "sequence": 2, "price": "0.000000001"}
    | {"size": None, "side": "sell", "verdicts": 1, "action": "cancel", "refers_to": 1},
    {"symbol": "C/Ü", "ts_event": 5, "ts_recv": 8, "sequence": None, "price": None}
    | {"size": "3.5", "side": None, "verdicts": 1 << 31, "action": "correct", "refers_to": 2},
    {"symbol": "A", "ts_event": 6, "ts_recv": 9, "sequence": (1 << 64) - 1, "price": "10"}
    | {"size": "9223372036.854775806", "side": None, "verdicts": 3, "action": None, "refers_to": 3},
]


def _written(form: Format, *batches: Batch, kind: Kind = Kind.TRADE) -> bytes:
    sink = io.BytesIO()
    schema = schema_of(kind, "TEST")
    file = open_row_file(form, sink, schema)
    for batch in batches:
        file.write(to_rows(batch, SYMBOLS, schema))
    file.close()
    return sink.getvalue()


def _table(form: Format, data: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(data)) if form is Format.PARQUET else pa.ipc.open_file(data).read_all()


def test_lines_of_json_say_what_is_there() -> None:
    lines = _written(Format.JSONL, ODD, ODD).decode().splitlines()
    assert [json.loads(line) for line in lines] == TEXTS * 2


def test_csv_says_what_is_there() -> None:
    rows = list(csv.DictReader(io.StringIO(_written(Format.CSV, ODD).decode())))
    assert rows == [{name: "" if value is None else str(value) for name, value in row.items()} for row in TEXTS]


@pytest.mark.parametrize("form", [Format.PARQUET, Format.ARROW])
def test_tables_hold_the_units(form: Format) -> None:
    table = _table(form, _written(form, ODD, ODD))
    assert table.schema.metadata[b"unit of prices and sizes"] == b"1e-9"
    assert table.column("price").to_pylist() == [-500_000_000, 1, None, 10_000_000_000] * 2
    assert table.column("size").type == pa.int64()
    for name in ("symbol", "ts_event", "ts_recv", "sequence", "side", "verdicts", "action", "refers_to"):
        assert table.column(name).to_pylist() == [row[name] for row in TEXTS] * 2


@pytest.mark.parametrize("form", Format)
def test_a_file_without_rows_has_its_columns(form: Format) -> None:
    data = _written(form, kind=Kind.QUOTE)
    if form is Format.JSONL:
        assert data == b""
    elif form is Format.CSV:
        assert data.startswith(b"symbol,ts_event,")
        assert data.count(b"\n") == 1
    else:
        assert _table(form, data).column_names[:2] == ["symbol", "ts_event"]


@given(st.lists(st.integers(-ABSENT, ABSENT), min_size=1, max_size=50))
def test_any_price_is_exact(prices: list[int]) -> None:
    ones = np.ones(len(prices), np.int64)
    batch = make_batch(Kind.QUOTE, {"instrument_id": ones, "ts_event": ones, "bid_price": prices})
    lines = _written(Format.JSONL, batch, kind=Kind.QUOTE).decode().splitlines()
    told = [json.loads(line)["bid_price"] for line in lines]
    assert told == [None if price == ABSENT else format_decimal(price) for price in prices]
