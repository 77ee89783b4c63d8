"""What producers tell of their sources: gaps and a position, on the tape with the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.client import Client

from marketdata.columns import Kind
from marketdata.ingestion.v1.ingestion_service_pb2 import Batches, NumberedBatch, PublishRequest
from marketdata.v1.gap_pb2 import Gap
from marketdata.v1.policy_pb2 import Policy
from mda.ingestion.commit import NO_ROWS, Numbered
from mda.ingestion.datasets import Dataset
from mda.ingestion.publication import Outcome, Publication
from mda.ingestion.reading import read_batches
from mda.market.errors import MarketDataError
from mda.market.rows import timestamp
from mda.tape.archived import Place
from mda.tape.payload import decode_payload, split_payload
from tests.ingestion.feeding import make_dataset
from tests.tape.helpers import NOW_NS, new_name, rows_of, trades


@pytest.fixture
async def dataset(client: Client) -> Dataset:
    return await make_dataset(client, new_name(), "A")


def gap(state: Gap.State = Gap.STATE_OPEN, **fields: Any) -> Gap:
    """Return a gap that a producer tells of."""
    close = {"close_time": timestamp(NOW_NS + 5)} if state == Gap.STATE_CLOSED else {}
    return Gap(**({"cause": Gap.CAUSE_DISCONNECTED, "state": state, "open_time": timestamp(NOW_NS)} | close | fields))


async def publish(dataset: Dataset, *items: Numbered) -> tuple[str, list[Outcome]]:
    """Publish on a stream of its own; return the position that it was told, and what became of the batches."""
    count: list[int] = []
    publication = Publication(dataset, "p", count_rows=count.append)
    await publication.open()
    told = publication.position
    for item in items:
        await publication.submit(item)
    publication.close()
    done = [outcome async for outcomes in publication.outcomes() for outcome in outcomes]
    assert sum(count) == sum(item.batch.rows for item in items)
    return told, done


async def told_gaps(dataset: Dataset) -> list[Gap]:
    return [gap for entry in await dataset.tape.read(0) for gap in split_payload(entry.entry.payload)[0]]


async def test_gaps_and_position_stand_with_the_rows(dataset: Dataset) -> None:
    hole = gap(cause=Gap.CAUSE_SEQUENCE, first_sequence=5, last_sequence=6, instrument_id=1)
    items = [
        Numbered(1, trades(0, 3), gaps=(gap(Gap.STATE_CLOSED),), position="a"),
        Numbered(2, NO_ROWS, gaps=(hole,)),
        Numbered(3, trades(3, 2)),
        Numbered(4, NO_ROWS, position="b"),
    ]
    told, outcomes = await publish(dataset, *items)
    assert (told, [outcome.number for outcome in outcomes]) == ("", [1, 2, 3, 4])
    assert [(found.producer, found.cause, found.instrument_id) for found in await told_gaps(dataset)] == [
        ("p", Gap.CAUSE_DISCONNECTED, 0),
        ("p", Gap.CAUSE_SEQUENCE, 1),
    ]
    payloads = [split_payload(entry.entry.payload)[1] for entry in await dataset.tape.read(0)]
    assert len(rows_of([batch for payload in payloads for batch in decode_payload(payload)])) == 5
    assert (await publish(dataset, Numbered(5, trades(5, 1))))[0] == "b"
    assert (await publish(dataset))[0] == "b"  # rows without a position leave it as it is


async def test_only_a_hole_that_closes_may_be_anothers(dataset: Dataset) -> None:
    filled = gap(Gap.STATE_CLOSED, cause=Gap.CAUSE_SEQUENCE, first_sequence=5, last_sequence=6, producer="other")
    opened = gap(cause=Gap.CAUSE_SEQUENCE, first_sequence=5, last_sequence=6, producer="other")
    await publish(dataset, Numbered(1, NO_ROWS, gaps=(filled, opened, gap(Gap.STATE_CLOSED, producer="other"))))
    assert [found.producer for found in await told_gaps(dataset)] == ["other", "p", "p"]


async def test_what_is_sent_again_is_not_told_again(dataset: Dataset) -> None:
    item = Numbered(1, NO_ROWS, gaps=(gap(),), position="x")
    await publish(dataset, item)
    publication = Publication(dataset, "p")
    await publication.open()
    await publication.submit(item)
    publication.close()
    assert [[outcome.duplicate for outcome in found] async for found in publication.outcomes()] == [[True]]
    assert len(await told_gaps(dataset)) == 1


async def test_the_position_outlives_the_entry(dataset: Dataset) -> None:
    await publish(dataset, Numbered(1, trades(0, 1), position="kept"))
    newest = await dataset.tape.newest_of("p")
    bounds = await dataset.tape.bounds()
    assert newest is not None
    assert bounds is not None
    assert newest.intact
    await dataset.tape.archived.tell(Place(bounds.epoch, bounds.last), [("p", newest.standing)])
    await dataset.tape.drop_before(bounds.last + 1)
    assert (await publish(dataset))[0] == "kept"


async def test_numbers_are_followed_across_batches_without_rows(dataset: Dataset) -> None:
    await dataset.put_policy(Policy(sequence_rule=Policy.SEQUENCE_RULE_CONTIGUOUS))
    await dataset.refresh()
    publication = Publication(dataset, "p")
    await publication.open()
    outcomes = publication.outcomes()
    for number, numbers in enumerate([(1, 2), (), (5,)], 1):
        batch = trades(0, len(numbers), sequence=np.array(numbers, np.uint64)) if numbers else NO_ROWS
        await publication.submit(Numbered(number, batch, position="x"))
        await anext(outcomes)
    await outcomes.aclose()
    assert [(gap.first_sequence, gap.last_sequence) for gap in await told_gaps(dataset)] == [(3, 4)]


def message(**fields: Any) -> bytes:
    """Return a producer's message, of a batch of one trade and one without rows."""
    batch = NumberedBatch(number=7, **fields)
    batch.batch.rows = 1
    batch.batch.trades.instrument_id.append(1)
    batch.batch.trades.ts_event.append(NOW_NS)
    batch.batch.trades.price.append(5)
    return PublishRequest(batches=Batches(batches=[batch, NumberedBatch(number=8, **fields)])).SerializeToString()


