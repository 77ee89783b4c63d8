"""Rows set aside: listed by the page, and released once."""

from __future__ import annotations

import asyncio
import random

import pytest
from nats.aio.client import Client

from marketdata.columns import Batch
from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1.instrument_pb2 import Instrument
from marketdata.v1.policy_pb2 import Policy
from mda.ingestion import appender as appender_module
from mda.ingestion.commit import Numbered
from mda.ingestion.datasets import Dataset
from mda.ingestion.publication import Publication
from mda.ingestion.release import Released, list_items, release
from mda.market.bits import CROSSED, OUT_OF_ORDER, RELEASED, UNKNOWN_INSTRUMENT
from mda.market.errors import MarketDataError
from mda.tape.chain import Link
from mda.tape.payload import decode_payload
from mda.tape.tape import Entry, Tape
from tests.ingestion.feeding import make_dataset, make_datasets
from tests.tape.helpers import new_name, quotes, rows_of, rows_on_tape, trades


@pytest.fixture
async def dataset(client: Client) -> Dataset:
    made = await make_dataset(client, new_name(), "A")
    await made.put_policy(
        Policy(
            crossed=Policy.ACTION_QUARANTINE,
            unknown_instrument=Policy.ACTION_QUARANTINE,
            not_a_price=Policy.ACTION_QUARANTINE,
        )
    )
    return made


async def publish(dataset: Dataset, *batches: Batch, producer: str = "p") -> None:
    """Publish batches, each with an entry of its own."""
    publication = Publication(dataset, producer)
    last = await publication.open()
    outcomes = publication.outcomes()
    for number, batch in enumerate(batches, last + 1):
        await publication.submit(Numbered(number, batch))
        await anext(outcomes)
    publication.close()
    assert [group async for group in outcomes] == []


def crossed(first: int, rows: int = 1) -> Batch:
    return quotes(first, rows, bid_price=[30] * rows)


async def failure(dataset: Dataset, *ids: str) -> MarketDataError:
    with pytest.raises(MarketDataError) as caught:
        await release(dataset, ids)
    return caught.value


async def test_nothing_is_listed_where_nothing_is_set_aside(dataset: Dataset) -> None:
    assert await list_items(dataset, 0, 100) == ([], False)


async def test_items_are_listed_in_order_with_their_producers(dataset: Dataset) -> None:
    await publish(dataset, crossed(1, 2), trades(3, instrument_id=[9]), producer="a.b")
    await publish(dataset, crossed(4), producer="c")
    items, more = await list_items(dataset, 0, 100)
    assert not more
    assert [(item.id, item.entry.producer, item.rows.number) for item in items] == [
        ("1-0", "a.b", 1),
        ("2-0", "a.b", 2),
        ("3-0", "c", 1),
    ]
    assert [rows_of([item.rows.batch]) for item in items] == [[1, 2], [3], [4]]
    assert [item.tape_sequence for item in items] == [0, 0, 0]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_pages_hold_every_item_once(dataset: Dataset, size: int) -> None:
    publication = Publication(dataset, "p")
    await publication.open()
    for number in range(1, 8):  # together in one entry, or a few
        await publication.submit(Numbered(number, crossed(number * 1_000, 400 if number % 2 else 1)))
    publication.close()
    [group async for group in publication.outcomes()]
    after, seen, more = 0, [], True
    while more:
        items, more = await list_items(dataset, after, size)
        assert 0 < len(items) <= size
        assert sum(item.rows.batch.rows for item in items) <= 1_000
        seen += [item.rows.number for item in items]
        after = items[-1].place
    assert seen == list(range(1, 8))
    assert await list_items(dataset, after, size) == ([], False)


async def test_released_rows_come_to_the_tape_once_with_their_verdicts(dataset: Dataset, client: Client) -> None:
    await publish(dataset, crossed(1, 2), quotes(5))
    (released,) = await release(dataset, ["1-0"])
    stored = (await dataset.tape.read(0))[-1]
    assert released == Released("1-0", stored.sequence, already=False)
    (batch,) = decode_payload(stored.entry.payload)
    assert rows_of([batch]) == [1, 2]
    assert batch["verdicts"].tolist() == [CROSSED | OUT_OF_ORDER | RELEASED] * 2
    again = await make_datasets(client).get(dataset.tape.dataset)
    assert await release(again, ["1-0"]) == [Released("1-0", stored.sequence, already=True)]
    assert await rows_on_tape(client, dataset.tape.dataset) == [5, 1, 2]
    ((item,), _) = await list_items(dataset, 0, 9)
    assert item.tape_sequence == stored.sequence


