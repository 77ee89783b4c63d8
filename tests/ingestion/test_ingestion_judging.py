"""What is made of a group of batches."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.client import Client

from marketdata.columns import ABSENT, Batch, Kind
from marketdata.v1.instrument_pb2 import Instrument
from marketdata.v1.policy_pb2 import Policy
from mda.ingestion.datasets import Dataset
from mda.ingestion.judging import Prepared, Verdicts, judge, prepare
from mda.ingestion.sideline import Sideline
from mda.market.bits import CROSSED, LOCKED, OUT_OF_ORDER
from mda.tape.payload import decode_payload
from tests.ingestion.feeding import make_dataset, make_datasets
from tests.tape.helpers import NOW_NS, new_name, quotes, rows_of, trades


@pytest.fixture
async def dataset(client: Client) -> Dataset:
    return await make_dataset(client, new_name(), "A", "B")


async def prepared(dataset: Dataset, *batches: Batch, sideline: Sideline | None = None) -> Prepared:
    verdicts = await judge(dataset, batches, past_errors=False)
    assert not verdicts.errors
    sizes = [batch.rows for batch in batches]
    sideline = sideline or Sideline(dataset.quarantine, "p")
    return await prepare(sideline, range(1, len(batches) + 1), sizes, verdicts.parts)


async def put(dataset: Dataset, **policy: Any) -> None:
    await dataset.put_policy(Policy(**policy))


async def test_a_good_group_is_one_payload_without_verdicts(dataset: Dataset) -> None:
    made = await prepared(dataset, trades(1, 2), trades(3), quotes(1), trades(4))
    batches = decode_payload(made.payload)
    assert [(batch.kind, rows_of([batch])) for batch in batches] == [
        (Kind.TRADE, [1, 2, 3]),
        (Kind.QUOTE, [1]),
        (Kind.TRADE, [4]),
    ]
    assert all("verdicts" not in batch.columns for batch in batches)
    assert made.flagged_rows == made.quarantined_rows == [0, 0, 0, 0]


async def test_flagged_rows_are_counted_per_batch(dataset: Dataset) -> None:
    crossed = quotes(1, 3, bid_price=[30, 10, 30])
    late = quotes(9, 2, ts_event=[1, 2])
    made = await prepared(dataset, crossed, quotes(5), late, trades(1))
    assert made.flagged_rows == [2, 0, 2, 0]
    verdicts = decode_payload(made.payload)[0]["verdicts"].tolist()
    assert verdicts == [CROSSED, 0, CROSSED, 0, OUT_OF_ORDER, OUT_OF_ORDER]


async def test_verdicts_of_the_producer_are_not_taken_over(dataset: Dataset) -> None:
    made = await prepared(dataset, quotes(1, verdicts=[255]))
    assert decode_payload(made.payload)[0]["verdicts"].tolist() == [0]


async def test_rows_set_aside_are_counted_per_batch_and_not_in_the_payload(dataset: Dataset) -> None:
    await put(dataset, crossed=Policy.ACTION_QUARANTINE)
    crossed = quotes(1, 3, bid_price=[30, 10, 30])
    made = await prepared(dataset, crossed, trades(1), quotes(7, 2, bid_price=[30, 30]), quotes(9, ts_event=[NOW_NS]))
    assert made.quarantined_rows == [2, 0, 2, 0]
    assert made.flagged_rows == [0, 0, 0, 1]
    quote, trade, late = decode_payload(made.payload)
    assert (rows_of([quote]), rows_of([trade]), rows_of([late])) == ([2], [1], [9])
    assert ["verdicts" in batch.columns for batch in (quote, trade, late)] == [False, False, True]
    (entry,) = await dataset.quarantine.read(0)
    assert [(item.number, item.positions.tolist(), rows_of([item.batch])) for item in entry.items] == [
        (1, [0, 2], [1, 3]),
        (3, [0, 1], [7, 8]),
    ]
    assert entry.items[0].batch["verdicts"].tolist() == [CROSSED, CROSSED]


async def test_a_batch_of_many_rows_set_aside_is_several_items(dataset: Dataset) -> None:
    await put(dataset, locked=Policy.ACTION_QUARANTINE)
    made = await prepared(dataset, quotes(1, 2_500, bid_price=[20] * 2_500))
    assert (made.payload, made.quarantined_rows) == (b"", [2_500])
    (entry,) = await dataset.quarantine.read(0)
    assert [(item.number, item.batch.rows) for item in entry.items] == [(1, 1_000), (1, 1_000), (1, 500)]
    assert rows_of([item.batch for item in entry.items]) == list(range(1, 2_501))
    assert set(entry.items[2].batch["verdicts"].tolist()) == {LOCKED}


async def test_the_first_bad_batch_is_found_with_its_own_row(dataset: Dataset) -> None:
    batches = [trades(1, 2), trades(3, 2), trades(5, 3, instrument_id=[1, 2, 9]), trades(8, price=[-1])]
    verdicts = await judge(dataset, batches, past_errors=False)
    assert verdicts.good == [0, 1]
    assert rows_of([part.batch for part in verdicts.parts]) == [1, 2, 3, 4]
    ((position, error),) = verdicts.errors.items()
    assert position == 2
    assert (error.reason_name, error.metadata["row"], error.metadata["value"]) == ("UNKNOWN_INSTRUMENT_ID", "2", "9")
    assert await judge(dataset, [], past_errors=False) == Verdicts([], {}, [])


async def test_errors_of_several_callers_are_their_own(dataset: Dataset) -> None:
    batches = [trades(n, price=[-1 if n % 3 == 0 else 1]) for n in range(10)]
    verdicts = await judge(dataset, batches, past_errors=True)
    assert list(verdicts.errors) == [0, 3, 6, 9]
    assert verdicts.good == [1, 2, 4, 5, 7, 8]
    assert rows_of([part.batch for part in verdicts.parts]) == verdicts.good


async def test_what_is_refused_by_comparison_leaves_no_trace(dataset: Dataset) -> None:
    await put(dataset, out_of_order=Policy.ACTION_REJECT)
    batches = [trades(5), trades(9, 2, ts_event=[NOW_NS + 9, NOW_NS]), trades(6), trades(4)]
    verdicts = await judge(dataset, batches, past_errors=True)
    assert verdicts.good == [0, 2]
    assert {position: error.metadata["row"] for position, error in verdicts.errors.items()} == {1: "1", 3: "0"}


async def test_another_policy_begins_without_prices_and_sequences(dataset: Dataset) -> None:
    await put(dataset, duplicate_sequence=Policy.ACTION_FLAG)
    assert (await prepared(dataset, trades(1), trades(1))).flagged_rows == [0, 1]
    await put(dataset)
    assert (await prepared(dataset, trades(2))).flagged_rows == [0]
    await put(dataset, duplicate_sequence=Policy.ACTION_FLAG)
    assert (await prepared(dataset, trades(1, ts_event=[NOW_NS + 2]), trades(3))).flagged_rows == [0, 0]


async def test_an_instrument_that_another_instance_put_is_looked_up(client: Client, dataset: Dataset) -> None:
    name = dataset.tape.dataset
    other = await make_datasets(client).get(name)
    await other.put_instruments([Instrument(symbol="NEW")])
    assert len(dataset.directory) == 2
    assert (await judge(dataset, [trades(1), trades(2, instrument_id=[3])], past_errors=False)).good == [0, 1]
    assert len(dataset.directory) == 3


async def test_rows_of_an_unknown_instrument_may_be_set_aside(dataset: Dataset) -> None:
    await put(dataset, unknown_instrument=Policy.ACTION_QUARANTINE, not_a_price=Policy.ACTION_QUARANTINE)
    made = await prepared(dataset, trades(1, 4, instrument_id=[0, 9, 1, 2], price=[1, 1, 1, ABSENT]))
    assert made.quarantined_rows == [3]
    assert rows_of(decode_payload(made.payload)) == [3]
