"""All verdicts and what is done about them, against an oracle that goes row by row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.columns import ABSENT, NANOS, Batch, Kind, make_batch
from marketdata.v1.instrument_pb2 import Instrument
from marketdata.v1.policy_pb2 import Policy
from mda.market import bits as b
from mda.market.errors import MarketDataError
from mda.market.history import History
from mda.market.instruments import Directory
from mda.market.policy import DEFAULT_RULES, Rules, effective, make_rules
from mda.market.verdicts import COMPARED, Judged, check, flag

NOW = 1_800_000_000 * NANOS
LEAST = -(1 << 63)
PRICE_COLUMNS = {
    Kind.QUOTE: ("bid_price", "ask_price"),
    Kind.TRADE: ("price",),
    Kind.BAR: ("open", "high", "low", "close"),
}
NAMES = [
    "crossed",
    "locked",
    "out_of_order",
    "stale",
    "future",
    "outlier",
    "duplicate_sequence",
    "missing_side",
    "unknown_instrument",
    "not_a_price",
]
UNUSABLE = {"unknown_instrument", "not_a_price"}
EVERYTHING = Policy(
    **{name: Policy.ACTION_QUARANTINE if name in UNUSABLE else Policy.ACTION_FLAG for name in NAMES},  # type: ignore[arg-type]
    stale_after=Duration(seconds=60),
    future_after=Duration(seconds=1),
    outlier_basis_points=1_000,
)


def everything(**changes: Any) -> Rules:
    policy = Policy()
    policy.CopyFrom(EVERYTHING)
    for name, value in changes.items():
        setattr(policy, name, value)
    return make_rules(policy)


@dataclass
class Seen:
    """What the oracle has seen of one instrument and kind."""

    time: int = 0
    price: float | None = None
    sequence: int = ABSENT


@dataclass
class Oracle:
    """Judges row by row."""

    rules: Rules
    directory: Directory
    seen: dict[tuple[Kind, int], Seen] = field(default_factory=dict)

    def judge(self, batch: Batch) -> list[int]:
        rows = [{name: int(batch[name][row]) for name in batch} for row in range(batch.rows)]
        return [self.one(batch.kind, row) for row in rows]

    def one(self, kind: Kind, row: dict[str, int]) -> int:
        found = self.alone(kind, row) & self.rules.sought
        if not found & self.rules.set_aside:
            found |= self.compared(kind, row) & self.rules.sought
        return found

    def alone(self, kind: Kind, row: dict[str, int]) -> int:
        known = 1 <= row["instrument_id"] <= len(self.directory)
        negative = known and self.directory.page(row["instrument_id"] - 1, 1)[0].negative_prices
        prices = [row[name] for name in PRICE_COLUMNS[kind]]
        found = 0 if known else b.UNKNOWN_INSTRUMENT
        if any(price == LEAST or (price <= 0 and not negative) for price in prices):
            found |= b.NOT_A_PRICE
        if self.rules.stale_ns is not None and moment(kind, row) < NOW - self.rules.stale_ns:
            found |= b.STALE
        if self.rules.future_ns is not None and moment(kind, row) > NOW + self.rules.future_ns:
            found |= b.FUTURE
        if kind is not Kind.QUOTE:
            return found | (b.NOT_A_PRICE if ABSENT in prices else 0)
        bid, ask = prices
        if ABSENT in prices:
            return found | b.MISSING_SIDE
        return found | (b.CROSSED if bid > ask else b.LOCKED if bid == ask else 0)

    def compared(self, kind: Kind, row: dict[str, int]) -> int:
        seen = self.seen.setdefault((kind, row["instrument_id"]), Seen())
        found = 0
        late = moment(kind, row) < seen.time
        if late:
            found |= b.OUT_OF_ORDER
        seen.time = max(seen.time, moment(kind, row))
        if row["sequence"] != ABSENT and row["sequence"] == seen.sequence:
            found |= b.DUPLICATE_SEQUENCE
        seen.sequence = row["sequence"]
        price = self.price(kind, row)
        if price is None or late or self.rules.outlier_share is None:
            return found
        if seen.price is not None and abs(price - seen.price) > seen.price * self.rules.outlier_share:
            found |= b.OUTLIER
        seen.price = price
        return found

    def price(self, kind: Kind, row: dict[str, int]) -> float | None:
        if self.directory.page(row["instrument_id"] - 1, 1)[0].negative_prices:
            return None
        if kind is not Kind.QUOTE:
            return float(row[PRICE_COLUMNS[kind][-1]])
        sides = row["bid_price"], row["ask_price"]
        return None if ABSENT in sides else (float(sides[0]) + float(sides[1])) / 2


def moment(kind: Kind, row: dict[str, int]) -> int:
    """Return when a row was known: a bar when it ends."""
    return row["ts_event"] + (row["interval_ns"] if kind is Kind.BAR else 0)


TIMES = st.one_of(
    st.integers(NOW - 5, NOW + 5),
    st.sampled_from([NOW - 60 * NANOS, NOW - 60 * NANOS - 1, NOW + NANOS, NOW + NANOS + 1, 0, 7, NOW + 3600 * NANOS]),
)
PRICES = st.sampled_from([100, 100, 105, 110, 111, 90, 89, 1, 500, -5, 0, LEAST, ABSENT, ABSENT - 1])
SEQUENCES = st.sampled_from([1, 2, 3, ABSENT, (1 << 64) - 1])
ACTIONS = [Policy.ACTION_FLAG, Policy.ACTION_IGNORE, Policy.ACTION_QUARANTINE]


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    kind = draw(st.sampled_from(list(Kind)))
    count = draw(st.integers(1, 12))

    def column(values: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(values, min_size=count, max_size=count))

    times = column(TIMES)
    columns = {
        "instrument_id": column(st.sampled_from([1, 1, 2, 3, 3, 4, 0])),
        "ts_event": sorted(times) if draw(st.booleans()) else times,
    }
    if draw(st.booleans()):
        columns["sequence"] = column(SEQUENCES)
    for name in PRICE_COLUMNS[kind]:
        if kind is not Kind.QUOTE or draw(st.booleans()):
            columns[name] = column(PRICES)
    if kind is Kind.BAR:  # others are refused
        bars = np.sort(np.array([columns[name] for name in PRICE_COLUMNS[kind]], dtype=np.int64), axis=0)
        columns |= {name: bars[place].tolist() for place, name in enumerate(("low", "open", "close", "high"))}
        columns["interval_ns"] = column(st.sampled_from([1, 60 * NANOS]))
    return make_batch(kind, columns)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    policy = Policy()
    for name in NAMES:
        setattr(policy, name, Policy.ACTION_QUARANTINE if name in UNUSABLE else draw(st.sampled_from(ACTIONS)))
    if draw(st.booleans()):
        policy.stale_after.FromSeconds(60)
    if draw(st.booleans()):
        policy.future_after.FromSeconds(1)
    policy.outlier_basis_points = draw(st.sampled_from([0, 1, 1_000, 20_000]))
    return policy


@settings(max_examples=300)
@given(policy=policies(), several=st.lists(batches(), min_size=1, max_size=5))
def test_columns_find_what_the_oracle_finds(directory: Directory, policy: Policy, several: list[Batch]) -> None:
    rules, history = make_rules(policy), History()
    oracle = Oracle(rules, directory)
    for batch in several:
        judged = flag(check(batch, directory, NOW, rules), history, directory, rules)
        expected = oracle.judge(batch)
        assert judged.batch["verdicts"].tolist() == expected
        assert ("verdicts" in judged.batch.columns) == any(expected)
        aside = [bits & rules.set_aside != 0 for bits in expected]
        assert (judged.aside is not None and judged.aside.tolist()) == (any(aside) and aside)
        flagged = [bits != 0 and not out for bits, out in zip(expected, aside, strict=True)]
        assert (judged.flagged is not None and judged.flagged.tolist()) == (any(flagged) and flagged)
        for name in set(batch) - {"verdicts"}:
            assert judged.batch[name].tolist() == batch[name].tolist()


@pytest.mark.parametrize("disorder", [0, 50, 10**15])
@pytest.mark.parametrize("known", [500, 70_000])
def test_many_interleaved_instruments_are_judged_as_by_the_oracle(disorder: int, known: int) -> None:
    directory = Directory()
    directory.apply(
        (Instrument(symbol=f"S{i}", instrument_id=i, negative_prices=i % 7 == 0) for i in range(1, known)), 1
    )
    rules, chance, history = everything(), np.random.default_rng(disorder), History()
    oracle = Oracle(rules, directory)
    for number in range(4):
        ids = chance.integers(1, known, 400) if known < 1000 else chance.choice([1, 65_537, 65_538, 69_999], 400)
        columns = {
            "instrument_id": ids,
            "ts_event": NOW - 10**9 + number * 400 + np.arange(400) - chance.integers(0, disorder + 1, 400),
            "sequence": chance.integers(1, 4, 400),
            "bid_price": chance.integers(90, 120, 400),
            "ask_price": np.where(chance.random(400) < 0.1, ABSENT, chance.integers(90, 120, 400)),
        }
        batch = make_batch(Kind.QUOTE, columns)
        judged = flag(check(batch, directory, NOW, rules), history, directory, rules)
        assert judged.batch["verdicts"].tolist() == oracle.judge(batch)


def test_times_at_both_ends_are_compared(directory: Directory) -> None:
    far = make_batch(Kind.TRADE, {"instrument_id": [1, 2, 1, 2], "ts_event": [NOW, 0, 0, NOW], "price": [1] * 4})
    history = History()
    late_now = (1 << 63) - 1 - 3600 * NANOS  # the last moment at which there is an hour ahead
    batch = make_batch(
        Kind.TRADE, {"instrument_id": [1, 2, 1, 2, 3], "ts_event": [late_now, 5, 0, late_now, 3], "price": [1] * 5}
    )
    assert flag(check(far, directory, NOW), history, directory).batch["verdicts"].tolist() == [0, 0, 8, 0]
    found = flag(check(batch, directory, late_now), history, directory).batch["verdicts"].tolist()
    assert found == [0, 8, 8, 0, 0]


CASES: dict[str, tuple[dict[str, list[int]], list[int]]] = {
    "locked": ({"bid_price": [5, 5, ABSENT], "ask_price": [5, 6, ABSENT]}, [b.LOCKED, 0, b.MISSING_SIDE]),
    "crossed": ({"bid_price": [7], "ask_price": [6]}, [b.CROSSED]),
    "one side": ({"bid_price": [5, ABSENT], "ask_price": [ABSENT, 5]}, [b.MISSING_SIDE, b.MISSING_SIDE]),
    "no sides": ({}, [b.MISSING_SIDE]),
    "stale": ({"ts_event": [NOW - 60 * NANOS - 1, NOW - 60 * NANOS]}, [b.STALE, 0]),
    "future": ({"ts_event": [NOW + NANOS, NOW + NANOS + 1]}, [0, b.FUTURE]),
    "late": ({"ts_event": [NOW, NOW - 1, NOW]}, [0, b.OUT_OF_ORDER, 0]),
    "an odd price comes and goes": (
        {"bid_price": [99, 111, 99], "ask_price": [101, 113, 101]},
        [0, b.OUTLIER, b.OUTLIER],
    ),
    "a price changes for good": ({"bid_price": [99, 199, 199], "ask_price": [101, 201, 201]}, [0, b.OUTLIER, 0]),
    "a price goes exactly as far as it may": ({"bid_price": [100, 110], "ask_price": [100, 110]}, [b.LOCKED] * 2),
    "one side is passed over": (
        {"bid_price": [99, ABSENT, 99], "ask_price": [101, 500, 101]},
        [0, b.MISSING_SIDE, 0],
    ),
    "a late price is passed over": (
        {"ts_event": [NOW, NOW - 1, NOW], "bid_price": [99, 199, 99], "ask_price": [101, 201, 101]},
        [0, b.OUT_OF_ORDER, 0],
    ),
    "the same sequence": ({"sequence": [1, 1, 2, 1]}, [0, b.DUPLICATE_SEQUENCE, 0, 0]),
    "a sequence that is not there": ({"sequence": [ABSENT, ABSENT, 2, ABSENT, 2]}, [0] * 5),
    "kept from the comparison": (
        {"ts_event": [NOW, NOW + 1, NOW], "bid_price": [99, 0, 99], "ask_price": [101, 0, 101]},
        [0, b.NOT_A_PRICE | b.LOCKED, 0],
    ),
}


def quotes(columns: dict[str, list[int]]) -> Batch:
    rows = max(map(len, columns.values()), default=1)
    sides = {} if not columns else {"bid_price": [99] * rows, "ask_price": [101] * rows}
    return make_batch(Kind.QUOTE, {"instrument_id": [1] * rows, "ts_event": [NOW] * rows, **sides, **columns})


@pytest.mark.parametrize("name", CASES)
def test_a_verdict_is_found_exactly_there(directory: Directory, name: str) -> None:
    columns, expected = CASES[name]
    rules = everything()
    batch = quotes(columns)
    assert flag(check(batch, directory, NOW, rules), History(), directory, rules).batch["verdicts"].tolist() == expected


def judge(directory: Directory, history: History, rules: Rules, **columns: list[int]) -> Judged:
    return flag(check(quotes(columns), directory, NOW, rules), history, directory, rules)


def test_kinds_and_instruments_have_histories_of_their_own(directory: Directory) -> None:
    history, rules = History(), everything()
    judge(directory, history, rules, sequence=[1])
    trade = make_batch(Kind.TRADE, {"instrument_id": [1], "ts_event": [NOW - 1], "sequence": [1], "price": [500]})
    assert flag(check(trade, directory, NOW, rules), history, directory, rules).flagged is None
    assert (
        judge(directory, history, rules, instrument_id=[2], sequence=[1], bid_price=[9], ask_price=[10]).flagged is None
    )
    assert judge(directory, history, rules, sequence=[1]).batch["verdicts"].tolist() == [b.DUPLICATE_SEQUENCE]


def test_a_history_outlives_new_instruments(directory: Directory) -> None:
    small, history, rules = Directory(), History(), everything()
    small.apply(directory.page(0, 1), 1)
    judge(small, history, rules)
    later = judge(directory, history, rules, instrument_id=[1, 2], ts_event=[NOW - 5, NOW - 5])
    assert later.batch["verdicts"].tolist() == [b.OUT_OF_ORDER, 0]


def test_prices_and_sequences_can_be_forgotten_and_times_stay(directory: Directory) -> None:
    history, rules = History(), everything()
    judge(directory, history, rules, sequence=[1])
    history.forget_rows()
    found = judge(directory, history, rules, sequence=[1], bid_price=[500], ask_price=[501], ts_event=[NOW - 1])
    assert found.batch["verdicts"].tolist() == [b.OUT_OF_ORDER]


def test_verdicts_of_a_producer_are_ignored(directory: Directory) -> None:
    batch = quotes({"verdicts": [0xFF]})
    assert flag(check(batch, directory, NOW), History(), directory).batch["verdicts"].tolist() == [0]
    assert batch["verdicts"].tolist() == [0xFF]


REFUSED: dict[str, tuple[dict[str, list[int]], str, int]] = {
    "crossed": ({"bid_price": [5, 7, 7], "ask_price": [6, 6, 6]}, "bid_price", 1),
    "locked": ({"bid_price": [5], "ask_price": [5]}, "bid_price", 0),
    "missing_side": ({"bid_price": [5, ABSENT], "ask_price": [6, 6]}, "bid_price", 1),
    "stale": ({"ts_event": [NOW, 0]}, "ts_event", 1),
    "future": ({"ts_event": [NOW, NOW + 2 * NANOS]}, "ts_event", 1),
    "out_of_order": ({"ts_event": [NOW, NOW - 1]}, "ts_event", 1),
    "outlier": ({"bid_price": [5, 50], "ask_price": [6, 60]}, "bid_price", 1),
    "duplicate_sequence": ({"sequence": [4, 5, 5]}, "sequence", 2),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_policy_may_refuse_a_batch_and_then_nothing_of_it_is_remembered(directory: Directory, name: str) -> None:
    columns, column, row = REFUSED[name]
    rules, history = everything(**{name: Policy.ACTION_REJECT}), History()
    with pytest.raises(MarketDataError) as caught:
        judge(directory, history, rules, **columns)
    field_path = f"batch.quotes.{column}"
    batch = quotes(columns)
    assert caught.value.reason_name == "ROW_REFUSED"
    assert caught.value.metadata == {
        "field": field_path,
        "row": str(row),
        "value": str(batch[column][row]),
        "verdict": name.upper(),
    }
    assert f"{field_path}, row {row}: {batch[column][row]} " in caught.value.message
    assert judge(directory, history, rules, ts_event=[NOW - 10]).flagged is None


def test_a_trade_is_named_by_its_price(directory: Directory) -> None:
    rules = everything(outlier=Policy.ACTION_REJECT)
    batch = make_batch(Kind.TRADE, {"instrument_id": [1, 1], "ts_event": [NOW, NOW], "price": [5, 50]})
    with pytest.raises(MarketDataError, match=r"batch\.trades\.price, row 1: 50 is too far"):
        flag(check(batch, directory, NOW, rules), History(), directory, rules)


def test_a_row_of_several_verdicts_meets_the_hardest_action(directory: Directory) -> None:
    rules = everything(locked=Policy.ACTION_QUARANTINE)
    judged = judge(directory, History(), rules, bid_price=[5], ask_price=[5], ts_event=[0])
    assert judged.batch["verdicts"].tolist() == [b.LOCKED | b.STALE]
    assert judged.flagged is None
    assert judged.aside is not None


def test_unusable_rows_may_be_set_aside_but_times_out_of_range_may_not(directory: Directory) -> None:
    rules = everything()
    judged = judge(directory, History(), rules, instrument_id=[0, 99, 1], bid_price=[99, -5, LEAST])
    unknown, price = b.UNKNOWN_INSTRUMENT, b.NOT_A_PRICE
    assert judged.batch["verdicts"].tolist() == [unknown, unknown | price, price]
    with pytest.raises(MarketDataError, match="not a time"):
        judge(directory, History(), rules, ts_event=[-1])


def test_the_default_policy() -> None:
    assert (
        Rules(
            flagged=b.CROSSED | b.OUT_OF_ORDER | b.STALE | b.FUTURE | b.OUTLIER,
            set_aside=0,
            refused=b.UNKNOWN_INSTRUMENT | b.NOT_A_PRICE,
            stale_ns=None,
            future_ns=None,
            outlier_share=None,
        )
        == DEFAULT_RULES
    )
    whole = effective(Policy(crossed=Policy.ACTION_REJECT))
    assert (whole.crossed, whole.locked) == (Policy.ACTION_REJECT, Policy.ACTION_IGNORE)
    assert all(getattr(whole, name) for name in NAMES)
    assert COMPARED == b.OUT_OF_ORDER | b.OUTLIER | b.DUPLICATE_SEQUENCE


def test_a_policy_in_rules() -> None:
    policy = Policy(stale=Policy.ACTION_QUARANTINE, outlier_basis_points=25)
    policy.stale_after.FromNanoseconds(1_500_000_000)
    policy.future_after.FromNanoseconds(0)
    rules = make_rules(policy)
    assert (rules.stale_ns, rules.future_ns, rules.outlier_share) == (1_500_000_000, 0, 0.0025)
    assert rules.set_aside == b.STALE
    assert not rules.flagged & b.STALE
