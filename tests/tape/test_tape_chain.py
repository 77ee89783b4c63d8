"""The hash chain of entries, and appends that build on one whose place is not known yet."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from mda.market.errors import MarketDataError
from mda.tape.chain import Chains, Link, make_link
from mda.tape.log import WrongPlaceError
from mda.tape.tape import Entry, Retention, StoredEntry, Tape
from tests.tape.helpers import new_name
from tests.tape.nats_server import NatsServer

entries = st.builds(
    Entry, st.integers(0, 1 << 60), st.integers(0, 1 << 60), st.integers(0, 1 << 30), st.binary(max_size=40)
)


def chain(*payloads: bytes) -> list[tuple[Entry, Link]]:
    found: list[tuple[Entry, Link]] = []
    for number, payload in enumerate(payloads, 1):
        entry = Entry(number, number, 1, payload)
        found.append((entry, entry.link("p", found[-1][1].hash if found else "")))
    return found


@given(entries, entries, st.text(max_size=5))
def test_links_differ_where_anything_differs(one: Entry, other: Entry, salt: str) -> None:
    link = one.link("p", "before", salt)
    assert link == one.link("p", "before", salt)
    assert (link.hash == other.link("p", "before", salt).hash) == (one == other)
    assert link.hash != one.link("q", "before", salt).hash
    assert link.hash != one.link("p", "another", salt).hash
    assert link.hash != one.link("p", "before", salt + "x").hash


def test_facts_do_not_run_into_each_other() -> None:
    assert make_link("p", "", (1, 23), b"").hash != make_link("p", "", (12, 3), b"").hash
    assert make_link("p", "", (1,), b"2").hash != make_link("p", "", (1, 2), b"").hash


@given(st.lists(st.sampled_from("pqr"), max_size=30), st.data())
def test_a_missing_entry_shows_at_the_next_of_its_producer(producers: list[str], data: st.DataObject) -> None:
    newest: dict[str, str] = {}
    tape: list[tuple[str, Link]] = []
    for number, producer in enumerate(producers):
        link = Entry(number, number, 1, b"").link(producer, newest.get(producer, ""))
        newest[producer] = link.hash
        tape.append((producer, link))
    lost = data.draw(st.sets(st.integers(0, max(len(tape) - 1, 0))))
    chains, seen, expected, found = Chains(), set[str](), [], []
    broken: set[str] = set()
    for place, (producer, link) in enumerate(tape):
        if place in lost:
            broken.add(producer)
            continue
        if producer in broken and producer in seen:
            expected.append(place)
        broken.discard(producer)
        seen.add(producer)
        if chains.take(producer, link, place) is not None:
            found.append(place)
    assert found == expected


def test_producers_that_are_long_quiet_are_forgotten() -> None:
    chains = Chains()
    first, second = (link for _, link in chain(b"1", b"2"))
    assert chains.take("quiet", first, 1) is None
    for number in range(10_000):
        assert chains.take(f"p{number}", first, 1) is None
    assert chains.take("quiet", replace(second, previous="something else"), 2) is None


def test_a_break_tells_the_last_number_before_it() -> None:
    chains = Chains()
    first, second, third = (link for _, link in chain(b"1", b"2", b"3"))
    assert chains.take("p", first, 7) is None
    assert chains.take("p", third, 9) == 7
    assert chains.take("p", second, 8) == 9


async def make_tape(client: Client) -> Tape:
    tape = Tape(client, new_name())
    await tape.create(Retention(1 << 24, 1))
    return tape


async def read(tape: Tape) -> list[StoredEntry]:
    return await tape.read(0)


async def test_entries_keep_their_links(client: Client) -> None:
    tape = await make_tape(client)
    first, second = Entry(1, 1, 1, b"x"), Entry(2, 2, 1, b"y")
    one = first.link("a.b", "")
    two = second.link("a.b", one.hash)
    await tape.append("a.b", first, one, 0)
    await tape.append("a.b", second, two, 1)
    stored = await read(tape)
    assert [entry.link for entry in stored] == [one, two]
    assert [entry.producer for entry in stored] == ["a.b", "a.b"]
    assert all(entry.intact for entry in stored)
    assert not replace(stored[1], entry=first).intact
    found = await tape.next_of("a.b", 1)
    assert found is not None
    assert (found.sequence, found.link) == (2, two)
    assert await tape.next_of("a.b", 2) is None


async def test_an_entry_lands_right_after_the_one_it_builds_on(client: Client) -> None:
    tape = await make_tape(client)
    links = chain(b"1", b"2", b"3")
    first = tape.append("p", *links[0], 0)
    rest = [tape.append("p", *links[place], links[place - 1][1].hash) for place in (1, 2)]
    assert await asyncio.gather(first, *rest) == [1, 2, 3]


async def test_an_entry_does_not_land_where_another_came_in_between(client: Client) -> None:
    tape = await make_tape(client)
    (first, one), (second, two) = chain(b"1", b"2")
    await tape.append("p", first, one, 0)
    await tape.append("q", first, first.link("q", ""), 0)
    with pytest.raises(WrongPlaceError):
        await tape.append("p", second, two, one.hash)
    assert len(await read(tape)) == 2
    assert await tape.append("p", second, two, 1) == 3


async def test_an_entry_that_is_there_is_not_written_again(client: Client) -> None:
    tape = await make_tape(client)
    (first, one), (second, two) = chain(b"1", b"2")
    await tape.append("p", first, one, 0)
    await tape.append("p", second, two, one.hash)
    for entry, link, expected in ((first, one, 0), (second, two, 1), (second, two, one.hash)):
        with suppress(WrongPlaceError):
            assert await tape.append("p", entry, link, expected) == entry.first_number
    assert [entry.link for entry in await read(tape)] == [one, two]


async def test_what_builds_on_an_entry_lands_after_a_restart_or_is_told_to_look(
    own_nats: NatsServer, own_client: Client
) -> None:
    tape = await make_tape(own_client)
    (first, one), (second, two) = chain(b"1", b"2")
    await tape.append("p", first, one, 0)
    own_nats.restart()
    placed: int | None = None
    async with asyncio.timeout(20):
        while placed is None:
            with suppress(MarketDataError):
                try:
                    placed = await tape.append("p", second, two, one.hash)
                except WrongPlaceError:
                    placed = await tape.append("p", second, two, 1)
    assert placed == 2
    assert [entry.link for entry in await read(tape)] == [one, two]
