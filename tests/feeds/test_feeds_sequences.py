"""Which rows are new and which are missing, against what one would find row by row."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.columns import ABSENT, Batch, Kind, make_batch
from mda.feeds.sequences import Hole, Sequences, missing_numbers, read_position
from mda.feeds.source import Newest, Rule, Standing


def rows(*numbers: int, times: Sequence[int] | None = None, ids: Sequence[int] | None = None) -> Batch:
    """Return trades, which happen at the time of their number where no times are given."""
    return make_batch(
        Kind.TRADE,
        {
            "instrument_id": list(ids or [1] * len(numbers)),
            "ts_event": list(times or numbers),
            "sequence": np.array(numbers, np.uint64),
            "price": [1] * len(numbers),
        },
    )


def numbers_of(batch: Batch | None) -> list[int]:
    return [] if batch is None else batch["sequence"].tolist()


def test_holes_and_rows_that_come_again() -> None:
    sequences = Sequences({Kind.TRADE: Rule.CONTIGUOUS})
    taken = sequences.take(rows(5, 6, 6, 9, 8, 10))
    assert (numbers_of(taken.batch), taken.holes, taken.known) == ([5, 6, 9, 10], [Hole(Kind.TRADE, 1, 7, 8)], 2)
    taken = sequences.take(rows(9, 10))
    assert (taken.batch, taken.holes, taken.known) == (None, [], 2)
    taken = sequences.take(rows(13))
    assert (numbers_of(taken.batch), taken.holes) == ([13], [Hole(Kind.TRADE, 1, 11, 12)])


def test_numbers_that_only_rise_have_no_holes() -> None:
    sequences = Sequences({Kind.TRADE: Rule.RISING})
    taken = sequences.take(rows(5, 9, 9, 20))
    assert (numbers_of(taken.batch), taken.holes, taken.known) == ([5, 9, 20], [], 1)


def test_without_a_rule_all_rows_are_taken() -> None:
    sequences = Sequences({})
    assert numbers_of(sequences.take(rows(3, 1, 1)).batch) == [3, 1, 1]
    assert sequences.text == "{}"


def test_of_very_many_instruments_those_with_the_newest_rows_are_told() -> None:
    sequences = Sequences({Kind.TRADE: Rule.TIMED})
    count = 5_000
    first_ns = 1_700_000_000_000_000_000
    sequences.take(rows(*range(count), times=range(first_ns, first_ns + count), ids=range(1, count + 1)))
    assert len(sequences.text) < 32_100
    told = Sequences.parse({}, json.loads(sequences.text)).standings
    assert len(told) > 900
    assert [of[1] for of in sorted(told)] == list(range(count + 1 - len(told), count + 1))
    assert len(sequences.standings) == count


def test_rows_without_a_number_are_taken() -> None:
    sequences = Sequences({Kind.TRADE: Rule.CONTIGUOUS})
    taken = sequences.take(rows(ABSENT, 4, ABSENT, 4, 5, times=[1, 2, 3, 2, 5]))
    assert (numbers_of(taken.batch), taken.known) == ([ABSENT, 4, ABSENT, 5], 1)
    assert numbers_of(sequences.take(rows(ABSENT)).batch) == [ABSENT]


def test_lower_numbers_of_later_times_are_another_count() -> None:
    sequences = Sequences({Kind.TRADE: Rule.CONTIGUOUS})
    taken = sequences.take(rows(100, 101, 1, 2, 4, times=[10, 11, 12, 13, 14]))
    assert numbers_of(taken.batch) == [100, 101, 1, 2, 4]
    assert taken.holes == [Hole(Kind.TRADE, 1, 0, 0), Hole(Kind.TRADE, 1, 3, 3)]
    assert sequences.standings == {(Kind.TRADE, 1): Standing(14, 4)}


def test_what_a_source_says_of_its_newest() -> None:
    sequences = Sequences({Kind.TRADE: Rule.CONTIGUOUS})
    assert sequences.take_newest(Newest(Kind.TRADE, 1, 7)) == []  # nobody knows where it began
    sequences.take(rows(5))
    assert sequences.take_newest(Newest(Kind.TRADE, 1, 5)) == []
    assert sequences.take_newest(Newest(Kind.TRADE, 1, 7)) == [Hole(Kind.TRADE, 1, 6, 7)]
    assert sequences.take_newest(Newest(Kind.TRADE, 1, 7)) == []
    assert sequences.take(rows(8)).holes == []


def test_times_and_counts_know_what_comes_again() -> None:
    sequences = Sequences({Kind.TRADE: Rule.TIMED})
    assert numbers_of(sequences.take(rows(1, 2, 3, times=[10, 11, 11])).batch) == [1, 2, 3]
    assert numbers_of(sequences.take(rows(4, times=[11])).batch) == [4]  # goes on: it is another one
    sequences.begin()
    assert numbers_of(sequences.take(rows(2, 3, times=[11, 11])).batch) == []
    assert numbers_of(sequences.take(rows(4, 5, 6, times=[11, 11, 12])).batch) == [5, 6]


@given(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=12), max_size=6), st.sampled_from([1, 2]))
def test_batches_are_taken_as_one_would_row_by_row(batches: list[list[int]], instruments: int) -> None:
    sequences = Sequences({Kind.TRADE: Rule.CONTIGUOUS})
    newest: dict[int, int] = {}
    for numbers in batches:
        ids = [1 + place % instruments for place in range(len(numbers))]
        expected: list[int] = []
        holes: list[tuple[int, int, int]] = []
        for number, instrument in zip(numbers, ids, strict=True):
            known = newest.get(instrument)
            if known is not None and number <= known:
                continue
            if known is not None and number > known + 1:
                holes.append((instrument, known + 1, number - 1))
            newest[instrument] = number
            expected.append(number)
        taken = sequences.take(rows(*numbers, ids=ids))
        assert numbers_of(taken.batch) == expected
        assert sorted((hole.instrument_id, hole.first, hole.last) for hole in taken.holes) == sorted(holes)
        assert taken.known == len(numbers) - len(expected)
        # as after a restart
        sequences = Sequences.parse({Kind.TRADE: Rule.CONTIGUOUS}, json.loads(sequences.text))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.data())
def test_a_source_that_repeats_from_any_place_doubles_nothing(steps: list[int], data: st.DataObject) -> None:
    """Rows in order of time, some of one time; each connection begins somewhere, at the start of a time."""
    times = np.cumsum(steps).tolist()
    sequences = Sequences({Kind.TRADE: Rule.TIMED})
    got: list[int] = []
    reached = 0
    while reached < len(times):
        sequences = Sequences.parse({Kind.TRADE: Rule.TIMED}, json.loads(sequences.text))
        sequences.begin()
        start = data.draw(st.integers(0, reached))
        while start > 0 and times[start - 1] == times[start]:
            start -= 1
        end = data.draw(st.integers(reached + 1, len(times)))
        cut = data.draw(st.integers(start, end))
        for piece in (range(start, cut), range(cut, end)):
            if piece:
                got += numbers_of(sequences.take(rows(*piece, times=[times[place] for place in piece])).batch)
        reached = end
    assert got == list(range(len(times)))


@pytest.mark.parametrize(
    ("came", "missing"),
    [([], [(3, 6)]), ([3, 4, 5, 6], []), ([4], [(3, 3), (5, 6)]), ([3, 6, 6], [(4, 5)]), ([1, 9], [(3, 6)])],
)
def test_what_is_missing_still(came: list[int], missing: list[tuple[int, int]]) -> None:
    batches = [rows(*came)] if came else []
    found = [(hole.first, hole.last) for hole in missing_numbers(Hole(Kind.TRADE, 1, 3, 6), batches)]
    assert found == missing


@pytest.mark.parametrize("text", ["", "rubbish", "[1]", "7"])
def test_a_position_of_somebody_else_says_nothing(text: str) -> None:
    assert read_position(text) == {}
