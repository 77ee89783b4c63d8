"""The ring: the newest entries, without holes, bounded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.columns import Kind
from mda.query.ring import Piece, ReadEntry, Ring, read_entry
from mda.query.selection import select
from mda.tape.payload import decode_payload, encode_payload
from mda.tape.tape import Entry, StoredEntry
from tests.tape.helpers import quotes, rows_of, trades


def entry(sequence: int, size: int = 10) -> ReadEntry:
    return ReadEntry(sequence, b"x" * size)


def ring_of(count: int, max_bytes: int, *, first: int = 1, size: int = 10) -> Ring:
    ring = Ring(max_bytes)
    for sequence in range(first, first + count):
        ring.append(entry(sequence, size))
    return ring


def after(ring: Ring, sequence: int, limit: int = 10_000) -> list[int] | None:
    entries = ring.after(sequence, limit)
    return None if entries is None else [found.sequence for found in entries]


def test_an_empty_ring_has_no_place() -> None:
    assert after(Ring(100), 0) is None
    assert after(Ring(100), 7) is None


@pytest.mark.parametrize(
    ("place", "expected"),
    [(4, None), (5, [6, 7, 8, 9, 10]), (6, [7, 8, 9, 10]), (9, [10]), (10, []), (11, []), (99, [])],
)
def test_gives_what_comes_after_a_place(place: int, expected: list[int] | None) -> None:
    assert after(ring_of(10, 50), place) == expected


def test_the_limit_is_kept() -> None:
    assert after(ring_of(10, 1000), 3, 2) == [4, 5]
    assert after(ring_of(10, 1000), 9, 2) == [10]


def test_the_newest_entry_is_held_however_large() -> None:
    ring = ring_of(3, 100)
    ring.append(entry(4, 5000))
    assert after(ring, 2) is None
    assert after(ring, 3) == [4]
    ring.append(entry(5, 10))
    assert after(ring, 4) == [5]
    assert after(ring, 3) is None


@pytest.mark.parametrize("sequence", [12, 5, 10])
def test_a_hole_or_a_step_back_empties_it_first(sequence: int) -> None:
    ring = ring_of(10, 1000)
    ring.append(entry(sequence))
    assert after(ring, sequence - 1) == [sequence]
    assert after(ring, sequence - 2) is None
    ring.append(entry(sequence + 1))
    assert after(ring, sequence - 1) == [sequence, sequence + 1]


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=60), st.integers(1, 200))
def test_it_holds_as_many_as_fit(sizes: list[int], max_bytes: int) -> None:
    ring, held = Ring(max_bytes), []
    for sequence, size in enumerate(sizes, 1):
        ring.append(entry(sequence, size))
        held.append((sequence, size))
        while len(held) > 1 and sum(kept for _, kept in held) > max_bytes:
            held.pop(0)
        oldest = held[0][0]
        assert after(ring, oldest - 1) == [kept for kept, _ in held]
        assert after(ring, oldest - 2) is None


def test_it_stays_small_over_a_long_time() -> None:
    ring = ring_of(20_000, 100)
    assert after(ring, 19_990) == list(range(19_991, 20_001))
    assert len(ring._entries) < 3000


def test_an_entry_is_decoded_once_and_each_selection_encoded_once() -> None:
    payload = encode_payload([trades(1, 4, instrument_id=[1, 2, 1, 3]), quotes(1, 2)])
    read = read_entry(StoredEntry(7, 0, "p", (entry := Entry(1, 1, 1, payload)), entry.link("p", ""), {}))
    assert (read.sequence, read.rows) == (7, 6)
    everything = read.columns(select(None))
    assert everything.data is payload
    one = read.columns(select(frozenset({1}), frozenset({Kind.TRADE})))
    assert read.columns(select(frozenset({1}), frozenset({Kind.TRADE}))) is one
    assert (one.rows, rows_of(decode_payload(one.data))) == (2, [1, 3])
    assert read.columns(select(frozenset({9}))) == Piece(b"", 0)


def test_the_message_of_a_piece_is_kept() -> None:
    piece = Piece(b"rows", 1)
    assert piece.message == b""
    assert piece.finish(b"-tail") == b"rows-tail"
    assert piece.message == b"rows-tail"


def test_what_was_made_of_an_entry_is_kept_while_it_is_among_the_newest() -> None:
    ring, made = Ring(1 << 20), 0

    def make() -> Piece:
        nonlocal made
        made += 1
        return Piece(b"", 0)

    first = entry(1)
    ring.append(first)
    for sequence in range(2, 65):
        first.made("key", make)
        ring.append(entry(sequence))
    assert made == 1
    ring.append(entry(65))
    first.made("key", make)
    assert made == 2
