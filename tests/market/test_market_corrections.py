"""Cancels and corrections of trades, against an oracle that goes row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.columns import ABSENT, Batch, Kind, concatenate, make_batch
from marketdata.v1.trade_pb2 import Trade
from mda.market import corrections as module
from mda.market.all_corrections import AllCorrections, Changes
from mda.market.corrections import Corrections
from mda.market.errors import MarketDataError
from mda.market.history import History
from mda.market.instruments import Directory
from mda.market.latest import latest_rows
from mda.market.rows import batch_of_trades, trades_of_batch
from mda.market.verdicts import check, flag

NOW = 1_800_000_000_000_000_000
TRADE, CANCEL, CORRECT = 0, 1, 2
NAMES = ("instrument_id", "sequence", "price", "size", "side", "action", "refers_to")
Row = tuple[int, ...]


def batch_of(rows: list[Row]) -> Batch:
    columns: dict[str, Any] = dict(zip(NAMES, map(list, zip(*rows, strict=True)), strict=True))
    return make_batch(Kind.TRADE, columns | {"ts_event": NOW + np.arange(len(rows))})


def rows_of(batch: Batch) -> list[Row]:
    return list(zip(*(batch[name].tolist() for name in NAMES), strict=True))


@st.composite
def row(draw: st.DrawFn) -> Row:
    action = draw(st.sampled_from([TRADE, TRADE, TRADE, CANCEL, CORRECT]))
    sequence, refers_to = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    instrument, price = draw(st.integers(1, 2)), draw(st.integers(1, 9))
    return (instrument, sequence, price, price, price % 3, action, refers_to if action else ABSENT)


def standing(rows: list[Row], known: list[Row], limit: int) -> list[Row]:
    """Return rows as the newest `limit` changes leave them."""
    changes: dict[tuple[int, int], Row] = {}
    for change in known:
        if change[5]:
            changes.pop((change[0], change[6]), None)
            changes[change[0], change[6]] = change
            changes = dict(list(changes.items())[-limit:])
    result: list[Row] = []
    for one in rows:
        change = changes.get((one[0], one[1])) if one[5] == TRADE else None
        if change is None:
            result.append(one)
        elif change[5] == CORRECT:
            result.append((*one[:2], *change[2:5], *one[5:]))
    return result


@given(
    groups=st.lists(st.lists(row(), min_size=1, max_size=6), min_size=1, max_size=6),
    limit=st.integers(1, 5),
)
def test_rows_stand_as_the_newest_changes_leave_them(groups: list[list[Row]], limit: int) -> None:
    corrections, again, older = Corrections(limit), Corrections(limit), Corrections(limit)
    everything = [one for group in groups for one in group]
    for place, group in enumerate(groups):
        # What is added at once counts at once.
        for one in group:
            corrections.add(batch_of([one]), place + 1)
        seen = [one for group in groups[: place + 1] for one in group]
        assert rows_of(corrections.apply(batch_of(everything))) == standing(everything, seen, limit)
        assert corrections.complete_after == dropped_at(groups[: place + 1], limit)
    again.restore(corrections.kept(), len(groups), corrections.complete_after)
    assert rows_of(again.apply(batch_of(everything))) == standing(everything, everything, limit)
    assert again.complete_after == corrections.complete_after
    older.restore(corrections.kept(), len(groups), None)  # it was not noted: as many as may be may not be all
    is_full = sum(batch.rows for batch in corrections.kept()) == limit
    assert older.complete_after == (len(groups) if is_full else 0)


def dropped_at(groups: list[list[Row]], limit: int) -> int:
    """Return the place of the newest change that is no longer among the newest `limit`; 0 if none was dropped."""
    places: dict[tuple[int, int], int] = {}
    dropped = 0
    for place, group in enumerate(groups, 1):
        for one in group:
            if one[5]:
                places.pop((one[0], one[6]), None)
                places[one[0], one[6]] = place
            if len(places) > limit:
                dropped = places.pop(next(iter(places)))
    return dropped


@given(
    groups=st.lists(st.lists(row(), min_size=1, max_size=6), min_size=1, max_size=6),
    limit=st.integers(1, 3),
    read=st.integers(0, 6),
    archived=st.integers(0, 6),
)
def test_all_changes_count_where_they_were_read(groups: list[list[Row]], limit: int, read: int, archived: int) -> None:
    everything = [one for group in groups for one in group]
    newest = Corrections(limit)
    for place, group in enumerate(groups, 1):
        for one in group:
            newest.add(batch_of([one]), place)
    found = [one for group in groups[:read] for one in group if one[5]]
    changes = Changes(batch_of(found) if found else Batch(Kind.TRADE, 0, {}))
    assert len(changes) == len({(one[0], one[6]) for one in found})
    every = AllCorrections(changes, newest, min(archived, read), (2, read))
    assert every.is_whole(2) == (newest.complete_after <= read)
    assert not every.is_whole(1)
    if every.is_whole(2):
        assert rows_of(every.apply(batch_of(everything))) == standing(everything, everything, 1000)
    assert AllCorrections(changes, newest, 0, (0, read)).version != every.version


def test_all_changes_of_many_instruments_and_great_numbers() -> None:
    draw = np.random.default_rng(3).integers
    numbers = [0, 1, (1 << 63) - 2, 1 << 63, (1 << 64) - 1]
    ids = [1, 2, (1 << 32) - 1]
    trades = [(one, number, 5, 5, 0, TRADE, ABSENT) for one in ids for number in numbers]
    chosen = [(ids[draw(3)], numbers[draw(5)]) for _ in range(9)]
    found = [(one, 77, int(draw(1, 9)), 1, 1, int(draw(1, 3)), number) for one, number in chosen]
    every = AllCorrections(Changes(batch_of(found)), Corrections(), 0, (0, 0))
    assert rows_of(every.apply(batch_of(trades))) == standing(trades, found, 1000)


def test_what_is_known_of_a_tape_that_has_lost_its_end() -> None:
    corrections = Corrections(limit=2)
    for place in range(1, 6):
        corrections.add(batch_of([(1, place, 1, 1, 0, CANCEL, place)]), place)
    assert corrections.complete_after == 3
    corrections.go_back(1)
    assert corrections.complete_after == 1
    corrections.add(batch_of([(1, 9, 1, 1, 0, CANCEL, 9)]), 2)
    assert corrections.complete_after == 1


def test_rows_that_nothing_changed_are_the_same_object() -> None:
    corrections = Corrections()
    batch = batch_of([(1, 1, 5, 5, 0, TRADE, ABSENT)])
    assert corrections.apply(batch) is batch
    assert (corrections.version, corrections.kept()) == (0, [])
    corrections.add(batch_of([(2, 9, 5, 5, 0, CANCEL, 1)]), 1)
    assert corrections.apply(batch) is batch
    quotes = make_batch(Kind.QUOTE, {"instrument_id": [2], "ts_event": [NOW], "sequence": [1]})
    assert corrections.apply(quotes) is quotes
    assert corrections.apply_to([batch, batch_of([(2, 1, 5, 5, 0, TRADE, ABSENT)])]) == [batch]


def test_rows_with_few_columns_take_a_correction() -> None:
    corrections = Corrections()
    corrections.add(batch_of([(1, 9, 7, 8, 2, CORRECT, 1)]), 1)
    bare = make_batch(Kind.TRADE, {"instrument_id": [1], "ts_event": [NOW], "sequence": [1], "price": [5]})
    changed = corrections.apply(bare)
    assert [changed[name][0] for name in ("price", "size", "side")] == [7, 8, 2]


def test_what_was_forgotten_is_looked_up_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLOTS_LOG2", 8)
    corrections = Corrections(limit=4)
    for sequence in range(100):
        corrections.add(batch_of([(1, 1000 + sequence, 1, 1, 0, CANCEL, sequence)]), sequence + 1)
    assert len(corrections._slots) <= 9
    batch = batch_of([(1, sequence, 5, 5, 0, TRADE, ABSENT) for sequence in range(100)])
    assert corrections.apply(batch)["sequence"].tolist() == list(range(96))


@pytest.mark.parametrize(
    ("action", "refers_to", "column"),
    [
        (3, 1, "action"),
        (CANCEL, ABSENT, "refers_to"),
        (CORRECT, ABSENT, "refers_to"),
        (TRADE, 1, "refers_to"),
    ],
)
def test_action_and_reference_go_together(directory: Directory, action: int, refers_to: int, column: str) -> None:
    good = (1, 1, 5, 5, 0, CANCEL, 1)
    with pytest.raises(MarketDataError) as caught:
        check(batch_of([good, (1, 2, 5, 5, 0, action, refers_to)]), directory, NOW + 1)
    error = caught.value
    assert (error.reason_name, error.field) == ("BAD_CORRECTION", f"batch.trades.{column}")
    assert error.metadata["row"] == "1"


def test_a_reference_alone_is_refused(directory: Directory) -> None:
    columns = {"instrument_id": [1], "ts_event": [NOW], "price": [5], "refers_to": [1]}
    with pytest.raises(MarketDataError, match="refers_to"):
        check(make_batch(Kind.TRADE, columns), directory, NOW)


def test_only_a_cancel_goes_without_a_price(directory: Directory) -> None:
    check(batch_of([(1, 1, ABSENT, ABSENT, 0, CANCEL, 1)]), directory, NOW + 1)
    with pytest.raises(MarketDataError) as caught:
        check(batch_of([(1, 1, ABSENT, 5, 0, CORRECT, 1)]), directory, NOW + 1)
    assert caught.value.reason_name == "NOT_A_PRICE"


def test_a_correction_is_compared_with_nothing(directory: Directory) -> None:
    history = History()
    rows = [(1, 1, 5, 5, 0, TRADE, ABSENT), (1, 2, 5, 5, 0, CORRECT, 1), (1, 3, 5, 5, 0, TRADE, ABSENT)]
    batch = batch_of(rows)
    late = make_batch(Kind.TRADE, dict(batch.columns) | {"ts_event": [NOW + 5, NOW, NOW + 4]})
    judged = flag(check(late, directory, NOW + 9), history, directory)
    assert judged.batch["verdicts"].astype(bool).tolist() == [False, False, True]


def test_a_correction_is_no_latest_trade() -> None:
    rows = [(1, 1, 5, 5, 0, TRADE, ABSENT), (2, 2, 5, 5, 0, TRADE, ABSENT), (1, 3, 6, 5, 0, CORRECT, 1)]
    assert latest_rows(batch_of(rows)).tolist() == [0, 1]
    assert latest_rows(batch_of(rows[:2])).tolist() == [0, 1]


def test_people_read_and_write_corrections(directory: Directory) -> None:
    trades = [
        Trade(symbol="ALFA", price="2.5", action="TRADE_ACTION_CORRECT", refers_to=7, sequence=8),
        Trade(symbol="ALFA", action="TRADE_ACTION_CANCEL", refers_to=7, sequence=9),
        Trade(symbol="ALFA", price="1", sequence=10),
    ]
    for trade in trades:
        trade.event_time.FromNanoseconds(NOW)
    assert trades_of_batch(batch_of_trades("SIM", trades, directory), directory) == trades


def test_a_trade_without_a_price_is_refused(directory: Directory) -> None:
    trade = Trade(symbol="ALFA")
    trade.event_time.FromNanoseconds(NOW)
    with pytest.raises(MarketDataError) as caught:
        batch_of_trades("SIM", [trade], directory)
    assert caught.value.field == "trades[0].price"


def test_an_action_that_is_none_is_told_as_a_trade(directory: Directory) -> None:
    # It cannot come in; a tape of a later version may have it.
    assert trades_of_batch(batch_of([(1, 1, 5, 5, 9, 9, 1)]), directory)[0].action == TRADE


def test_columns_that_one_batch_lacks_are_filled_in() -> None:
    bare = make_batch(Kind.TRADE, {"instrument_id": [1], "ts_event": [NOW], "sequence": [1], "price": [5]})
    both = concatenate([bare, batch_of([(1, 2, 5, 5, 0, CANCEL, 1)])])
    assert both["action"].tolist() == [0, 1]
    assert both["refers_to"].tolist() == [ABSENT, 1]
