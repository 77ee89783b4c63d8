"""The conformance scenario: the same for a seed, nothing to refuse, and each step makes its fault."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.codec import to_bytes
from marketdata.columns import ABSENT, COLUMNS, MAX_ROWS, NANOS, Batch, Kind, concatenate
from marketdata.digest import digest_of
from mda.feeds.conformance import STEPS, Crash, Event, NewInstrument, Pause, TwoConnections, scenario
from mda.feeds.conformance_rows import KINDS, NEW, PROFILES, Source
from mda.feeds.conformance_run import Plan, Tally
from mda.market.bits import CROSSED, DUPLICATE_SEQUENCE, LOCKED, MISSING_SIDE, OUT_OF_ORDER
from mda.market.history import History
from mda.market.instruments import Directory
from mda.market.policy import DEFAULT_RULES, Rules
from mda.market.verdicts import check, flag
from mda.runtime.validation import validate_request

START = 1_800_000_000 * NANOS
NOW = START + 60 * NANOS
EVERY_VERDICT = Rules(
    flagged=CROSSED | LOCKED | MISSING_SIDE | OUT_OF_ORDER | DUPLICATE_SEQUENCE,
    set_aside=0,
    refused=DEFAULT_RULES.refused,
    stale_ns=None,
    future_ns=None,
    outlier_share=None,
)


def events(seed: int = 1, rows: int = 5_000) -> Iterator[tuple[str, Event]]:
    for step, made in scenario(seed, rows, START):
        yield from ((step.name, event) for event in made)


def step(name: str, rows: int = 20_000) -> list[Event]:
    return [event for found, event in events(rows=rows) if found == name]


def batch_of(event: Event) -> list[Batch]:
    if isinstance(event, TwoConnections):
        return [event.batch]
    return [event] if isinstance(event, Batch) else []


def batches(made: list[Event]) -> list[Batch]:
    return [batch for event in made for batch in batch_of(event)]


def rows_of(name: str, kind: Kind = Kind.QUOTE) -> Batch:
    return concatenate([batch for batch in batches(step(name)) if batch.kind is kind])


def directory(places: int = len(PROFILES)) -> Directory:
    made = Directory()
    made.apply(made.plan([profile.instrument() for profile in PROFILES[:places]])[1], 1)
    return made


def verdicts(made: list[Batch]) -> list[np.ndarray]:
    """Return the verdicts of rows, by a policy that flags each."""
    history, known = History(), directory()
    judged = [flag(check(batch, known, NOW, EVERY_VERDICT), history, known, EVERY_VERDICT) for batch in made]
    return [part.batch["verdicts"] for part in judged]


def as_bytes(seed: int) -> list[bytes | str]:
    return [to_bytes(event) if isinstance(event, Batch) else repr(event) for _, event in events(seed, 1_000)]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1 << 64), st.integers(0, 1 << 64))
def test_the_same_seed_makes_the_same_events(seed: int, other: int) -> None:
    first = as_bytes(seed)
    assert as_bytes(seed) == first
    assert (as_bytes(other) == first) == (other == seed)


@pytest.mark.parametrize(("rows", "most"), [(1_000, 1.3), (20_000, 1.05), (300_000, 1.01)])
def test_there_are_about_so_many_rows(rows: int, most: float) -> None:
    made = batches([event for _, event in events(rows=rows)])
    assert 0.95 < sum(batch.rows for batch in made) / rows < most
    assert max(batch.rows for batch in made) <= MAX_ROWS


def test_instruments_are_good() -> None:
    plan = Plan("X", "p" * 64, 1, 1_000, START)
    for place, profile in enumerate(PROFILES, 1):
        validate_request(profile.instrument(plan.symbol(place)))
    assert plan.symbol(1) == PROFILES[0].symbol
    assert plan.symbol(NEW).startswith("NEW.ppp")


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1 << 32))
def test_nothing_is_refused(seed: int) -> None:
    known, history = directory(places=3), History()
    for _, event in events(seed):
        if isinstance(event, NewInstrument):
            known = directory()
        for batch in batch_of(event):
            assert flag(check(batch, known, NOW), history, known).aside is None


def test_a_row_has_a_name_and_receipts_never_go_back() -> None:
    names: set[tuple[int, int, int]] = set()
    received = 0
    for found, event in events():
        for batch in batch_of(event):
            receipts = batch["ts_recv"][batch["ts_recv"] != ABSENT]
            assert (np.diff(receipts, prepend=received) >= 0).all()
            received = int(receipts[-1]) if len(receipts) else received
            columns = (batch["sequence"].tolist(), batch["ts_recv"].tolist())
            keys = {(int(batch.kind), *key) for key in zip(*columns, strict=True)}
            if found == "rows-twice":
                continue
            assert len(keys) == batch.rows
            assert not keys & names
            names |= keys


def test_ordinary_rows_have_no_verdict_and_a_pause_between_them() -> None:
    made = step("ordinary")
    assert not any(bits.any() for bits in verdicts(batches(made)))
    assert {batch.kind for batch in batches(made)} == set(KINDS)
    assert (rows_of("ordinary")["bid_price"] < 0).any()
    assert any(isinstance(event, Pause) for event in made)


def test_instruments_and_kinds_are_interleaved() -> None:
    made = batches(step("interleaved"))
    assert made[0]["instrument_id"].tolist() == [1, 2, 3, 1, 2]
    assert [batch.kind for batch in made[:4]] == [Kind.QUOTE, Kind.TRADE] * 2


def test_times_are_equal() -> None:
    for kind in KINDS:
        rows = rows_of("equal-times", kind)
        assert rows.rows > 100
        assert (np.ptp(rows["ts_event"]), np.ptp(rows["ts_recv"])) == (0, 0)


def test_a_hole_is_filled_late() -> None:
    sequences = np.concatenate([batch["sequence"] for batch in batches(step("hole-filled"))]).astype(np.int64)
    jumps = np.diff(sequences)
    assert (jumps.max() > 50, jumps.min() < -50) == (True, True)
    assert np.sort(sequences).tolist() == list(range(sequences.min(), sequences.max() + 1))
    flagged = [bool(bits.any()) for bits in verdicts(batches(step("hole-filled")))]
    assert flagged == [False, False, True, False, True]


def test_a_hole_stays_open() -> None:
    sequences = np.concatenate([batch["sequence"] for batch in batches(step("hole-open"))]).astype(np.int64)
    assert np.unique(np.diff(sequences)).size == 2


def test_no_other_step_leaves_a_hole() -> None:
    sequences: dict[str, list[int]] = {}
    for name, event in events():
        for batch in batch_of(event):
            sequences.setdefault(name, []).extend(batch["sequence"][batch["sequence"] != ABSENT].tolist())
    last = sequences["extremes"].pop()
    assert last == (1 << 64) - 1
    everything = sorted({number for numbers in sequences.values() for number in numbers})
    holes = [ends for ends in pairwise(everything) if ends[1] != ends[0] + 1]
    assert len(holes) == 1
    assert set(holes[0]) <= set(sequences["hole-open"])


def test_late_rows_are_out_of_order() -> None:
    for bits in verdicts(batches(step("late")))[1:]:
        assert (bits & OUT_OF_ORDER).astype(bool).mean() > 0.9


@pytest.mark.parametrize(
    ("name", "bit"), [("crossed", CROSSED), ("locked", LOCKED), ("missing-side", MISSING_SIDE)], ids=str
)
def test_quotes_are_odd(name: str, bit: int) -> None:
    for bits in verdicts(batches(step(name))):
        assert (bits == bit).all()


def test_each_side_is_missing() -> None:
    rows = rows_of("missing-side")
    there = np.stack([rows[name] != ABSENT for name in ("bid_price", "bid_size", "ask_price", "ask_size")])
    assert set(map(tuple, there.T.tolist())) == {(False, False, True, True), (True, True, False, False), (False,) * 4}


def test_numbers_come_twice() -> None:
    for batch, bits in zip(batches(step("numbers-twice")), verdicts(batches(step("numbers-twice"))), strict=True):
        assert (bits[1::2] == DUPLICATE_SEQUENCE).all()
        assert (batch["ts_recv"][1::2] > batch["ts_recv"][::2]).all()


def test_rows_come_twice_in_a_batch_and_in_two() -> None:
    made = batches(step("rows-twice"))
    for whole, one, again in (made[:3], made[3:]):
        assert digest_of(whole.take(np.arange(0, whole.rows, 2))) == digest_of(whole.take(np.arange(1, whole.rows, 2)))
        assert (one.rows, to_bytes(one)) == (1, to_bytes(again))


def test_columns_are_absent_down_to_the_required_ones() -> None:
    made = batches(step("columns-absent"))
    for batch in made:
        assert {column.name for column in COLUMNS[batch.kind] if column.required} <= set(batch.columns)
        assert len(batch.columns) < len(COLUMNS[batch.kind])
    assert [sorted(batch.columns) for batch in made[-2:]] == [
        ["instrument_id", "ts_event"],
        ["instrument_id", "price", "ts_event"],
    ]


def test_every_column_is_there() -> None:
    for batch in batches(step("columns-all")):
        assert set(batch.columns) == {column.name for column in COLUMNS[batch.kind]}


def test_a_burst_is_of_the_largest_batches_and_a_storm_of_the_smallest() -> None:
    assert [batch.rows for batch in batches(step("burst", 150_000))] == [MAX_ROWS] * 3 + [99_000 - 3 * MAX_ROWS]
    storm = batches(step("storm"))
    assert {batch.rows for batch in storm} == {1}
    assert len(storm) == 400


def test_an_instrument_comes_in_mid_stream() -> None:
    made = step("new-instrument")
    place = made.index(NewInstrument(NEW))
    assert not any((batch["instrument_id"] == NEW).any() for batch in batches(made[:place]))
    assert batches(made[place:])[0]["instrument_id"].tolist() == [NEW]
    seen = [bool((batch["instrument_id"] == NEW).any()) for name, event in events() for batch in batch_of(event)]
    before = [name for name, event in events() for _ in batch_of(event)]
    assert not any(new for new, name in zip(seen, before, strict=True) if name != "new-instrument")


def test_a_pause_is_longer_than_a_heartbeat() -> None:
    (pause,) = [event for event in step("pause") if isinstance(event, Pause)]
    assert pause.seconds > 5


def test_the_producer_dies_at_each_stage() -> None:
    def crashes(name: str) -> list[float | None]:
        return [event.after_s for event in step(name) if isinstance(event, Crash)]

    assert crashes("crash-between") == [None] * 4
    assert crashes("crash-sending") == [0.0] * 2
    assert len(crashes("crash-unacknowledged")) == 4
    assert all(0 < seconds < 0.01 for seconds in crashes("crash-unacknowledged") if seconds is not None)


def test_two_connections_have_batches_before_and_after() -> None:
    made = step("two-connections")
    (place,) = [at for at, event in enumerate(made) if isinstance(event, TwoConnections)]
    assert 0 < place < len(made) - 1


def test_values_are_extreme() -> None:
    quotes, trades = rows_of("extremes"), rows_of("extremes", Kind.TRADE)
    assert (quotes["ask_price"].max(), quotes["bid_price"].min()) == (ABSENT - 1, -ABSENT)
    assert (quotes["bid_size"].max(), quotes["bid_size"].min()) == (ABSENT - 1, 0)
    assert (trades["price"].max(), trades["price"].min(), trades["ts_event"].min()) == (ABSENT - 1, -ABSENT, 0)
    assert set(trades["side"][:4].tolist()) == {0, 1, 2}


def test_step_names_are_their_own() -> None:
    assert len({made.name for made in STEPS}) == len(STEPS)


def test_a_tally_is_the_digest_of_all() -> None:
    source, tally = Source(3, START), Tally()
    made = [source.batch(kind, size) for kind in KINDS for size in (1, 40_000, 30_000)]
    made += [source.batch(Kind.TRADE, 1) for _ in range(1_100)]
    for batch in made:
        tally.add(batch)
    tally.settle()
    for kind in KINDS:
        assert tally.kinds[kind] == digest_of(concatenate([batch for batch in made if batch.kind is kind]))
    assert tally.total.rows == sum(batch.rows for batch in made)
    assert sum(digest.rows for digest in tally.instruments.values()) == tally.total.rows
