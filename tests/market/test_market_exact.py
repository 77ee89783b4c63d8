"""Sums, products and quotients of columns, against Python's integers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.columns import ABSENT
from mda.market.exact import MAX_ROWS, WideInts, divide, middles, sum_products, sum_values

LEAST = -(1 << 63)
# Near every border: small, as prices are, and as large as an int64 can be.
INT64 = st.one_of(
    st.integers(-3, 3),
    st.integers(-(1 << 44), 1 << 44),
    st.integers(LEAST, ABSENT),
    st.sampled_from([LEAST, LEAST + 1, ABSENT, ABSENT - 1, 1 << 32, (1 << 32) - 1, -(1 << 32)]),
)
WIDE = st.one_of(INT64, st.integers(-(1 << 140), 1 << 140), st.sampled_from([1 << 63, -(1 << 63) - 1, 1 << 64, -1]))


def column(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def rounded(top: int, bottom: int) -> int:
    if bottom <= 0:
        return ABSENT
    quotient = round(Fraction(top, bottom))  # half to even
    return quotient if -ABSENT <= quotient < ABSENT else ABSENT


@given(st.lists(WIDE, max_size=20))
def test_python_integers_come_back(values: list[int]) -> None:
    assert WideInts.of_ints(values).to_ints() == values


@given(st.lists(INT64, max_size=20))
def test_int64_comes_back(values: list[int]) -> None:
    assert WideInts.of(column(values)).to_ints() == values


@given(st.lists(WIDE, min_size=1, max_size=20))
def test_floats_are_near(values: list[int]) -> None:
    for near, value in zip(WideInts.of_ints(values).to_floats().tolist(), values, strict=True):
        assert abs(Fraction(near) - value) <= abs(Fraction(value, 1 << 50))


@given(st.lists(st.tuples(WIDE, WIDE), max_size=20))
def test_columns_are_added(pairs: list[tuple[int, int]]) -> None:
    one, other = (WideInts.of_ints([pair[place] for pair in pairs]) for place in (0, 1))
    assert (one + other).to_ints() == [a + b for a, b in pairs]


def groups_of(rows: list[object], data: st.DataObject) -> list[int]:
    cuts = data.draw(st.sets(st.integers(1, len(rows) - 1)) if len(rows) > 1 else st.just(set()))
    return [0, *sorted(cuts)]


@given(st.lists(st.tuples(INT64, INT64), min_size=1, max_size=30), st.data())
def test_groups_are_summed(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    starts = groups_of(rows, data)
    values, factors = column([a for a, _ in rows]), column([b for _, b in rows])
    groups = [rows[a:b] for a, b in zip(starts, [*starts[1:], len(rows)], strict=True)]
    sums = [sum(a for a, _ in group) for group in groups]
    assert sum_values(values, np.array(starts)).to_ints() == sums
    assert WideInts.of(values).reduceat(np.array(starts)).to_ints() == sums
    products = [sum(a * b for a, b in group) for group in groups]
    assert sum_products(values, factors, np.array(starts)).to_ints() == products


@pytest.mark.parametrize("value", [LEAST, ABSENT])
@pytest.mark.parametrize("factor", [LEAST, ABSENT])
def test_the_largest_products_are_exact(value: int, factor: int) -> None:
    values, factors = np.full(MAX_ROWS, value), np.full(MAX_ROWS, factor)
    assert sum_products(values, factors, np.array([0])).to_ints() == [MAX_ROWS * value * factor]


@pytest.mark.parametrize("size", [1 << 30, 1 << 45, 1 << 55, 1 << 62])
def test_many_random_products_are_exact(size: int) -> None:
    random = np.random.default_rng(size)
    values, factors = random.integers(-(1 << 50), 1 << 51, MAX_ROWS), random.integers(0, size, MAX_ROWS)
    starts = np.array([0, 1, 100, 40_000])
    products = [a * b for a, b in zip(values.tolist(), factors.tolist(), strict=True)]
    expected = [sum(products[a:b]) for a, b in zip(starts, [*starts[1:], MAX_ROWS], strict=True)]
    assert sum_products(values, factors, starts).to_ints() == expected


def test_too_many_large_products_at_once_are_refused() -> None:
    rows = np.full(1 << 21, ABSENT)
    with pytest.raises(ValueError, match="65536 rows at once"):
        sum_products(rows, rows, np.array([0]))


@settings(max_examples=300)
@given(st.lists(st.tuples(WIDE, WIDE), min_size=1, max_size=20))
def test_quotients_are_rounded_half_to_even(pairs: list[tuple[int, int]]) -> None:
    tops, bottoms = (WideInts.of_ints([pair[place] for pair in pairs]) for place in (0, 1))
    assert divide(tops, bottoms).tolist() == [rounded(*pair) for pair in pairs]


@settings(max_examples=300)
@given(
    st.integers(1, 1 << 62),
    st.integers(-(1 << 50), 1 << 50) | INT64,
    st.integers(-2, 2),
    st.booleans(),
)
def test_quotients_near_a_half_are_exact(bottom: int, quotient: int, off: int, half: bool) -> None:
    top = quotient * bottom + (bottom // 2 if half else 0) + off
    assert divide(WideInts.of_ints([top]), WideInts.of_ints([bottom])).tolist() == [rounded(top, bottom)]


@given(st.lists(st.tuples(INT64, INT64), min_size=1, max_size=20))
def test_middles_are_rounded_half_to_even(pairs: list[tuple[int, int]]) -> None:
    expected = [ABSENT if ABSENT in pair else round(Fraction(sum(pair), 2)) for pair in pairs]
    assert middles(column([a for a, _ in pairs]), column([b for _, b in pairs])).tolist() == expected


def test_middles_of_more_rows_than_are_looked_at_together() -> None:
    times = MAX_ROWS  # of three rows each
    found = middles(np.tile(column([1, 2, ABSENT]), times), np.tile(column([2, 5, 7]), times))
    assert np.array_equal(found, np.tile(column([2, 4, ABSENT]), times))