async def test_calls_at_the_same_time_release_once(dataset: Dataset, client: Client) -> None:
    await publish(dataset, *(crossed(number) for number in range(1, 6)))
    other = await make_datasets(client).get(dataset.tape.dataset)
    other.directory.version += 1  # so that its entry is another one
    ids = [f"{number}-0" for number in range(1, 6)]
    results = await asyncio.gather(release(dataset, ids), release(other, ids), release(dataset, ids[::-1]))
    places = [{item.id: item.sequence for item in result} for result in results]
    assert places[0] == places[1] == places[2]
    assert sorted(await rows_on_tape(client, dataset.tape.dataset)) == [1, 2, 3, 4, 5]


class LossyTape(Tape):
    """A tape whose answers are lost, before or after the entry is written."""

    def __init__(self, client: Client, dataset: str, seed: int) -> None:
        super().__init__(client, dataset)
        self._random = random.Random(seed)

    async def append(self, producer: str, entry: Entry, link: Link, expected: int | str) -> int:
        what = self._random.choice(["request", "answer", "nothing"])
        if what != "request":
            sequence = await super().append(producer, entry, link, expected)
            if what == "nothing":
                return sequence
        raise MarketDataError(reasons.ERROR_REASON_TAPE_UNAVAILABLE, "lost")


@pytest.mark.parametrize("give_up_s", [0.0, 15.0], ids=["the server dies", "answers are lost"])
async def test_lost_answers_release_nothing_twice(
    dataset: Dataset, client: Client, monkeypatch: pytest.MonkeyPatch, give_up_s: float
) -> None:
    monkeypatch.setattr(appender_module, "_PAUSE_S", 0)
    monkeypatch.setattr(appender_module, "_GIVE_UP_S", give_up_s)
    await publish(dataset, *(crossed(number) for number in range(1, 16)))
    ids = [f"{number}-0" for number in range(1, 16)]
    dataset.tape = LossyTape(client, dataset.tape.dataset, 2)
    failures = 0
    while True:
        try:
            released = await release(dataset, ids)
            break
        except MarketDataError:
            failures += 1
    assert [item.id for item in released] == ids
    assert (failures > 3) == (give_up_s == 0)
    assert await rows_on_tape(client, dataset.tape.dataset) == list(range(1, 16))


@pytest.mark.parametrize("missing", ["3-0", "2-0", "1-1", "99999999999999-99999"])
async def test_an_id_of_nothing_is_named_and_nothing_is_released(
    dataset: Dataset, client: Client, missing: str
) -> None:
    await publish(dataset, crossed(1))
    error = await failure(dataset, "1-0", missing)
    assert (error.reason_name, error.field, error.metadata["rule"]) == ("INVALID_FIELD", "ids[1]", "quarantine_id")
    assert await rows_on_tape(client, dataset.tape.dataset) == []


async def test_rows_that_nobody_could_use_stay_until_somebody_could(dataset: Dataset, client: Client) -> None:
    await publish(dataset, trades(1, 2, instrument_id=[2, 2]), trades(3, price=[-1]))
    assert (await failure(dataset, "1-0")).reason_name == "UNKNOWN_INSTRUMENT_ID"
    assert (await failure(dataset, "2-0")).reason_name == "NOT_A_PRICE"
    other = await make_datasets(client).get(dataset.tape.dataset)
    await other.put_instruments([Instrument(symbol="B"), Instrument(symbol="A", negative_prices=True)])
    await dataset.refresh()
    await release(dataset, ["1-0", "2-0"])
    batches = [batch for entry in await dataset.tape.read(0) for batch in decode_payload(entry.entry.payload)]
    assert rows_of(batches) == [1, 2, 3]
    assert batches[0]["verdicts"].tolist() == [UNKNOWN_INSTRUMENT | OUT_OF_ORDER | RELEASED] * 2
