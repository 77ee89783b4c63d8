"""Pieces of ticks, joined where they are small."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mda.market.ticks import Ticks, in_pieces


def ticks(first: int, rows: int) -> Ticks:
    ids = np.arange(first, first + rows, dtype=np.uint32)
    numbers = ids.astype(np.int64)
    return Ticks(ids, numbers + 1, numbers + 2, ids.astype(np.int32), numbers + 3, numbers + 4)


@given(st.lists(st.integers(0, 9)), st.integers(1, 20))
def test_all_rows_are_there_in_their_order_and_few_pieces_are_small(sizes: list[int], rows: int) -> None:
    firsts = np.cumsum([0, *sizes]).tolist()
    pieces = list(in_pieces([ticks(first, size) for first, size in zip(firsts, sizes, strict=False)], rows))
    assert [len(piece) >= rows for piece in pieces[:-1]] == [True] * len(pieces[:-1])
    assert all(len(piece) < rows + 9 for piece in pieces)
    whole = ticks(0, sum(sizes))
    found = Ticks.concatenate(pieces) if pieces else ticks(0, 0)
    for name in ("instrument_id", "ts_event", "tape_sequence", "tape_row", "price", "size"):
        assert np.array_equal(getattr(found, name), getattr(whole, name))
        assert getattr(found, name).dtype == getattr(whole, name).dtype


def test_a_large_piece_is_passed_on_as_it_is() -> None:
    large = ticks(0, 20)
    assert [*in_pieces([large, large], 20)] == [large, large]
