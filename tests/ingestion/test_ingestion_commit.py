"""Group commit: the queue, and what is made of a group."""

from __future__ import annotations

import asyncio
import random

import pytest
from nats.aio.client import Client

from marketdata.columns import MAX_ROWS, Kind
from marketdata.v1.instrument_pb2 import Instrument
from mda.ingestion.commit import MAX_WAITING_ROWS, CommitQueue, Numbered, first_error, prepare
from mda.ingestion.datasets import Dataset
from mda.market.errors import draining
from mda.market.verdicts import CROSSED, OUT_OF_ORDER
from mda.tape.payload import decode_payload
from tests.ingestion.feeding import make_dataset, make_datasets
from tests.tape.helpers import eventually, new_name, quotes, rows_of, running, trades


def item(number: int, rows: int = 1) -> Numbered:
    return Numbered(number, trades(number, rows))


async def test_what_waits_is_taken_together_in_order() -> None:
    queue = CommitQueue()
    for number in range(5):
        await queue.put(item(number))
    assert [taken.number for taken in await queue.take()] == [0, 1, 2, 3, 4]


async def test_take_waits_for_what_comes() -> None:
    queue = CommitQueue()
    taking = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    assert not taking.done()
    await queue.put(item(1))
    assert [taken.number for taken in await taking] == [1]


async def test_a_group_has_at_most_the_rows_of_one_batch() -> None:
    queue = CommitQueue()
    sizes = [MAX_ROWS, 1, MAX_ROWS - 1, 1, MAX_ROWS // 2]
    for number, rows in enumerate(sizes):
        await queue.put(item(number, rows))
    groups = [[taken.number for taken in await queue.take()] for _ in range(3)]
    assert groups == [[0], [1, 2], [3, 4]]


@pytest.mark.parametrize("seed", range(3))
async def test_order_and_bounds_hold_with_batches_of_all_sizes(seed: int) -> None:
    queue, chance = CommitQueue(), random.Random(seed)
    sizes = [chance.choice([1, 10, 1000, MAX_ROWS // 3, MAX_ROWS]) for _ in range(120)]
    taken: list[Numbered] = []
    put = 0

    async def fill() -> None:
        nonlocal put
        for number, rows in enumerate(sizes):
            await queue.put(item(number, rows))
            put += rows
        queue.close()

    async with running(fill()):
        while group := await queue.take():
            assert sum(entry.batch.rows for entry in group) <= MAX_ROWS
            taken += group
            assert put - sum(entry.batch.rows for entry in taken) <= MAX_WAITING_ROWS + MAX_ROWS
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
    assert [entry.number for entry in taken] == list(range(120))


async def test_put_waits_while_many_rows_wait() -> None:
    queue = CommitQueue()
    for number in range(4):
        await queue.put(item(number, MAX_ROWS))
    putting = asyncio.create_task(queue.put(item(4)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not putting.done()
    await queue.take()
    await asyncio.wait_for(putting, 5)


async def test_a_closed_queue_gives_what_waits_then_nothing() -> None:
    queue = CommitQueue()
    await queue.put(item(1))
    queue.close()
    assert [taken.number for taken in await queue.take()] == [1]
    assert await queue.take() == []
    assert await queue.take() == []


async def test_an_error_comes_after_what_waits_and_the_first_one_counts() -> None:
    queue = CommitQueue()
    await queue.put(item(1))
    queue.close(draining())
    queue.close(ValueError("later"))
    queue.close()
    assert [taken.number for taken in await queue.take()] == [1]
    with pytest.raises(Exception, match="shutting down"):
        await queue.take()


async def test_close_wakes_who_waits() -> None:
    queue = CommitQueue()
    async with running(queue.take()) as (taking,):
        await asyncio.sleep(0)
        queue.close()
        await eventually(taking.done)
        assert taking.result() == []


async def test_a_closed_queue_takes_no_more() -> None:
    queue = CommitQueue()
    await queue.put(item(1))
    queue.close()
    await queue.put(item(2))
    assert [taken.number for taken in await queue.take()] == [1]
    assert await queue.take() == []


@pytest.fixture
async def dataset(client: Client) -> Dataset:
    return await make_dataset(client, new_name(), "A", "B")


def test_a_good_group_is_one_payload_without_verdicts(dataset: Dataset) -> None:
    prepared = prepare(dataset, [trades(1, 2), trades(3), quotes(1), trades(4)])
    batches = decode_payload(prepared.payload)
    assert [(batch.kind, rows_of([batch])) for batch in batches] == [
        (Kind.TRADE, [1, 2, 3]),
        (Kind.QUOTE, [1]),
        (Kind.TRADE, [4]),
    ]
    assert all("verdicts" not in batch.columns for batch in batches)
    assert prepared.flagged_rows == [0, 0, 0, 0]


def test_flagged_rows_are_counted_per_batch(dataset: Dataset) -> None:
    crossed = quotes(1, 3, bid_price=[30, 10, 30])
    late = quotes(9, 2, ts_event=[1, 2])
    prepared = prepare(dataset, [crossed, quotes(5), late, trades(1)])
    assert prepared.flagged_rows == [2, 0, 2, 0]
    verdicts = decode_payload(prepared.payload)[0]["verdicts"].tolist()
    assert verdicts == [CROSSED, 0, CROSSED, 0, OUT_OF_ORDER, OUT_OF_ORDER]


def test_verdicts_of_the_producer_are_not_taken_over(dataset: Dataset) -> None:
    prepared = prepare(dataset, [quotes(1, verdicts=[255])])
    assert decode_payload(prepared.payload)[0]["verdicts"].tolist() == [0]


async def test_the_first_bad_batch_is_found_with_its_own_row(dataset: Dataset) -> None:
    batches = [trades(1, 2), trades(3, 2), trades(5, 3, instrument_id=[1, 2, 9]), trades(8, price=[-1])]
    found = await first_error(dataset, batches)
    assert found is not None
    position, error = found
    assert position == 2
    assert (error.reason_name, error.metadata["row"], error.metadata["value"]) == ("UNKNOWN_INSTRUMENT_ID", "2", "9")
    assert await first_error(dataset, batches[:2]) is None
    assert await first_error(dataset, []) is None


async def test_an_instrument_that_another_instance_put_is_looked_up(client: Client, dataset: Dataset) -> None:
    name = dataset.tape.dataset
    other = await make_datasets(client).get(name)
    await other.put_instruments([Instrument(symbol="NEW")])
    assert len(dataset.directory) == 2
    assert await first_error(dataset, [trades(1), trades(2, instrument_id=[3])]) is None
    assert len(dataset.directory) == 3
