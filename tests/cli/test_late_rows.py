"""Rows of a gap that came late, and their text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.columns import Kind
from mda.cli.late_rows import MOST_RUNS, late_of, runs_of, text_of

NUMBERS = st.sets(st.integers(0, 40) | st.integers(2**64 - 40, 2**64 - 2), min_size=1).map(
    lambda numbers: np.array(sorted(numbers), dtype=np.uint64)
)


@given(st.dictionaries(st.sampled_from(list(Kind)), NUMBERS))
def test_their_text_tells_all_of_them(late: dict[Kind, np.ndarray]) -> None:
    again = late_of(text_of(late))
    assert {kind: found.tolist() for kind, found in again.items()} == {k: found.tolist() for k, found in late.items()}


@pytest.mark.parametrize(
    ("numbers", "runs", "text"),
    [([7], 1, "TRADE 7-7"), ([0, 1, 2, 5, 7, 8], 3, "TRADE 0-2,5-5,7-8")],
)
def test_numbers_that_follow_one_another_are_one_run(numbers: list[int], runs: int, text: str) -> None:
    late = {Kind.TRADE: np.array(numbers, dtype=np.uint64)}
    assert (runs_of(late), text_of(late)) == (runs, text)


def test_their_text_fits_a_position() -> None:
    numbers = np.uint64(2**64 - 4 * MOST_RUNS) + np.uint64(2) * np.arange(MOST_RUNS, dtype=np.uint64)
    late = {Kind.TRADE: numbers}
    assert runs_of(late) == MOST_RUNS
    assert len(text_of(late)) <= 32_768
