"""What the archive tells, and tapes that have dropped what it has."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.client import Client

from mda.ingestion.appender import Appender
from mda.market.errors import MarketDataError
from mda.tape.archived import Archived, Place, Standing
from mda.tape.payload import encode_payload
from mda.tape.tape import Entry, Retention, Tape
from tests.tape.helpers import eventually, new_name, running, trades


def entry(number: int, numbering: str = "") -> Entry:
    return Entry(number, number, 1, encode_payload([trades(number)]), numbering)


async def make_tape(client: Client) -> Tape:
    tape = Tape(client, new_name("A.R"))
    await tape.create(Retention(1 << 24, 1))
    return tape


async def archive(tape: Tape, *producers: str) -> int:
    """Do as the archive does: tell what there is, and drop it; return up to where."""
    bounds = await tape.bounds()
    assert bounds is not None
    standings = [(producer, await tape.standing_of(producer)) for producer in producers]
    await tape.archived.tell(Place(bounds.epoch, bounds.last), standings)
    await tape.drop_before(bounds.last + 1)
    return bounds.last


async def test_the_newest_place_is_told_and_followed(client: Client) -> None:
    archived = Archived(client, new_name())
    await archived.create(1)
    assert await archived.place() is None
    await archived.tell(Place(5, 10), [])
    await archived.tell(Place(5, 12), [("a.b", Standing(12, True, 7, 1, "ab", "x"))])
    assert await archived.place() == Place(5, 12)
    assert await archived.standing("a.b") == Standing(12, False, 7, 1, "ab", "x")
    assert await archived.standing("nobody") == Standing()
    seen: list[Place] = []

    async def follow() -> None:
        places = archived.follow()
        while True:
            seen.append(await anext(places))

    async with running(follow()):
        await eventually(lambda: seen == [Place(5, 12)])
        await archived.tell(Place(5, 13), [])
        await eventually(lambda: seen == [Place(5, 12), Place(5, 13)])


async def test_what_was_told_of_a_later_entry_stays(client: Client) -> None:
    name = new_name()
    one, other = Archived(client, name), Archived(client, name)
    await one.create(1)
    for archived, place, sequence in ((one, 10, 9), (other, 20, 18), (one, 12, 11), (other, 20, 18)):
        await archived.tell(Place(5, place), [("p", Standing(sequence, last_number=sequence))])
    assert await one.place() == Place(5, 20)
    assert (await one.standing("p")).last_number == 18
    await one.tell(Place(5, 30), [("p", Standing(25, last_number=25))])
    await other.tell(Place(6, 2), [("p", Standing(1, last_number=26))])  # the tape was made anew
    assert await one.place() == Place(6, 2)
    assert (await one.standing("p")).last_number == 26


async def test_a_producer_whose_entries_were_dropped_goes_on_where_it_stood(client: Client) -> None:
    tape = await make_tape(client)
    first = Appender(tape, "p")
    await first.open()
    await first.append(entry(1))
    await first.append(entry(2, "numbers"))
    last = await archive(tape, "p")
    assert await tape.newest_of("p") is None
    again = Appender(tape, "p")
    await again.open()
    assert (again.last_number, again.numbering) == (2, "numbers")
    assert await again.append(entry(3)) == last + 2
    stored = await tape.read(0)
    assert [one.entry.last_number for one in stored] == [2, 3]
    # The chain goes on over what was dropped.
    assert stored[0].link.previous == (await tape.archived.standing("p")).hash


async def test_a_producer_that_was_quiet_while_its_entries_were_dropped_goes_on(client: Client) -> None:
    tape = await make_tape(client)
    appender = Appender(tape, "p")
    await appender.open()
    await appender.append(entry(1))
    await archive(tape, "p")
    sequence = await appender.append(entry(2))
    assert (await tape.standing_of("p")).sequence == sequence
    await asyncio.gather(appender.append(entry(3)), appender.append(entry(4)))
    assert appender.last_number == 4


async def test_an_older_connection_is_fenced_off_even_if_the_newer_ones_entries_were_dropped(client: Client) -> None:
    tape = await make_tape(client)
    older, newer = Appender(tape, "p"), Appender(tape, "p")
    await older.open()
    await older.append(entry(1))
    await newer.open()
    await newer.append(entry(2))
    await archive(tape, "p")
    with pytest.raises(MarketDataError, match="Another connection"):
        await older.append(entry(2))
    assert (await tape.standing_of("p")).last_number == 2
