"""Reading the tape ahead of a reader: no entry twice, none left out, bounded."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from nats.aio.client import Client

from mda.market.errors import MarketDataError
from mda.query import backlog as backlog_module
from mda.query.backlog import Backlog
from mda.query.hub import Hub
from mda.query.ring import ReadEntry
from tests.query.feeding import make_feed, opened
from tests.tape.helpers import eventually, trades


class CountingHub:
    """A hub whose reads are counted."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.reads: list[int] = []
        self.failure: MarketDataError | None = None

    async def entries_after(self, sequence: int, limit: int, until: int | None = None) -> Sequence[ReadEntry]:
        self.reads.append(sequence)
        if self.failure is not None:
            raise self.failure
        return await self._hub.entries_after(sequence, limit, until)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog_module, "_PAGE_ENTRIES", 4)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("step", [1, 3, 4])
async def test_each_page_is_read_once_whatever_is_taken_of_it(client: Client, step: int) -> None:
    feed = await make_feed(client)
    for number in range(1, 11):
        await feed.write(trades(number))
    async with opened(feed, ring_bytes=1) as hub:
        counting = CountingHub(hub)
        backlog = Backlog(counting)
        place, seen = 0, list[int]()
        while entries := await backlog.after(place):
            taken = list(entries)[:step]
            seen += [entry.sequence for entry in taken]
            place = taken[-1].sequence
        assert seen == list(range(1, 11))
        assert counting.reads == [0, 4, 8, 10]
        await feed.write(trades(11))
        await eventually(lambda: hub.head == 11)
        assert [entry.sequence for entry in await backlog.after(10)] == [11]
        backlog.drop()


@pytest.mark.usefixtures("small_pages")
async def test_the_next_page_comes_while_one_is_read(client: Client) -> None:
    feed = await make_feed(client)
    for number in range(1, 10):
        await feed.write(trades(number))
    async with opened(feed, ring_bytes=1) as hub:
        counting = CountingHub(hub)
        backlog = Backlog(counting)
        await backlog.after(0)
        await eventually(lambda: counting.reads == [0, 4])
        backlog.drop()


@pytest.mark.usefixtures("small_pages")
async def test_a_reader_that_moves_otherwise_gets_what_comes_after_its_place(client: Client) -> None:
    feed = await make_feed(client)
    for number in range(1, 13):
        await feed.write(trades(number))
    async with opened(feed, ring_bytes=1) as hub:
        backlog = Backlog(hub)
        for place, first in ((0, 1), (2, 3), (0, 1), (9, 10), (3, 4)):
            assert (await backlog.after(place))[0].sequence == first
        backlog.drop()


async def test_an_error_of_the_tape_comes_out_and_the_next_try_reads_again(client: Client) -> None:
    feed = await make_feed(client)
    await feed.write(trades(1))
    async with opened(feed, ring_bytes=1) as hub:
        counting = CountingHub(hub)
        counting.failure = MarketDataError(1, "down")
        backlog = Backlog(counting)
        with pytest.raises(MarketDataError):
            await backlog.after(0)
        counting.failure = None
        assert [entry.sequence for entry in await backlog.after(0)] == [1]
        backlog.drop()
