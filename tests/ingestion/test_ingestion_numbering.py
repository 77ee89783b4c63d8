"""Gaps in sequence numbers: on the tape once, in the entry of the rows that show them."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing, suppress
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from nats.aio.client import Client

from marketdata.columns import Batch, Kind
from marketdata.v1.gap_pb2 import Gap
from marketdata.v1.policy_pb2 import Policy
from mda.ingestion import appender as appender_module
from mda.ingestion.commit import Numbered
from mda.ingestion.datasets import Dataset
from mda.ingestion.publication import Outcome, Publication
from mda.ingestion.release import list_items, release
from mda.ingestion.rows import RowPublisher
from mda.market.errors import MarketDataError
from mda.market.numbering import MOST_PIECES, Numbering
from mda.tape.payload import decode_payload, split_payload
from mda.tape.tape import StoredEntry
from tests.ingestion.feeding import make_dataset
from tests.ingestion.test_ingestion_appender import LossyTape
from tests.tape.helpers import new_name, quotes, rows_of, running, trades
from tests.tape.numbers import CLOSED, OPEN, Fact, Oracle, facts_of

CONTIGUOUS = Policy(sequence_rule=Policy.SEQUENCE_RULE_CONTIGUOUS)


@pytest.fixture
async def dataset(client: Client) -> Dataset:
    made = await make_dataset(client, new_name(), "A")
    await made.put_policy(CONTIGUOUS)
    await made.refresh()
    return made


def batch(*numbers: int, kind: Kind = Kind.TRADE, **columns: object) -> Batch:
    make = trades if kind is Kind.TRADE else quotes
    return make(0, len(numbers), sequence=np.array(numbers, np.uint64), **columns)


async def publish(dataset: Dataset, *batches: Batch, producer: str = "p") -> list[Outcome]:
    """Publish batches one after the other, each in an entry of its own, on a stream of their own."""
    publication = Publication(dataset, producer)
    last = await publication.open()
    done: list[Outcome] = []
    outcomes = publication.outcomes()
    for number, item in enumerate(batches, last + 1):
        await publication.submit(Numbered(number, item))
        done += await anext(outcomes)
    await outcomes.aclose()
    return done


async def entries(dataset: Dataset) -> list[StoredEntry]:
    return [stored for stored in await dataset.tape.read(0) if stored.entry.payload]


async def told(dataset: Dataset) -> list[tuple[list[Fact], list[int]]]:
    """Return the gaps and the numbers of each entry."""
    found = [(split_payload(stored.entry.payload)[0], stored) for stored in await entries(dataset)]
    return [(facts_of(gaps), rows_of(decode_payload(stored.entry.payload))) for gaps, stored in found]


async def all_gaps(dataset: Dataset) -> list[Gap]:
    return [gap for stored in await entries(dataset) for gap in split_payload(stored.entry.payload)[0]]


async def test_a_hole_opens_before_the_rows_that_show_it_and_closes_with_the_last_that_fills_it(
    dataset: Dataset,
) -> None:
    numbers = [[7, 8], [9, 13, 14], [11], [15], [12, 10, 16], [8]]
    await publish(dataset, *(batch(*each) for each in numbers))
    gaps = [[], [(OPEN, 10, 12)], [], [], [(CLOSED, 10, 12)], []]
    assert await told(dataset) == list(zip(gaps, numbers, strict=True))
    opened, closed = await all_gaps(dataset)
    assert opened.open_time == closed.open_time
    assert closed.open_time.ToNanoseconds() == closed.close_time.ToNanoseconds() == dataset.clock()
    assert all(stored.intact for stored in await dataset.tape.read(0))


async def test_quotes_and_trades_are_numbered_together_and_producers_apart(dataset: Dataset) -> None:
    await publish(dataset, batch(1, 2), batch(3, kind=Kind.QUOTE), batch(5), batch(4, kind=Kind.QUOTE))
    await publish(dataset, batch(9), batch(10), producer="q")
    assert facts_of(await all_gaps(dataset)) == [(OPEN, 4, 4), (CLOSED, 4, 4)]


async def test_a_producer_goes_on_where_it_was_however_often_it_opens(dataset: Dataset) -> None:
    for numbers in ([1], [4, 5], [2], [6], [3]):
        await Publication(dataset, "p").open()  # and says nothing
        await publish(dataset, batch(*numbers))
    assert facts_of(await all_gaps(dataset)) == [(OPEN, 2, 3), (CLOSED, 2, 3)]


async def test_what_knows_of_the_numbers_is_part_of_the_chain(dataset: Dataset) -> None:
    await publish(dataset, batch(1, 4))
    (stored,) = await entries(dataset)
    assert Numbering("p", stored.entry.numbering).text == stored.entry.numbering != ""
    assert stored.intact
    changed = replace(stored, entry=replace(stored.entry, numbering="9"))
    assert not changed.intact


async def test_without_the_rule_nothing_is_told_and_nothing_is_kept(client: Client) -> None:
    dataset = await make_dataset(client, new_name(), "A")
    await publish(dataset, batch(1, 5), batch(9))
    assert await all_gaps(dataset) == []
    assert [stored.entry.numbering for stored in await dataset.tape.read(0)] == [""] * 3


async def test_a_rule_that_comes_and_goes_begins_anew(dataset: Dataset) -> None:
    await publish(dataset, batch(1, 3))
    await dataset.put_policy(Policy(sequence_rule=Policy.SEQUENCE_RULE_NONE))
    await dataset.refresh()
    await publish(dataset, batch(9))
    await dataset.put_policy(CONTIGUOUS)
    await dataset.refresh()
    await publish(dataset, batch(20, 21), batch(2, 23))
    assert facts_of(await all_gaps(dataset)) == [(OPEN, 2, 2), (OPEN, 22, 22)]


async def test_rows_that_are_set_aside_have_come_and_show_holes(dataset: Dataset) -> None:
    await dataset.put_policy(Policy(sequence_rule=Policy.SEQUENCE_RULE_CONTIGUOUS, crossed=Policy.ACTION_QUARANTINE))
    await dataset.refresh()
    crossed = batch(4, 5, kind=Kind.QUOTE, bid_price=[30, 30])
    outcomes = await publish(dataset, batch(1), crossed, batch(6))
    assert [outcome.quarantined_rows for outcome in outcomes] == [0, 2, 0]
    assert await told(dataset) == [([], [1]), ([(OPEN, 2, 3)], []), ([], [6])]
    items, _ = await list_items(dataset, 0, 10)
    await release(dataset, [item.id for item in items])
    assert facts_of(await all_gaps(dataset)) == [(OPEN, 2, 3)]


async def test_unary_rows_show_no_gaps(dataset: Dataset) -> None:
    publisher = RowPublisher(dataset)
    async with running(publisher.run()):
        for number in (1, 5, 9):
            await publisher.publish(batch(number))
    assert await told(dataset) == [([], [1]), ([], [5]), ([], [9])]
    assert {stored.entry.numbering for stored in await entries(dataset)} == {""}


async def test_as_many_gaps_as_are_tracked_go_over_the_tape(dataset: Dataset) -> None:
    numbers = np.arange(1 << 62, (1 << 62) + (MOST_PIECES + 1) * (1 << 40), 1 << 40, dtype=np.uint64)
    await publish(dataset, batch(*numbers.tolist()))
    await publish(dataset, batch(int(numbers[-1]) + 1))
    newest = await dataset.tape.newest_of("p")
    assert newest is not None
    assert len(newest.entry.numbering.split(",")) == MOST_PIECES
    missing = batch(int(numbers[-1]) - 1)
    await publish(dataset, missing, batch(1))
    assert len(await all_gaps(dataset)) == MOST_PIECES


def drawn(chance: random.Random) -> list[Batch]:
    """Draw batches of both kinds whose numbers are lost, late and there twice."""
    numbers = [number for number in range(5, 200) if chance.random() > 0.1]
    numbers += chance.sample(numbers, 10)
    numbers.sort(key=lambda number: number + chance.choice([0, 0, 0, 0, chance.randrange(40)]))
    batches: list[Batch] = []
    while numbers:
        size = chance.randrange(1, 9)
        batches.append(batch(*numbers[:size], kind=chance.choice(list(Kind))))
        numbers = numbers[size:]
    return batches


@pytest.mark.parametrize("seed", range(8))
async def test_lost_answers_and_broken_streams_double_and_lose_no_record(
    dataset: Dataset, client: Client, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender_module, "_PAUSE_S", 0)
    tape, dataset.tape = dataset.tape, LossyTape(dataset.tape, client, seed)
    chance = random.Random(seed)
    batches = drawn(chance)

    async def send(last: int, wanted: int) -> None:
        async with asyncio.timeout(20):
            for number in range(max(1, last - 1), len(batches) + 1):  # a resend, in part
                await publication.submit(Numbered(number, batches[number - 1]))
                await asyncio.sleep(0)
            publication.close()
            async with aclosing(publication.outcomes()) as groups:
                async for outcomes in groups:
                    wanted -= len(outcomes)
                    if wanted < 0:
                        return  # breaks off, whatever is under way

    last = 0
    while last < len(batches):
        publication = Publication(dataset, "p")
        last = await publication.open()
        with suppress(MarketDataError):
            await send(last, chance.randrange(1, 30))
    dataset.tape = tape
    oracle = Oracle()
    rows = [number for _, numbers in await told(dataset) for number in numbers]
    assert rows == rows_of(batches)
    expected = [oracle.take(number) for number in rows]
    assert facts_of(await all_gaps(dataset)) == list(chain(*expected))
    for gaps, numbers in await told(dataset):  # and each in the entry of its rows
        assert gaps == list(chain(*(expected.pop(0) for _ in numbers)))
