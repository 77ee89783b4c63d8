"""Digests: the same for the same rows, however they come, and another for any others."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from wire_bytes import batches

from marketdata.codec import decode, to_bytes
from marketdata.columns import ABSENT, COLUMNS, FIELDS, MAX_ROWS, Batch, Kind, concatenate, make_batch
from marketdata.digest import Digest, digest_of
from marketdata.v1 import batch_pb2

MASK = (1 << 64) - 1
SENT = {kind: [column for column in COLUMNS[kind] if column.name != "verdicts"] for kind in Kind}
MANY = np.arange(MAX_ROWS)

QUOTES: dict[str, Any] = {
    "instrument_id": [1, 2, 0xFFFFFFFF],
    "ts_event": [1_767_225_600_000_000_000, 0, -1],
    "ts_recv": [1_767_225_600_000_000_123, ABSENT, -ABSENT],
    "sequence": [1, ABSENT, 0xFFFFFFFFFFFFFFFF],
    "bid_price": [5_495_250_000_000, 0, ABSENT],
    "bid_size": [3_000_000_000, ABSENT, 1],
    "ask_price": [5_495_500_000_000, -1, 2],
    "ask_size": [7_000_000_000, 1, -2],
}
TRADES: dict[str, Any] = {
    "instrument_id": [1, 2],
    "ts_event": [1_767_225_600_000_000_000, 1],
    "price": [5_495_250_000_000, ABSENT],
    "side": [2, 0],
}
VECTORS = [
    (Kind.QUOTE, {"instrument_id": [0], "ts_event": [ABSENT]}, "68c10492b975ef510cbd76dcc54d65f1"),
    (Kind.QUOTE, {"instrument_id": [1], "ts_event": [0]}, "625aef60225f47da6636361a6edfc873"),
    (Kind.QUOTE, QUOTES, "a48ec86a7723063543559c89d9412bf9"),
    (Kind.TRADE, {"instrument_id": [0], "ts_event": [ABSENT], "price": [ABSENT]}, "30569f0b19834be5f0ca4ea689f3e9b1"),
    (Kind.TRADE, {"instrument_id": [1], "ts_event": [0], "price": [0]}, "ce2b22e1bd404d930167ca3b0d93b7bc"),
    (Kind.TRADE, TRADES, "283c1c189397bc33951dc790051c7d74"),
    (
        Kind.TRADE,
        TRADES | {"size": [10, 11], "ts_recv": [5, 6], "sequence": [7, 8]},
        "ab8af653c2c6697fcccfcced662cb826",
    ),
]


def _mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def _word(kind: int, number: int, use: int) -> int:
    return _mix((kind * 1024 + number * 4 + use) * 0x9E3779B97F4A7C15 & MASK)


def _hash_as_documented(kind: Kind, row: dict[str, int]) -> int:
    lanes = [_word(kind, 0, 1), _word(kind, 0, 2)]
    fields = batch_pb2.Batch.DESCRIPTOR.fields_by_name[FIELDS[kind]].message_type.fields
    for field in fields:
        if field.name == "verdicts":
            continue
        absent = 0 if field.type == field.TYPE_FIXED32 else 0x7FFFFFFFFFFFFFFF
        v = row[field.name] & MASK ^ absent
        t = v * (_word(kind, field.number, 0) | 1) & MASK
        t ^= t >> 32
        for lane in (0, 1):
            lanes[lane] += t * (_word(kind, field.number, lane + 1) | 1)
    return _mix(lanes[0] & MASK) << 64 | _mix(lanes[1] & MASK)


def _rows(batch: Batch) -> list[dict[str, int]]:
    columns = {name: batch[name].tolist() for name in batch}
    return [{name: values[at] for name, values in columns.items()} for at in range(batch.rows)]


def _with(batch: Batch, name: str, values: Any) -> Batch:
    return make_batch(batch.kind, {**batch.columns, name: values})


def _flipped(batch: Batch, name: str, row: int, bit: int) -> Batch:
    values = batch[name].copy()
    values.view(f"<u{values.itemsize}")[row] ^= 1 << bit
    return _with(batch, name, values)


@st.composite
def _places(draw: st.DrawFn) -> tuple[Batch, str, int, int]:
    """Draw a batch, and the place of a bit in it."""
    batch = draw(batches())
    column = draw(st.sampled_from(SENT[batch.kind]))
    return batch, column.name, draw(st.integers(0, batch.rows - 1)), draw(st.integers(0, 8 * column.dtype.itemsize - 1))


@pytest.mark.parametrize(("kind", "columns", "digits"), VECTORS)
def test_these_never_change(kind: Kind, columns: dict[str, Any], digits: str) -> None:
    batch = make_batch(kind, columns)
    assert digest_of(batch).hex == digits
    assert digest_of(batch).rows == batch.rows


@given(batches())
def test_it_is_what_the_documentation_says(batch: Batch) -> None:
    expected = sum(_hash_as_documented(batch.kind, row) for row in _rows(batch)) % (1 << 128)
    assert digest_of(batch) == Digest(expected, batch.rows)


def test_large_batches_are_what_the_documentation_says() -> None:
    batch = make_batch(Kind.TRADE, {"instrument_id": MANY, "ts_event": -MANY, "price": MANY * 7, "sequence": MANY})
    expected = sum(_hash_as_documented(batch.kind, row) for row in _rows(batch)) % (1 << 128)
    assert digest_of(batch) == Digest(expected, MAX_ROWS)


@given(batches(), st.randoms())
def test_order_does_not_matter(batch: Batch, random: Any) -> None:
    order = list(range(batch.rows))
    random.shuffle(order)
    assert digest_of(batch.take(np.array(order))) == digest_of(batch)


@given(st.sampled_from(Kind).flatmap(lambda kind: st.lists(batches(kinds=(kind,)), min_size=1, max_size=5)))
def test_merging_is_joining(parts: list[Batch]) -> None:
    """Also where one part leaves out what another has."""
    total = reduce(add, map(digest_of, parts), Digest())
    assert total == digest_of(concatenate(parts))
    assert total == reduce(add, map(digest_of, reversed(parts)))


def test_no_rows_are_nothing() -> None:
    batch = make_batch(Kind.QUOTE, {"instrument_id": [1], "ts_event": [2]})
    nothing = batch.take(np.array([], np.int64))
    assert digest_of(nothing) == Digest()
    assert digest_of(nothing).hex == "0" * 32
    assert digest_of(batch) + Digest() == digest_of(batch)


@given(_places())
def test_any_bit_changes_it(place: tuple[Batch, str, int, int]) -> None:
    assert digest_of(_flipped(*place)).value != digest_of(place[0]).value


def _one_row(kind: Kind, value: int) -> Batch:
    return make_batch(kind, {c.name: [value if c.dtype.itemsize == 8 else value & 1] for c in SENT[kind]})


def _bits(kind: Kind) -> list[tuple[str, int]]:
    return [(column.name, bit) for column in SENT[kind] for bit in range(8 * column.dtype.itemsize)]


@pytest.mark.parametrize("value", [0, 1, ABSENT])
@pytest.mark.parametrize("kind", Kind)
def test_every_bit_and_two_of_them_change_it_in_their_own_way(kind: Kind, value: int) -> None:
    bits = _bits(kind)
    row = _one_row(kind, value)
    ones = [_flipped(row, name, 0, bit) for name, bit in bits]
    neighbours = [_flipped(batch, name, 0, bit) for batch, (name, bit) in zip(ones, bits[1:], strict=False)]
    columns = [_flipped(batch, name, 0, bit) for batch, (name, bit) in zip(ones, bits[64:], strict=False)]
    changed = [row, *ones, *neighbours, *columns]
    assert len({digest_of(batch).value for batch in changed}) == len(changed)


@pytest.mark.parametrize("kind", Kind)
def test_every_bit_changes_half_of_it(kind: Kind) -> None:
    """So that sums of much the same rows are not much the same."""
    for name, bit in _bits(kind):
        changed = 0
        for value in range(8):
            row = _one_row(kind, value)
            changed += (digest_of(row).value ^ digest_of(_flipped(row, name, 0, bit)).value).bit_count()
        assert 40 < changed / 8 < 88


@given(batches(), st.data())
def test_values_that_change_columns_change_it(batch: Batch, data: st.DataObject) -> None:
    names = [column.name for column in SENT[batch.kind] if column.dtype.kind == "i"]
    one, other = data.draw(st.lists(st.sampled_from(names), min_size=2, max_size=2, unique=True))
    row = data.draw(st.integers(0, batch.rows - 1))
    ones, others = batch[one].copy(), batch[other].copy()
    assume(ones[row] != others[row])
    ones[row], others[row] = others[row], ones[row]
    assert digest_of(_with(_with(batch, one, ones), other, others)).value != digest_of(batch).value


@given(batches(), st.data())
def test_values_that_change_rows_change_it(batch: Batch, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(SENT[batch.kind])).name
    one, other = data.draw(st.integers(0, batch.rows - 1)), data.draw(st.integers(0, batch.rows - 1))
    values = batch[name].copy()
    values[[one, other]] = values[[other, one]]
    changed = _with(batch, name, values)
    same = sorted(map(str, _rows(changed))) == sorted(map(str, _rows(batch)))
    assert (digest_of(changed).value == digest_of(batch).value) is same


@given(batches(), st.data())
def test_duplicates_and_losses_count(batch: Batch, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, batch.rows - 1))
    rows = np.arange(batch.rows)
    twice, thrice = batch.take(np.append(rows, row)), batch.take(np.append(rows, [row, row]))
    lost = batch.take(rows != row)
    digests = {digest_of(one).value for one in (batch, twice, thrice, lost)}
    assert len(digests) == 4
    assert digest_of(twice) == digest_of(batch) + digest_of(batch.take(np.array([row])))


def test_regular_rows_do_not_collide() -> None:
    """Neither one by one nor in pairs: rows on a tape are much alike."""
    seen: set[int] = set()
    for number in range(2000):
        batch = make_batch(Kind.QUOTE, {"instrument_id": [number % 10], "ts_event": [number // 10]})
        seen.add(digest_of(batch).value)
    assert len(seen) == 2000
    values = list(seen)[:300]
    pairs = {(one + other) % (1 << 128) for at, one in enumerate(values) for other in values[at:]}
    assert len(pairs) == 300 * 301 // 2


@given(batches(), st.integers(0, 0xFFFFFFFF))
def test_verdicts_do_not_matter(batch: Batch, verdicts: int) -> None:
    assert digest_of(_with(batch, "verdicts", np.full(batch.rows, verdicts))) == digest_of(batch)


@given(batches())
def test_left_out_is_absent(batch: Batch) -> None:
    assert digest_of(make_batch(batch.kind, {name: batch[name] for name in batch})) == digest_of(batch)
    reversed_columns = dict(reversed(batch.columns.items()))
    assert digest_of(Batch(batch.kind, batch.rows, reversed_columns)) == digest_of(batch)


@given(batches())
def test_the_wire_does_not_matter(batch: Batch) -> None:
    data = to_bytes(batch)
    assert digest_of(decode(data, 0, len(data))) == digest_of(batch)


def test_kinds_matter() -> None:
    columns = {name: QUOTES[name][:2] for name in ("instrument_id", "ts_event")}
    quotes, trades = make_batch(Kind.QUOTE, columns), make_batch(Kind.TRADE, columns | {"price": [ABSENT, ABSENT]})
    assert digest_of(quotes).value != digest_of(trades).value


@given(st.integers(0, (1 << 128) - 1), st.integers(0, (1 << 128) - 1), st.integers(0, 1 << 63))
def test_sums_wrap_and_are_written_in_full(one: int, other: int, rows: int) -> None:
    total = Digest(one, rows) + Digest(other, 1)
    assert (total.value, total.rows) == ((one + other) % (1 << 128), rows + 1)
    assert len(total.hex) == 32
    assert int(total.hex, 16) == total.value
    assert Digest.from_hex(total.hex, total.rows) == total
    assert total != Digest(total.value, rows)


@pytest.mark.parametrize("digits", ["", "0" * 31, "0" * 33, "0" * 31 + "g", "0x" + "0" * 30, "0" * 64])
def test_what_is_no_digest_is_refused(digits: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        Digest.from_hex(digits, 1)
