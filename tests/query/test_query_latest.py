"""The latest rows, and what readers select."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.columns import ABSENT, MAX_ROWS, Batch, Kind, make_batch
from mda.market.verdicts import CROSSED, OUT_OF_ORDER
from mda.query.latest import LatestRows, split
from mda.query.selection import ALL_KINDS, Selection, select
from tests.tape.helpers import quotes, rows_of, trades

_verdicts = st.sampled_from([0, 0, 0, CROSSED, OUT_OF_ORDER, CROSSED | OUT_OF_ORDER])
_rows = st.lists(st.tuples(st.integers(1, 12), _verdicts), min_size=1, max_size=30)


def _batch(rows: list[tuple[int, int]], first: int, *, plain: bool) -> Batch:
    count = len(rows)
    columns: dict[str, Any] = {
        "instrument_id": [instrument for instrument, _ in rows],
        "ts_event": np.arange(first, first + count),
        "sequence": np.arange(first, first + count),
        "price": np.arange(first, first + count) * 2,
    }
    if not plain:
        columns["verdicts"] = [verdict for _, verdict in rows]
    return make_batch(Kind.TRADE, columns)


def _all_columns(batch: Batch | None) -> dict[int, tuple[int, ...]]:
    if batch is None:
        return {}
    return {
        int(batch["instrument_id"][row]): tuple(int(batch[name][row]) for name in batch) for row in range(batch.rows)
    }


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(_rows, st.booleans()), max_size=8), st.lists(st.integers(0, 40), unique=True))
def test_the_latest_rows_are_those_of_a_dict(
    updates: list[tuple[list[tuple[int, int]], bool]], asked: list[int]
) -> None:
    latest, oracle, number = LatestRows(Kind.TRADE), {}, 1
    for rows, plain in updates:
        batch = _batch(rows, number, plain=plain)
        latest.update(batch)
        number += len(rows)
        for row, (instrument, verdict) in enumerate(rows):
            if plain or not verdict & OUT_OF_ORDER:
                oracle[instrument] = tuple(int(batch[name][row]) for name in batch)
    everything = latest.take(None)
    assert _all_columns(everything) == oracle
    assert everything is None or everything["instrument_id"].tolist() == sorted(oracle)
    some = latest.take(asked)
    expected = [instrument for instrument in asked if instrument in oracle]
    assert ([] if some is None else some["instrument_id"].tolist()) == expected
    assert _all_columns(some) == {instrument: oracle[instrument] for instrument in expected}


def test_columns_that_are_left_out_are_absent_again() -> None:
    latest = LatestRows(Kind.TRADE)
    latest.update(trades(1, size=[5]))
    latest.update(make_batch(Kind.TRADE, {"instrument_id": [1], "ts_event": [2], "price": [3]}))
    taken = latest.take(None)
    assert taken is not None
    assert (taken["size"].tolist(), taken["sequence"].tolist(), taken["price"].tolist()) == ([ABSENT], [ABSENT], [3])


def test_what_was_taken_does_not_change_later() -> None:
    latest = LatestRows(Kind.QUOTE)
    latest.update(quotes(1))
    taken = latest.take(None)
    latest.update(quotes(2))
    assert taken is not None
    assert rows_of([taken]) == [1]


def test_large_batches_are_split() -> None:
    batch = trades(0, MAX_ROWS * 2 + 5)
    parts = split(batch)
    assert [part.rows for part in parts] == [MAX_ROWS, MAX_ROWS, 5]
    assert rows_of(parts) == list(range(batch.rows))
    assert [part.rows for part in split(trades(0, MAX_ROWS))] == [MAX_ROWS]


def test_a_selection_keeps_the_wanted_rows_in_order() -> None:
    batches = [trades(1, 4, instrument_id=[1, 2, 3, 1]), quotes(5, 2, instrument_id=[2, 2]), trades(7, 1)]

    def kept(selection: Selection) -> list[int]:
        return rows_of(selection.filter(batches))

    assert kept(select(None)) == [1, 2, 3, 4, 5, 6, 7]
    assert kept(select(frozenset({1}))) == [1, 4, 7]
    assert kept(select(frozenset({2, 3}))) == [2, 3, 5, 6]
    assert kept(select(frozenset({2}), frozenset({Kind.QUOTE}))) == [5, 6]
    assert kept(select(None, frozenset({Kind.TRADE}))) == [1, 2, 3, 4, 7]
    assert kept(select(frozenset({9}))) == kept(select()) == []


def test_a_batch_that_is_wanted_whole_is_not_copied() -> None:
    batch = trades(1, 3)
    assert select(frozenset({1, 2})).filter([batch])[0] is batch
    assert select(None).filter([batch])[0] is batch


def test_only_all_instruments_of_all_kinds_are_everything() -> None:
    assert select(None).everything
    assert not select(None, frozenset({Kind.QUOTE})).everything
    assert not select(frozenset({1}), ALL_KINDS).everything
    assert select(frozenset({1, 2})) is select(frozenset({2, 1}))
