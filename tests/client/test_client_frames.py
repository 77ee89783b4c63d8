"""Rows as tables of Arrow, Polars and pandas."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from marketdata import frames
from marketdata.columns import ABSENT, NANOS, Batch, Kind, make_batch
from marketdata.query.v1.query_service_pb2 import TradeWithQuote
from marketdata.rows import Rows
from marketdata.tables import Prices
from marketdata.v1.bar_pb2 import Bar
from marketdata.v1.quote_pb2 import Quote
from marketdata.v1.trade_pb2 import Trade
from tests.client.services import Connection
from tests.tape.helpers import NOW_NS, new_name, quotes, trades

LARGEST = ABSENT - 1


def _trades(**columns: Any) -> Batch:
    return make_batch(Kind.TRADE, {"instrument_id": [1, 2, 9], "ts_event": [0, 1, 2], "price": [1, 2, 3], **columns})


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        ("float", [5529.25, -1e-9, None]),
        ("decimal", [Decimal("5529.25"), Decimal("-1e-9"), None]),
        ("units", [5_529_250_000_000, -1, None]),
    ],
)
def test_prices_are_given_as_asked_for_and_what_is_not_there_is_null(prices: Prices, expected: list[Any]) -> None:
    batch = _trades(price=[5_529_250_000_000, -1, ABSENT], sequence=[1, ABSENT, 3])
    table = batch.to_arrow(prices=prices)
    assert table["price"].to_pylist() == expected
    assert table["sequence"].to_pylist() == [1, None, 3]
    assert table["ts_recv"].null_count == 3
    assert table.schema.field("ts_event").type == pa.timestamp("ns", "UTC")
    assert batch.to_polars(prices=prices)["price"].to_list() == expected
    told = batch.to_pandas(prices=prices)["price"].tolist()
    assert told[:2] == expected[:2]
    assert pd.isna(told[2])


def test_the_extremes_of_int64_are_exact() -> None:
    batch = _trades(price=[LARGEST, -LARGEST, 1])
    assert batch.to_arrow(prices="decimal")["price"].to_pylist() == [
        Decimal(LARGEST).scaleb(-9),
        Decimal(-LARGEST).scaleb(-9),
        Decimal("0.000000001"),
    ]
    assert batch.to_pandas(prices="units")["price"].tolist() == [LARGEST, -LARGEST, 1]


def test_symbols_and_words_are_told_and_unknown_ones_are_null() -> None:
    batch = _trades(side=[1, 0, 7], action=[0, 1, 2])
    frame = batch.to_polars(symbols={2: "B", 8: "H"})
    assert frame["symbol"].to_list() == [None, "B", None]
    assert frame["side"].to_list() == ["buy", "unknown", None]
    assert frame["action"].to_list() == ["trade", "cancel", "correct"]
    assert frame["instrument_id"].to_list() == [1, 2, 9]
    assert batch.to_polars(symbols=dict.fromkeys(range(1, 10), "x"))["symbol"].to_list() == ["x"] * 3
    assert batch.to_polars(symbols={})["symbol"].to_list() == [None] * 3


def test_columns_are_not_copied() -> None:
    batch = quotes(0, 20_000)
    table = frames.to_arrow([batch, batch], prices="units")
    for name in ("ts_event", "bid_price", "instrument_id"):
        for chunk in table[name].chunks:
            assert chunk.buffers()[1].address == batch[name].__array_interface__["data"][0], name
    frame = frames.to_polars([batch], prices="units")
    assert np.shares_memory(frame["bid_price"].to_numpy(), batch["bid_price"])


def test_small_batches_are_joined_and_kinds_are_kept_apart() -> None:
    table = frames.to_arrow([trades(number) for number in range(10_000)], prices="units")
    assert table["sequence"].num_chunks == 2
    assert table["sequence"].to_pylist() == [*range(10_000)]
    assert frames.to_polars([], kind=Kind.QUOTE).height == 0
    assert frames.to_pandas([trades(1)])["sequence"].tolist() == [1]
    with pytest.raises(ValueError, match="of QUOTE and TRADE: choose one"):
        frames.to_arrow([trades(1), quotes(1)])
    with pytest.raises(ValueError, match="of no kind"):
        frames.to_arrow([])
    with pytest.raises(ValueError, match="none of float, decimal, units"):
        trades(1).to_arrow(prices="euros")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("name", "extra"), [("pyarrow", "arrow"), ("polars", "polars"), ("pandas", "pandas")])
def test_a_library_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    method = {"pyarrow": "to_arrow", "polars": "to_polars", "pandas": "to_pandas"}[name]
    with pytest.raises(ImportError, match=rf'pip install "marketdata-client\[{extra}\]"'):
        getattr(trades(1), method)()


def test_messages_are_tables_too() -> None:
    bar = Bar(symbol="A", open="5529.25", volume="2", count=3, state=Bar.STATE_FINAL, in_gap=True, last_sequence=7)
    bar.start_time.FromNanoseconds(1)
    table = Rows(Bar, [bar, Bar(symbol="B", volume="0")]).to_arrow(prices="decimal")
    first, second = table.to_pylist()
    assert (first["open"], first["volume"], first["state"]) == (Decimal("5529.25"), Decimal(2), "final")
    assert (first["empty"], second["open"], second["vwap"]) == (None, None, None)
    assert (first["in_gap"], first["count"], first["last_sequence"]) == (True, 3, 7)
    assert table["start_time"].cast(pa.int64()).to_pylist() == [1, None]
    assert Rows(Bar, [bar]).to_polars(prices="units")["open"].to_list() == [5_529_250_000_000]
    assert Rows(Bar, [bar]).to_pandas()["open"].tolist() == [5529.25]
    assert Rows(Bar).to_polars().columns == [field.name for field in Bar.DESCRIPTOR.fields]


def test_verdicts_and_the_quote_beside_a_trade_are_columns() -> None:
    quote = Quote(symbol="A", bid_price="1", verdicts=[3, 4])
    words = Rows(Quote, [quote, Quote(symbol="B")]).to_polars()["verdicts"].to_list()
    assert len(words[0]) == 2
    assert all(word == word.lower() and word for word in words[0])
    assert words[1] == []
    both = Rows(TradeWithQuote, [TradeWithQuote(trade=Trade(symbol="A", price="", sequence=1), quote=quote)])
    frame = both.to_polars()
    assert frame["price"].to_list() == [None]  # of a cancel
    assert frame["sequence"].to_list() == [1]
    assert frame["quote_bid_price"].to_list() == [1.0]


async def test_a_scan_is_a_table(connection: Connection) -> None:
    dataset = new_name("FRAME")
    await connection.put(dataset, "A", "B")
    async with connection.publisher(dataset, "p") as publisher:
        await publisher.publish(trades(1, 3, instrument_id=[1, 2, 1], price=[NANOS, 2 * NANOS, 3 * NANOS]))
        await publisher.publish(quotes(4, 2))
    history = connection.history
    frame = await history.scan(dataset, kinds=[Kind.TRADE]).to_polars(symbols={1: "A", 2: "B"})
    assert frame.select("symbol", "price", "sequence").rows() == [("A", 1.0, 1), ("B", 2.0, 2), ("A", 3.0, 3)]
    assert frame["ts_event"].dtype == pl.Datetime("ns", "UTC")
    assert (await history.scan(dataset, kinds=[Kind.QUOTE]).to_pandas(symbols={}))["sequence"].tolist() == [4, 5]
    empty = await history.scan(dataset, kinds=[Kind.TRADE], start_ns=NOW_NS + NANOS).to_arrow(symbols={})
    assert (empty.num_rows, "symbol" in empty.column_names) == (0, False)
    with pytest.raises(ValueError, match="rows of one kind"):
        await history.scan(dataset).to_arrow()
    listed = await history.trades(dataset, start_ns=NOW_NS)
    assert listed.to_polars(prices="units")["price"].to_list() == [NANOS, 2 * NANOS, 3 * NANOS]
