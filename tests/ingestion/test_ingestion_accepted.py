"""How safe a batch is when its outcome comes: with the appender, or on the tape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1.policy_pb2 import Policy
from mda.ingestion.commit import Numbered
from mda.ingestion.datasets import Dataset
from mda.ingestion.publication import Outcome, Publication
from mda.market.errors import MarketDataError
from mda.tape.chain import Link
from mda.tape.tape import Entry, Tape
from tests.ingestion.feeding import make_dataset
from tests.tape.helpers import eventually, new_name, quotes, rows_on_tape, trades


class HeldTape(Tape):
    """A tape that takes entries with rows when it may, or fails them."""

    def __init__(self, client: Client, dataset: str) -> None:
        super().__init__(client, dataset)
        self.free = asyncio.Event()
        self.held = 0
        self.fails = False

    async def append(self, producer: str, entry: Entry, link: Link, expected: int | str) -> int:
        if entry.payload:
            self.held += 1
            await self.free.wait()
        if self.fails and entry.payload:
            raise MarketDataError(reasons.ERROR_REASON_TAPE_FULL, "full")
        return await super().append(producer, entry, link, expected)


@pytest.fixture
async def tape(client: Client) -> HeldTape:
    return HeldTape(client, new_name())


@pytest.fixture
async def dataset(client: Client, tape: HeldTape) -> Dataset:
    made = await make_dataset(client, tape.dataset, "A")
    made.tape = tape
    return made


async def opened(dataset: Dataset, *, accepted: bool) -> Publication:
    publication = Publication(dataset, "p", accepted=accepted)
    await publication.open()
    return publication


async def outcomes_of(publication: Publication) -> AsyncIterator[Outcome]:
    async for group in publication.outcomes():
        for outcome in group:
            yield outcome


async def test_a_durable_outcome_comes_only_after_the_append(dataset: Dataset, tape: HeldTape) -> None:
    publication = await opened(dataset, accepted=False)
    outcomes = outcomes_of(publication)
    await publication.submit(Numbered(1, trades(1)))
    waiting = asyncio.ensure_future(anext(outcomes))
    await eventually(lambda: tape.held == 1)
    await asyncio.sleep(0.05)
    assert not waiting.done()
    tape.free.set()
    assert await waiting == Outcome(1, 2)
    publication.close()
    assert [outcome async for outcome in outcomes] == []


async def test_accepted_outcomes_come_before_the_append(dataset: Dataset, tape: HeldTape, client: Client) -> None:
    publication = await opened(dataset, accepted=True)
    outcomes = outcomes_of(publication)
    for number in (1, 2):
        await publication.submit(Numbered(number, trades(number)))
        assert await asyncio.wait_for(anext(outcomes), 5) == Outcome(number, 0)
        publication._queue.want(1)  # the next group is not to wait for more
    assert await rows_on_tape(client, tape.dataset) == []
    publication.close()
    ending = asyncio.ensure_future(anext(outcomes, None))
    await asyncio.sleep(0.05)
    assert not ending.done()  # a stream that ends well has all on the tape
    tape.free.set()
    assert await ending is None
    assert await rows_on_tape(client, tape.dataset) == [1, 2]


async def test_rows_set_aside_are_durable_before_a_batch_is_accepted(dataset: Dataset) -> None:
    await dataset.put_policy(Policy(crossed=Policy.ACTION_QUARANTINE))
    publication = await opened(dataset, accepted=True)
    await publication.submit(Numbered(1, quotes(1, 3, bid_price=[30, 10, 30])))
    outcomes = outcomes_of(publication)
    assert await anext(outcomes) == Outcome(1, 0, 0, 2)
    (entry,) = await dataset.quarantine.read(0)
    assert entry.items[0].batch.rows == 2


async def test_an_error_after_that_ends_the_stream(dataset: Dataset, tape: HeldTape) -> None:
    publication = await opened(dataset, accepted=True)
    outcomes = outcomes_of(publication)
    await publication.submit(Numbered(1, trades(1)))
    assert (await anext(outcomes)).number == 1
    tape.fails = True
    tape.free.set()
    with pytest.raises(MarketDataError) as caught:
        await anext(outcomes)
    assert caught.value.reason_name == "TAPE_FULL"


async def test_a_batch_that_is_refused_is_not_accepted(dataset: Dataset, tape: HeldTape, client: Client) -> None:
    tape.free.set()
    publication = await opened(dataset, accepted=True)
    await publication.submit(Numbered(1, trades(1)))
    await publication.submit(Numbered(2, trades(2, price=[-1])))
    outcomes = outcomes_of(publication)
    assert (await anext(outcomes)).number == 1
    with pytest.raises(MarketDataError, match="not a price"):
        await anext(outcomes)
    assert await rows_on_tape(client, tape.dataset) == [1]


async def test_what_was_accepted_is_appended_though_the_producer_goes(
    dataset: Dataset, tape: HeldTape, client: Client
) -> None:
    publication = await opened(dataset, accepted=True)
    accepted = asyncio.Event()

    async def serve() -> None:
        async for _ in publication.outcomes():
            accepted.set()

    serving = asyncio.create_task(serve())
    await publication.submit(Numbered(1, trades(1)))
    await accepted.wait()
    await eventually(lambda: tape.held == 1)
    serving.cancel()
    asyncio.get_running_loop().call_later(0.05, tape.free.set)
    await asyncio.gather(serving, return_exceptions=True)
    assert await rows_on_tape(client, tape.dataset) == [1]


async def test_duplicates_are_told_in_either_way(dataset: Dataset, tape: HeldTape) -> None:
    tape.free.set()
    for accepted in (False, True):
        publication = await opened(dataset, accepted=accepted)
        await publication.submit(Numbered(1, trades(1)))
        publication.close()
        found = [outcome async for outcome in outcomes_of(publication)]
        assert [outcome.duplicate for outcome in found] == [accepted]