def test_what_is_told_is_read_with_rows_and_without() -> None:
    with_rows, without = read_batches(message(gaps=[gap()], position="here"))
    assert (with_rows.number, with_rows.batch.kind, with_rows.batch.rows) == (7, Kind.TRADE, 1)
    assert (without.number, without.batch, without.rows) == (8, NO_ROWS, 1)
    for item in (with_rows, without):
        assert (item.gaps, item.position) == ((gap(),), "here")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"gaps": [gap(cause=Gap.CAUSE_TAPE_DAMAGED)]}, "batch.gaps[0].cause"),
        ({"gaps": [gap(), gap(cause=Gap.CAUSE_UNSPECIFIED)]}, "batch.gaps[1].cause"),
        ({"gaps": [gap(state=Gap.STATE_UNSPECIFIED)]}, "batch.gaps[0].state"),
        ({"gaps": [gap(close_time=timestamp(NOW_NS))]}, "batch.gaps[0].state"),
        ({"gaps": [Gap(cause=Gap.CAUSE_SEQUENCE, state=Gap.STATE_OPEN)]}, "batch.gaps[0].open_time"),
        ({"gaps": [gap(open_time=Timestamp(seconds=1 << 34))]}, "batch.gaps[0].open_time"),
        ({"gaps": [gap(open_time=Timestamp(seconds=1, nanos=-1))]}, "batch.gaps[0].open_time"),
        ({"gaps": [gap(Gap.STATE_CLOSED, close_time=Timestamp(seconds=-1))]}, "batch.gaps[0].close_time"),
        ({"gaps": [gap()] * 1001}, "batch.gaps"),
        ({"position": "two\nlines"}, "batch.position"),
        ({"position": "x" * 32_769}, "batch.position"),
    ],
)
def test_what_no_tape_takes_is_refused(fields: Any, field: str) -> None:
    with pytest.raises(MarketDataError) as caught:
        list(read_batches(message(**fields)))
    assert (caught.value.reason_name, caught.value.field) == ("INVALID_FIELD", field)
