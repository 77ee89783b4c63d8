"""Each row by itself, by the default policy, against an oracle that goes row by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.columns import ABSENT, FIELDS, NANOS, Batch, Kind, make_batch
from mda.market.errors import MarketDataError
from mda.market.instruments import Directory
from mda.market.verdicts import MAX_AHEAD_NS, check

NOW = 1_800_000_000_000_000_000
LEAST = -(1 << 63)
YEAR = 366 * 86_400 * NANOS
PRICES = {Kind.QUOTE: ("bid_price", "ask_price"), Kind.TRADE: ("price",), Kind.BAR: ("open", "high", "low", "close")}
Strategy = st.SearchStrategy[Any]


@st.composite
def rows(draw: st.DrawFn, ids: Strategy, times: Strategy, prices: Strategy, in_order: bool | None = None) -> Batch:
    kind = draw(st.sampled_from(list(Kind)))
    count = draw(st.integers(1, 8))

    def column(values: Strategy) -> list[int]:
        return draw(st.lists(values, min_size=count, max_size=count))

    moments = column(times)
    ordered = draw(st.booleans()) if in_order is None else in_order
    columns = {"instrument_id": column(ids), "ts_event": sorted(moments) if ordered else moments}
    columns |= {name: column(prices) for name in PRICES[kind] if kind is not Kind.QUOTE or draw(st.booleans())}
    if kind is Kind.BAR:
        columns["interval_ns"] = column(st.sampled_from([1, 60, YEAR, 60, 0, -1, YEAR + 1, ABSENT]))
        columns["volume"] = column(st.sampled_from([0, 1, ABSENT, -1]))
    if draw(st.booleans()):
        columns["verdicts"] = column(st.integers(0, 255))
    return make_batch(kind, columns)


ANY_ROWS = rows(
    st.sampled_from([1, 2, 3, 3, 0, 4, (1 << 32) - 1]),
    st.sampled_from([0, NOW, NOW + MAX_AHEAD_NS, NOW, NOW, NOW + MAX_AHEAD_NS + 1, -1, LEAST, ABSENT]),
    st.sampled_from([1, 5, 7, ABSENT - 1, 0, -5, LEAST, ABSENT]),
)

Bad = tuple[str, str, int, int] | None


def first_bad(batch: Batch, directory: Directory) -> Bad:
    """Return reason, column, row and value of what `check` must refuse, row by row."""
    values = {name: batch[name].tolist() for name in batch}

    def first(column: str, reason: str, bad: Callable[[int, int], bool]) -> Bad:
        found = (row for row, value in enumerate(values[column]) if bad(row, value))
        row = next(found, None)
        return None if row is None else (reason, column, row, values[column][row])

    def no_price(row: int, value: int) -> bool:
        instrument = directory.page(values["instrument_id"][row] - 1, 1)[0]
        return value == LEAST or (value <= 0 and not instrument.negative_prices)

    bad = _bad_bar(batch) if batch.kind is Kind.BAR else None
    bad = bad or first("instrument_id", "UNKNOWN_INSTRUMENT_ID", lambda _, value: not 1 <= value <= len(directory))
    bad = bad or first("ts_event", "TIME_OUT_OF_RANGE", lambda _, value: not 0 <= value <= NOW + MAX_AHEAD_NS)
    for column in PRICES[batch.kind] if not bad else ():
        bad = bad or first(column, "NOT_A_PRICE", no_price)
        if batch.kind is not Kind.QUOTE:
            bad = bad or first(column, "NOT_A_PRICE", lambda _, value: value == ABSENT)
    return bad


def _bad_bar(batch: Batch) -> Bad:
    rows = [{name: int(batch[name][row]) for name in batch} for row in range(batch.rows)]
    rules: dict[str, Callable[[dict[str, int]], bool]] = {
        "interval_ns": lambda bar: not 0 < bar["interval_ns"] <= YEAR,
        "high": lambda bar: any(bar[name] > bar["high"] for name in PRICES[Kind.BAR]),
        "low": lambda bar: any(bar[name] < bar["low"] for name in ("open", "close")),
        "volume": lambda bar: bar["volume"] < 0,
    }
    found = ((column, row) for column, bad in rules.items() for row, bar in enumerate(rows) if bad(bar))
    column, row = next(found, ("", 0))
    return ("BAD_BAR", column, row, rows[row][column]) if column else None


@given(batch=ANY_ROWS)
def test_check_refuses_what_the_oracle_refuses(directory: Directory, batch: Batch) -> None:
    expected = first_bad(batch, directory)
    if expected is None:
        check(batch, directory, NOW)
        return
    reason, column, row, value = expected
    field = f"batch.{FIELDS[batch.kind]}.{column}"
    with pytest.raises(MarketDataError) as caught:
        check(batch, directory, NOW)
    assert caught.value.reason_name == reason
    assert caught.value.metadata == {"field": field, "row": str(row), "value": str(value)}
    assert caught.value.field == field
    assert f"{field}, row {row}: {value} " in caught.value.message


QUOTE = {"instrument_id": [1, 3], "ts_event": [NOW, NOW]}


@pytest.mark.parametrize(
    ("kind", "columns", "reason", "field", "row"),
    [
        (Kind.QUOTE, {"instrument_id": [1, 0]}, "UNKNOWN_INSTRUMENT_ID", "batch.quotes.instrument_id", 1),
        (Kind.QUOTE, {"instrument_id": [4, 1]}, "UNKNOWN_INSTRUMENT_ID", "batch.quotes.instrument_id", 0),
        (Kind.QUOTE, {"ts_event": [NOW, -1]}, "TIME_OUT_OF_RANGE", "batch.quotes.ts_event", 1),
        (Kind.QUOTE, {"ts_event": [NOW + MAX_AHEAD_NS + 1, 0]}, "TIME_OUT_OF_RANGE", "batch.quotes.ts_event", 0),
        (Kind.QUOTE, {"bid_price": [0, 1]}, "NOT_A_PRICE", "batch.quotes.bid_price", 0),
        (Kind.QUOTE, {"ask_price": [-1, -1]}, "NOT_A_PRICE", "batch.quotes.ask_price", 0),
        (Kind.QUOTE, {"ask_price": [1, LEAST]}, "NOT_A_PRICE", "batch.quotes.ask_price", 1),
        (Kind.TRADE, {"price": [1, ABSENT]}, "NOT_A_PRICE", "batch.trades.price", 1),
        (Kind.TRADE, {"price": [0, 0]}, "NOT_A_PRICE", "batch.trades.price", 0),
    ],
)
def test_a_row_that_nobody_can_use_is_named(
    directory: Directory, kind: Kind, columns: dict[str, list[int]], reason: str, field: str, row: int
) -> None:
    with pytest.raises(MarketDataError) as caught:
        check(make_batch(kind, QUOTE | columns), directory, NOW)
    assert (caught.value.reason_name, caught.value.field) == (reason, field)
    assert caught.value.metadata["row"] == str(row)


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        (Kind.QUOTE, {}),
        (Kind.QUOTE, {"bid_price": [ABSENT, -7], "ask_price": [5, 0]}),
        (Kind.QUOTE, {"bid_size": [0, -1], "ask_size": [LEAST, ABSENT]}),
        (Kind.TRADE, {"price": [1, -1]}),
        (Kind.QUOTE, {"ts_event": [0, NOW + MAX_AHEAD_NS]}),
    ],
)
def test_a_row_that_somebody_can_use_passes(directory: Directory, kind: Kind, columns: dict[str, list[int]]) -> None:
    check(make_batch(kind, QUOTE | columns), directory, NOW)


def test_an_empty_directory_knows_no_id() -> None:
    with pytest.raises(MarketDataError, match="is not an instrument"):
        check(make_batch(Kind.QUOTE, QUOTE), Directory(), NOW)
