"""Acknowledgements that wait until the archive has a batch."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.client import Client

from mda.ingestion import seeing
from mda.ingestion.commit import Numbered
from mda.ingestion.datasets import Dataset
from mda.ingestion.publication import Publication
from mda.market.errors import MarketDataError, draining
from mda.tape.archived import Place
from tests.ingestion.feeding import make_dataset
from tests.tape.helpers import eventually, new_name, running, trades


@pytest.fixture
async def dataset(client: Client) -> Dataset:
    return await make_dataset(client, new_name(), "A")


async def opened(dataset: Dataset) -> Publication:
    publication = Publication(dataset, "p", visible=True)
    await publication.open()
    return publication


async def archive(dataset: Dataset, sequence: int, *, epoch: int | None = None) -> None:
    """Tell, as the archive does, that it has the tape up to an entry."""
    bounds = await dataset.tape.bounds()
    assert bounds is not None
    await dataset.tape.archived.tell(Place(epoch or bounds.epoch, sequence), [])


async def test_an_outcome_comes_once_the_archive_has_the_batch(dataset: Dataset) -> None:
    publication = await opened(dataset)
    seen: list[int] = []

    async def take() -> None:
        async for group in publication.outcomes():
            seen.extend(outcome.number for outcome in group)

    async with running(take()):
        await publication.submit(Numbered(1, trades(1)))
        await eventually(lambda: publication._appender.last_number == 1)
        await publication.submit(Numbered(2, trades(2)))
        await eventually(lambda: publication._appender.last_number == 2)
        await archive(dataset, 99, epoch=1)  # of a tape of then
        await archive(dataset, 1)
        await asyncio.sleep(0.1)
        assert seen == []
        await archive(dataset, 2)
        await eventually(lambda: seen == [1])
        await archive(dataset, 3)
        await eventually(lambda: seen == [1, 2])


async def test_a_batch_that_was_there_before_is_a_duplicate_once_the_archive_has_it(dataset: Dataset) -> None:
    first = await opened(dataset)
    await archive(dataset, 2)
    await first.submit(Numbered(1, trades(1)))
    first.close()
    assert [outcome.duplicate async for group in first.outcomes() for outcome in group] == [False]
    again = await opened(dataset)
    await again.submit(Numbered(1, trades(1)))
    again.close()
    await archive(dataset, 2)
    outcomes = asyncio.create_task(_all(again))
    await asyncio.sleep(0.1)
    assert not outcomes.done()
    await archive(dataset, 3)
    assert await asyncio.wait_for(outcomes, 10) == [(1, True)]


async def _all(publication: Publication) -> list[tuple[int, bool]]:
    return [(outcome.number, outcome.duplicate) async for group in publication.outcomes() for outcome in group]


async def test_an_archive_that_does_not_go_on_is_told(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeing, "_WITHIN_S", 0.2)
    publication = await opened(dataset)
    await publication.submit(Numbered(1, trades(1)))
    with pytest.raises(MarketDataError) as caught:
        await _all(publication)
    assert caught.value.reason_name == "ARCHIVE_UNAVAILABLE"


async def test_an_end_comes_after_what_was_seen(dataset: Dataset) -> None:
    publication = await opened(dataset)
    await publication.submit(Numbered(1, trades(1)))
    publication.close(draining())
    await archive(dataset, 2)
    seen: list[int] = []
    with pytest.raises(MarketDataError, match="shutting down"):
        async for group in publication.outcomes():
            seen += [outcome.number for outcome in group]
    assert seen == [1]
