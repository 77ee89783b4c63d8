"""What `mda ingest --backfill` tells of gaps that it leaves open."""

from __future__ import annotations

import grpc
import numpy as np

from marketdata.columns import Batch, Kind, make_batch
from marketdata.errors import error_of
from marketdata.v1.gap_pb2 import Gap
from mda.cli.backfill import MOST_ROWS, Filling, told
from mda.cli.late_rows import MOST_RUNS

PRODUCER = "backfill-" + "a" * 32


def filling(*numbers: int, last: int = 4) -> Filling:
    """Return a filling of a gap of numbers from 3 up, of which the files have some."""
    gap = Gap(producer="lossy", cause=Gap.CAUSE_SEQUENCE, first_sequence=3, last_sequence=last)
    made = Filling(gap, producer=PRODUCER)
    made.take(rows(*numbers))
    return made


def rows(*numbers: int, kind: Kind = Kind.TRADE) -> Batch:
    ones = np.ones(len(numbers))
    prices = {"price": ones} if kind is Kind.TRADE else {"bid_price": ones, "ask_price": ones}
    return make_batch(kind, {"instrument_id": ones, "ts_event": ones, "sequence": numbers, **prices})


def numbers_of(made: Filling) -> list[list[int]]:
    return [batch["sequence"].tolist() for batch in made.rows()]


def test_rows_come_by_their_numbers_each_once() -> None:
    made = filling(5, 3, 9, last=6)
    made.take(rows(4, 3, 6))
    assert numbers_of(made) == [[3, 4, 5, 6]]


def test_of_several_kinds_the_last_number_comes_first() -> None:
    made = filling(3, 4, 6, last=7)
    made.take(rows(7, 5, kind=Kind.QUOTE))
    assert numbers_of(made) == [[7], [5], [3, 4, 6]]
    made = filling(3, 4, last=5)
    made.take(rows(5, kind=Kind.QUOTE))
    assert numbers_of(made) == [[5], [3, 4]]


def test_of_what_needs_nothing_it_tells_nothing() -> None:
    for nothing in (filling(), filling(3, 4), filling(3, 4, 4)):
        assert told("D", nothing) == []
        assert not nothing.is_stuck


def test_files_may_lack_rows_or_gaps_have_too_many() -> None:
    assert told("D", filling(1, 4, 4)) == [
        "lossy 3 to 4: the files have 1 of 2 rows. It is left as it is: give all files at once."
    ]
    assert told("D", filling(3, 4, last=MOST_ROWS + 3)) == [
        "lossy 3 to 4194307: 4,194,305 rows are more than can be filled in at once, 4,194,304. It is left as it is."
    ]


def test_rows_that_are_set_aside_are_to_be_released() -> None:
    one = filling(3, 4)
    one.set_aside = 1
    assert one.is_stuck
    assert told("D", one) == [
        "lossy 3 to 4: 1 of 2 rows are set aside by the dataset's policy. It is left open. "
        f"`mda quarantine list D --producer {PRODUCER}` shows them, "
        f"`mda quarantine release D --producer {PRODUCER}` puts them on the tape; then run the same command again."
    ]


def test_what_to_do_about_a_refusal_depends_on_what_is_there() -> None:
    one = filling(3, 4)
    one.refusal = error_of(grpc.StatusCode.INVALID_ARGUMENT, "No.", "ROW_REFUSED", {"field": "batch.trades.price"})
    assert one.is_stuck
    assert told("D", one) == [
        "lossy 3 to 4: refused, ROW_REFUSED in batch.trades.price: No. It is left open: correct the rows, or change "
        "the dataset's policy; then run the command again."
    ]
    one.there = 1
    assert told("D", one) == [
        "lossy 3 to 4: refused, ROW_REFUSED in batch.trades.price: No. It is left open, with 1 of its rows: change "
        "the dataset's policy; then run the same command again, with the same files."
    ]
    one.refusal = error_of(grpc.StatusCode.ABORTED, "Another.", "FENCED")
    assert told("D", one) == [
        "lossy 3 to 4: refused, FENCED: Another. It is left open: another run fills it. Run the same command again "
        "once that one is over."
    ]


def test_late_rows_in_too_many_pieces_are_told() -> None:
    one = filling(3, 4)
    one.late = {Kind.TRADE: np.arange(0, 2 * MOST_RUNS + 1, 2, dtype=np.uint64)}
    assert one.is_stuck
    assert told("D", one) == [
        "lossy 3 to 4: some of its rows came late, in more pieces than can be told apart (701 pieces, 700 at the "
        "most). It is left open."
    ]
