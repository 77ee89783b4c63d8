"""Rows for people and rows in columns are the same rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from marketdata.columns import ABSENT, COLUMNS, Batch, Kind, make_batch
from marketdata.v1.bar_pb2 import Bar
from marketdata.v1.quote_pb2 import Quote
from marketdata.v1.trade_pb2 import Trade
from marketdata.v1.verdict_pb2 import Verdict
from mda.market.errors import MarketDataError
from mda.market.instruments import Directory
from mda.market.latest import latest_rows
from mda.market.rows import (
    bars_of_batch,
    batch_of_quotes,
    batch_of_trades,
    quotes_of_batch,
    timestamp,
    trades_of_batch,
    verdicts_of_bits,
)

TIME = Timestamp(seconds=1_719_878_400, nanos=5)
READERS = {Kind.QUOTE: batch_of_quotes, Kind.TRADE: batch_of_trades}
WRITERS: dict[Kind, Any] = {Kind.QUOTE: quotes_of_batch, Kind.TRADE: trades_of_batch}
ELEMENTS = {
    "instrument_id": st.integers(1, 3),
    "ts_event": st.integers(0, ABSENT - 1),
    "ts_recv": st.integers(0, ABSENT),
    "sequence": st.integers(0, (1 << 64) - 1),
    "side": st.integers(0, 2),
    "action": st.integers(0, 2),
    "refers_to": st.integers(0, (1 << 64) - 1),
    "price": st.integers(-ABSENT, ABSENT - 1),
}
AMOUNTS = st.integers(-ABSENT, ABSENT)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    kind = draw(st.sampled_from([*READERS]))
    count = draw(st.integers(1, 6))
    columns = {
        column.name: draw(arrays.arrays(column.dtype, count, elements=ELEMENTS.get(column.name, AMOUNTS)))
        for column in COLUMNS[kind]
        if column.name != "verdicts" and (column.required or draw(st.booleans()))
    }
    return make_batch(kind, columns)


@given(batch=batches())
def test_columns_come_back_from_rows(directory: Directory, batch: Batch) -> None:
    rows = WRITERS[batch.kind](batch, directory)
    read: Any = READERS[batch.kind]
    again = read("SIM", [type(row).FromString(row.SerializeToString()) for row in rows], directory)
    assert {name: again[name].tolist() for name in again} == {name: batch[name].tolist() for name in batch}


def test_a_quote_is_written_for_people(directory: Directory) -> None:
    columns = {
        "instrument_id": [1],
        "ts_event": [1_500_000_000],
        "bid_price": [5_495_250_000_000],
        "verdicts": [0b1100],
    }
    (quote,) = quotes_of_batch(make_batch(Kind.QUOTE, columns), directory)
    expected = Quote(symbol="ALFA", event_time=Timestamp(seconds=1, nanos=500_000_000), bid_price="5495.25")
    expected.verdicts.extend([Verdict.VERDICT_CROSSED, Verdict.VERDICT_OUT_OF_ORDER])
    assert quote == expected


def test_a_bar_of_a_venue_is_written_for_people(directory: Directory) -> None:
    columns = {
        "instrument_id": [1, 0],
        "ts_event": [60_000_000_000] * 2,
        "interval_ns": [60_000_000_000] * 2,
        "open": [1_500_000_000] * 2,
        "high": [2_000_000_000] * 2,
        "low": [1_000_000_000] * 2,
        "close": [1_250_000_000] * 2,
        "volume": [7_000_000_000, ABSENT],
        "verdicts": [0b1000, 0],
    }
    bar, unknown = bars_of_batch(make_batch(Kind.BAR, columns), directory)
    times = {"start_time": Timestamp(seconds=60), "end_time": Timestamp(seconds=120)}
    prices = {"open": "1.5", "high": "2", "low": "1", "close": "1.25"}
    common = {**times, **prices, "state": Bar.STATE_FINAL, "count": 1}
    assert bar == Bar(symbol="ALFA", volume="7", verdicts=[Verdict.VERDICT_OUT_OF_ORDER], **common)
    assert unknown == Bar(**common)


def test_a_trade_of_an_unknown_side_has_none(directory: Directory) -> None:
    columns = {"instrument_id": [2], "ts_event": [0], "price": [1], "side": [77]}
    (trade,) = trades_of_batch(make_batch(Kind.TRADE, columns), directory)
    assert trade == Trade(symbol="BRAVO", event_time=Timestamp(), price="0.000000001")


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0, []),
        (0b1, ["UNKNOWN_INSTRUMENT"]),
        (0b1010, ["NOT_A_PRICE", "OUT_OF_ORDER"]),
        (0b1111, ["UNKNOWN_INSTRUMENT", "NOT_A_PRICE", "CROSSED", "OUT_OF_ORDER"]),
        (1 << 31, []),
    ],
)
def test_bits_are_verdicts(bits: int, names: list[str]) -> None:
    assert [Verdict.Name(verdict) for verdict in verdicts_of_bits(bits)] == [f"VERDICT_{name}" for name in names]


@pytest.mark.parametrize(
    ("row", "reason", "metadata"),
    [
        ({"symbol": "NONE"}, "UNKNOWN_INSTRUMENT", {"field": "quotes[1].symbol", "symbol": "NONE", "dataset": "SIM"}),
        ({"bid_price": "x"}, "INVALID_FIELD", {"field": "quotes[1].bid_price", "rule": "decimal"}),
        ({"ask_size": ""}, "INVALID_FIELD", {"field": "quotes[1].ask_size", "rule": "decimal"}),
        ({"ask_price": "9999999999"}, "INVALID_FIELD", {"field": "quotes[1].ask_price", "rule": "decimal.range"}),
        (
            {"event_time": Timestamp(seconds=-1)},
            "TIME_OUT_OF_RANGE",
            {"field": "quotes[1].event_time", "row": "1", "value": "-1000000000"},
        ),
        (
            {"event_time": Timestamp(seconds=10**12)},
            "TIME_OUT_OF_RANGE",
            {"field": "quotes[1].event_time", "row": "1", "value": str(10**21)},
        ),
        (
            {"receive_time": Timestamp(seconds=-1, nanos=-1)},
            "TIME_OUT_OF_RANGE",
            {"field": "quotes[1].receive_time", "row": "1", "value": "-1000000001"},
        ),
        (
            {"receive_time": Timestamp(seconds=ABSENT // 10**9, nanos=ABSENT % 10**9)},
            "TIME_OUT_OF_RANGE",
            {"field": "quotes[1].receive_time", "row": "1", "value": str(ABSENT)},
        ),
    ],
)
def test_the_field_at_fault_is_named(
    directory: Directory, row: dict[str, Any], reason: str, metadata: dict[str, str]
) -> None:
    good = {"symbol": "ALFA", "event_time": TIME}
    with pytest.raises(MarketDataError) as caught:
        batch_of_quotes("SIM", [Quote(**good), Quote(**(good | row))], directory)
    assert (caught.value.reason_name, caught.value.metadata) == (reason, metadata)


def test_a_trade_at_fault_is_named(directory: Directory) -> None:
    with pytest.raises(MarketDataError) as caught:
        batch_of_trades("SIM", [Trade(symbol="ALFA", event_time=TIME, price="1", size="-")], directory)
    assert caught.value.field == "trades[0].size"


@given(st.integers(0, ABSENT - 1))
def test_a_timestamp_is_exact(nanos: int) -> None:
    assert timestamp(nanos).ToNanoseconds() == nanos


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_latest_rows_are_the_last_of_each_instrument(ids: list[int]) -> None:
    batch = make_batch(Kind.QUOTE, {"instrument_id": ids, "ts_event": np.arange(len(ids))})
    last = {instrument_id: position for position, instrument_id in enumerate(ids)}
    assert sorted(latest_rows(batch).tolist()) == sorted(last.values())
