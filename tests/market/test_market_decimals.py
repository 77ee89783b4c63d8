"""Decimal strings and counts of 1e-9."""

from __future__ import annotations

import contextlib
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from marketdata.columns import ABSENT
from mda.market.decimals import format_decimal, parse_decimal
from mda.market.errors import MarketDataError

VALUES = st.integers(-ABSENT, ABSENT - 1)


@given(VALUES)
@example(ABSENT - 1)
@example(-ABSENT)
@example(0)
@example(-1)
def test_every_value_comes_back(value: int) -> None:
    assert parse_decimal(format_decimal(value), "f") == value


@given(VALUES)
def test_text_is_the_exact_and_shortest_decimal(value: int) -> None:
    text = format_decimal(value)
    assert Decimal(text) == Decimal(value).scaleb(-9)
    assert "." not in text or not text.endswith(("0", "."))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5_495_250_000_000, "5495.25"),
        (-500_000_000, "-0.5"),
        (7_000_000_000, "7"),
        (10_000_000_000, "10"),
        (0, "0"),
        (1, "0.000000001"),
        (-1_000_000_001, "-1.000000001"),
    ],
)
def test_decimals_are_written_for_people(value: int, text: str) -> None:
    assert format_decimal(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("+1.5", 1_500_000_000), ("0007", 7_000_000_000), ("1.500000000", 1_500_000_000), ("-0", 0), ("0.0", 0)],
)
def test_other_ways_to_write_a_decimal_are_read(text: str, value: int) -> None:
    assert parse_decimal(text, "f") == value


NOT_DECIMALS = [
    *("", " ", "abc", "1e5", "NaN", "Infinity", "1.", ".5", "1.2.3", "--1", "+-1", "1,5", " 1", "1\n", "0x10"),
    *("1.0000000001", "12345678901", "\u0661", "1_000", "-", "+"),
]


@pytest.mark.parametrize("text", NOT_DECIMALS)
def test_what_is_no_decimal_is_refused_by_field(text: str) -> None:
    with pytest.raises(MarketDataError) as caught:
        parse_decimal(text, "quotes[3].bid_price")
    assert caught.value.reason_name == "INVALID_FIELD"
    assert caught.value.metadata == {"field": "quotes[3].bid_price", "rule": "decimal"}
    assert caught.value.message.startswith("quotes[3].bid_price: ")


@pytest.mark.parametrize(
    "text", ["9223372036.854775807", "9223372036.854775808", "-9223372036.854775808", "9999999999", "-9999999999"]
)
def test_what_does_not_fit_is_refused_by_field(text: str) -> None:
    with pytest.raises(MarketDataError) as caught:
        parse_decimal(text, "trades[0].price")
    assert caught.value.metadata == {"field": "trades[0].price", "rule": "decimal.range"}


@given(st.text(max_size=60))
def test_any_text_is_a_decimal_or_refused(text: str) -> None:
    with contextlib.suppress(MarketDataError):
        assert Decimal(parse_decimal(text, "f")).scaleb(-9) == Decimal(text)


def test_a_long_text_is_not_repeated_in_full() -> None:
    with pytest.raises(MarketDataError) as caught:
        parse_decimal("x" * 10_000, "f")
    assert len(caught.value.message) < 200
