"""Sequence numbers of a producer: what opens and closes, as if rows came one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.columns import ABSENT, Kind, make_batch
from marketdata.v1.gap_pb2 import Gap
from mda.market import numbering as numbering_module
from mda.market.numbering import Numbering, Numbers, row_numbers
from tests.tape.numbers import CLOSED, OPEN, Oracle, facts_of


def array(numbers: Sequence[int]) -> Numbers:
    return np.array(numbers, np.uint64)


@st.composite
def streams(draw: st.DrawFn) -> list[list[int]]:
    """Draw numbers, some lost, some twice, some late, in batches."""
    first = draw(st.sampled_from([0, 1, 1_000, (1 << 64) - 60]))
    rows = list(range(first, first + draw(st.integers(1, 50))))
    rows += draw(st.lists(st.sampled_from(rows), max_size=8))
    by_place = draw(st.lists(st.integers(-9, 9), min_size=len(rows), max_size=len(rows)))
    jittered = sorted(range(len(rows)), key=lambda place: rows[place] + by_place[place])
    lost = draw(st.sets(st.sampled_from(range(len(rows))), max_size=len(rows) // 2))
    order = jittered if draw(st.booleans()) else draw(st.permutations(range(len(rows))))
    numbers = [rows[place] for place in order if place not in lost]
    cuts = sorted(draw(st.sets(st.integers(0, len(numbers)), max_size=8)))
    return [numbers[start:end] for start, end in zip([0, *cuts], [*cuts, len(numbers)], strict=True)]


@settings(derandomize=True, deadline=None, max_examples=500)
@given(streams(), st.booleans())
def test_the_records_are_those_of_rows_one_by_one_wherever_it_is_taken_up(batches: list[list[int]], anew: bool) -> None:
    oracle, numbering = Oracle(), Numbering("p")
    opened: dict[tuple[int, int], Gap] = {}
    for now, numbers in enumerate(batches):
        found = numbering.take(array(numbers), now * 7_000_000)
        assert facts_of(found) == [fact for number in numbers for fact in oracle.take(number)]
        if anew:
            numbering = Numbering("p", numbering.text)
        for gap in found:
            key = (gap.first_sequence, gap.last_sequence)
            if gap.state == OPEN:
                opened[key] = gap
                assert (gap.open_time.ToMilliseconds(), gap.HasField("close_time")) == (now * 7, False)
            else:
                assert gap.open_time == opened.pop(key).open_time
                assert gap.close_time.ToMilliseconds() == now * 7
        assert not any(key in {hole[:2] for hole in oracle.holes if not hole[2]} for key in opened)


def test_rows_without_a_number_do_not_count() -> None:
    numbering = Numbering("p")
    assert numbering.take(array([]), 0) == numbering.take(array([ABSENT, ABSENT]), 0) == []
    assert numbering.text == ""
    assert numbering.take(array([5, ABSENT, 6]), 0) == []
    assert numbering.text == "6"
    assert facts_of(numbering.take(array([ABSENT, 8]), 0)) == [(OPEN, 7, 7)]


def test_the_usual_text_is_short_and_can_be_read() -> None:
    numbering = Numbering("p")
    numbering.take(array([1, 5, 9]), 3_000_000)
    numbering.take(array([7, 12]), 5_000_000)
    assert numbering.text == "12 2.2.3,2.2.0.0.0.2.0,2.1.2"
    assert Numbering("p", numbering.text).text == numbering.text


@pytest.mark.parametrize("text", ["rubbish", "5 1.2", "5 1.x.3", "5 1.2.3.4", " "])
def test_a_text_that_cannot_be_read_counts_as_none(text: str) -> None:
    numbering = Numbering("p", text)
    assert numbering.text == ""
    assert numbering.take(array([7, 8]), 0) == []


def test_the_clock_may_go_back() -> None:
    numbering = Numbering("p")
    numbering.take(array([1, 3]), 9_000_000)
    (gap,) = numbering.take(array([5]), 2_000_000)
    assert gap.open_time.ToMilliseconds() == 9
    (gap,) = numbering.take(array([4]), 2_000_000)
    assert gap.close_time.ToMilliseconds() == 9


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbering_module, "MOST_PIECES", 3)
    monkeypatch.setattr(numbering_module, "MOST_TOLD", 4)


@pytest.mark.usefixtures("narrow")
def test_beyond_the_most_the_oldest_gap_is_forgotten() -> None:
    numbering = Numbering("p")
    numbering.take(array([1, 3, 5, 7]), 0)
    assert facts_of(numbering.take(array([9]), 0)) == [(OPEN, 8, 8)]
    assert facts_of(numbering.take(array([2, 4]), 0)) == [(CLOSED, 4, 4)]  # 2 stays open for good


@pytest.mark.usefixtures("narrow")
def test_pieces_count_and_a_gap_of_too_many_is_forgotten() -> None:
    numbering = Numbering("p")
    numbering.take(array([1, 3, 100]), 0)
    assert numbering.take(array([10, 20]), 0) == []  # three pieces of it: the gap of 2 is forgotten
    assert numbering.take(array([2, 30]), 0) == []  # and now this one, too
    assert numbering.text == "100"


@pytest.mark.usefixtures("narrow")
def test_holes_beyond_the_most_of_one_call_are_told_as_one() -> None:
    numbering = Numbering("p")
    numbering.take(array([1]), 0)
    found = facts_of(numbering.take(array([3, 5, 7, 9, 11, 8, 15]), 0))
    assert found == [(OPEN, n, n) for n in (2, 4, 6, 8)] + [(CLOSED, 8, 8), (OPEN, 10, 14)]
    assert numbering.take(array([10, 11, 12, 13, 14]), 0) == []
    assert facts_of(numbering.take(array([6]), 0)) == [(CLOSED, 6, 6)]


def test_the_text_is_bounded_whatever_comes() -> None:
    numbering = Numbering("p")
    numbers = array(range(1 << 60, (1 << 60) + 32_768 * 3, 3))
    found = numbering.take(numbers, 1_790_000_000_000_000_000)
    assert len(found) == numbering_module.MOST_TOLD + 1
    assert len(numbering.text) < 8_000
    numbering.take(array([1 << 63]), 1_790_000_000_000_000_000)
    numbering.take(array(range((1 << 62) + (1 << 40), 1 << 63, 1 << 53))[:900], 1_790_000_000_000_000_000)
    assert len(numbering.text) < 50_000
    assert Numbering("p", numbering.text).text == numbering.text


def test_numbers_of_batches_come_in_their_order() -> None:
    columns = {"instrument_id": [1, 1], "ts_event": [1, 2]}
    quotes = make_batch(Kind.QUOTE, {**columns, "sequence": [4, 5]})
    trades = make_batch(Kind.TRADE, {**columns, "price": [1, 1]})
    assert row_numbers([quotes, trades, quotes]).tolist() == [4, 5, 4, 5]
    assert row_numbers([trades]).tolist() == row_numbers([]).tolist() == []
