"""Group commit: the queue."""

from __future__ import annotations

import asyncio
import random

import pytest

from marketdata.columns import MAX_ROWS
from mda.ingestion.commit import MAX_WAITING_ROWS, CommitQueue, Numbered
from mda.market.errors import draining
from tests.tape.helpers import eventually, running, trades


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
