"""One producer's stream: numbered batches in, outcomes out, in order."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import aclosing, suppress
from typing import Any

import pytest
from nats.aio.client import Client

from marketdata.columns import MAX_ROWS, Batch
from marketdata.ingestion.v1.ingestion_service_pb2 import Batches, NumberedBatch, PublishRequest
from mda.ingestion import appender as appender_module
from mda.ingestion.commit import Numbered
from mda.ingestion.datasets import Dataset, Datasets
from mda.ingestion.publication import Outcome, Publication
from mda.ingestion.reading import read_batches
from mda.ingestion.settings import IngestionSettings
from mda.market.errors import MarketDataError, draining
from mda.tape import log as log_module
from mda.tape.payload import decode_payload
from tests.ingestion.feeding import make_dataset
from tests.tape.helpers import eventually, new_name, quotes, rows_on_tape, running, trades
from tests.tape.nats_server import NatsServer


@pytest.fixture
async def dataset(client: Client) -> Dataset:
    return await make_dataset(client, new_name(), "A")


async def opened(dataset: Dataset, producer: str = "p") -> Publication:
    publication = Publication(dataset, producer)
    await publication.open()
    return publication


async def outcomes_of(publication: Publication) -> list[Outcome]:
    return [outcome async for group in publication.outcomes() for outcome in group]


async def publish(publication: Publication, *numbered: tuple[int, Batch]) -> list[Outcome]:
    """Submit batches, end the stream, and return all outcomes."""
    for number, batch in numbered:
        await publication.submit(Numbered(number, batch))
    publication.close()
    return await outcomes_of(publication)


async def failure_of(publication: Publication, seen: list[Outcome]) -> MarketDataError:
    """Return what the outcomes end with, and note those before it."""
    with pytest.raises(MarketDataError) as caught:
        async for group in publication.outcomes():
            seen += group
    return caught.value


async def test_batches_that_gather_are_one_entry_with_an_outcome_each(dataset: Dataset, client: Client) -> None:
    publication = await opened(dataset)
    outcomes = await publish(publication, *((number, trades(number)) for number in range(1, 6)))
    assert outcomes == [Outcome(number, 2, 0) for number in range(1, 6)]
    claim, entry = await dataset.tape.read(0)
    assert claim.entry.payload == b""
    assert (entry.entry.first_number, entry.entry.last_number) == (1, 5)
    assert entry.entry.instruments_version == dataset.directory.version == 1
    assert await rows_on_tape(client, dataset.tape.dataset) == [1, 2, 3, 4, 5]


async def test_outcomes_come_while_batches_come(dataset: Dataset) -> None:
    publication = await opened(dataset)
    seen: list[int] = []

    async def take() -> None:
        async for group in publication.outcomes():
            seen.extend(outcome.number for outcome in group)

    async with running(take()) as (taking,):
        for number in range(1, 11):
            await publication.submit(Numbered(number, trades(number)))
            await eventually(lambda due=number: seen[-1:] == [due])
        publication.close()
        await taking
    assert seen == list(range(1, 11))


async def test_flagged_rows_are_told_per_batch(dataset: Dataset) -> None:
    publication = await opened(dataset)
    odd = quotes(2, 3, bid_price=[30, 1, 30])
    assert [o.flagged_rows for o in await publish(publication, (1, quotes(1)), (2, odd), (3, quotes(9)))] == [0, 2, 0]


async def test_a_resend_is_acknowledged_and_not_written(dataset: Dataset, client: Client) -> None:
    await publish(await opened(dataset), (1, trades(1)), (2, trades(2)))
    publication = Publication(dataset, "p")
    assert await publication.open() == 2
    outcomes = await publish(publication, *((number, trades(number)) for number in range(1, 5)))
    assert outcomes == [Outcome(1, 0, duplicate=True), Outcome(2, 0, duplicate=True), Outcome(3, 4), Outcome(4, 4)]
    assert await rows_on_tape(client, dataset.tape.dataset) == [1, 2, 3, 4]


async def test_a_resend_after_an_hour_is_acknowledged_by_another_instance(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no window: what NATS knows of ids is over, and the instance that wrote is gone."""
    monkeypatch.setattr(log_module, "_DUPLICATES_S", 0.1)
    name = new_name()
    dataset = await make_dataset(client, name, "A")
    config = (await client.jetstream().stream_info(dataset.tape._log.stream)).config
    assert config.duplicate_window == pytest.approx(0.1)
    await publish(await opened(dataset), (1, trades(1)), (2, trades(2)))
    await asyncio.sleep(0.5)
    later = Datasets(client, IngestionSettings(), lambda: time.time_ns() + 3_600_000_000_000)
    again = await opened(await later.get(name))
    assert await publish(again, (1, trades(1)), (2, trades(2)), (3, trades(3))) == [
        Outcome(1, 0, duplicate=True),
        Outcome(2, 0, duplicate=True),
        Outcome(3, 4),
    ]
    assert await rows_on_tape(client, name) == [1, 2, 3]


async def test_a_resend_of_nothing_new_is_acknowledged_while_the_stream_is_open(dataset: Dataset) -> None:
    await publish(await opened(dataset), (1, trades(1)), (2, trades(2)))
    publication = await opened(dataset)
    async with aclosing(publication.outcomes()) as outcomes:
        await publication.submit(Numbered(2, trades(2)))
        assert await asyncio.wait_for(anext(outcomes), 5) == [Outcome(2, 0, duplicate=True)]


async def test_a_resend_on_the_same_stream_before_its_outcome_is_not_written(dataset: Dataset, client: Client) -> None:
    publication = await opened(dataset)
    numbers = [1, 2, 1, 3, 2, 3, 4, 1]
    outcomes = await publish(publication, *((number, trades(number)) for number in numbers))
    assert sorted(outcome.number for outcome in outcomes) == sorted(numbers)
    assert [outcome.number for outcome in outcomes if outcome.sequence] == [1, 2, 3, 4]
    assert await rows_on_tape(client, dataset.tape.dataset) == [1, 2, 3, 4]
    again = Publication(dataset, "p")
    assert await again.open() == 4


@pytest.mark.parametrize("seed", range(4))
async def test_any_resending_writes_each_batch_once_in_order(dataset: Dataset, client: Client, seed: int) -> None:
    chance = random.Random(seed)
    known = 0
    while known < 40:
        publication = Publication(dataset, "p")
        last = await publication.open()
        assert last == known or known == 0
        number, numbers = chance.randrange(max(last - 5, 0), last + 1) + 1, []
        for _ in range(chance.randrange(1, 12)):
            numbers.append(number)
            known = max(known, number)
            number = chance.choice([number + 1, number + 1, max(number - chance.randrange(3), 1)])
        outcomes = await publish(publication, *((number, trades(number)) for number in numbers))
        assert sorted(outcome.number for outcome in outcomes) == sorted(numbers)
    assert await rows_on_tape(client, dataset.tape.dataset) == list(range(1, known + 1))


@pytest.mark.parametrize(("number", "following"), [(0, 1), (2, 1), (7, 1)])
async def test_a_hole_is_refused(dataset: Dataset, number: int, following: int) -> None:
    publication = await opened(dataset)
    with pytest.raises(MarketDataError) as caught:
        await publication.submit(Numbered(number, trades(1)))
    assert caught.value.reason_name == "BATCH_OUT_OF_SEQUENCE"
    assert (caught.value.metadata["number"], caught.value.metadata["next"]) == (str(number), str(following))


async def test_a_hole_after_batches_tells_the_next_number(dataset: Dataset) -> None:
    publication = await opened(dataset)
    await publication.submit(Numbered(1, trades(1)))
    await publication.submit(Numbered(2, trades(2)))
    with pytest.raises(MarketDataError, match="from 3 on"):
        await publication.submit(Numbered(4, trades(4)))


async def test_an_error_of_the_stream_comes_after_the_outcomes(dataset: Dataset, client: Client) -> None:
    publication = await opened(dataset)
    await publication.submit(Numbered(1, trades(1)))
    publication.close(draining())
    seen: list[Outcome] = []
    assert (await failure_of(publication, seen)).reason_name == "DRAINING"
    assert [outcome.number for outcome in seen] == [1]
    assert await rows_on_tape(client, dataset.tape.dataset) == [1]


async def test_a_bad_batch_ends_the_stream_after_the_good_ones_before_it(dataset: Dataset, client: Client) -> None:
    publication = await opened(dataset)
    batches = [trades(1), trades(2), trades(3, 2, price=[1, -1]), trades(5)]
    for number, batch in enumerate(batches, 1):
        await publication.submit(Numbered(number, batch))
    seen: list[Outcome] = []
    error = await failure_of(publication, seen)
    assert (error.reason_name, error.metadata["row"]) == ("NOT_A_PRICE", "1")
    assert [outcome.number for outcome in seen] == [1, 2]
    assert await rows_on_tape(client, dataset.tape.dataset) == [1, 2]
    assert await Publication(dataset, "p").open() == 2


async def test_a_bad_first_batch_writes_nothing(dataset: Dataset) -> None:
    publication = await opened(dataset)
    await publication.submit(Numbered(1, trades(1, instrument_id=[5])))
    seen: list[Outcome] = []
    assert (await failure_of(publication, seen)).reason_name == "UNKNOWN_INSTRUMENT_ID"
    assert seen == []
    assert [stored.entry.payload for stored in await dataset.tape.read(0)] == [b""]  # the claim of opening


async def test_a_newer_stream_of_a_producer_fences_the_older(dataset: Dataset, client: Client) -> None:
    older, newer = await opened(dataset), await opened(dataset)
    await publish(newer, (1, trades(1)))
    await older.submit(Numbered(1, trades(100)))
    assert (await failure_of(older, [])).reason_name == "FENCED"
    assert await rows_on_tape(client, dataset.tape.dataset) == [1]


async def test_rows_that_come_again_after_a_failure_are_not_late(client: Client) -> None:
    dataset = await make_dataset(client, new_name(), "A", tape_max_bytes=1 << 20)
    first = await opened(dataset)
    ballast = trades(1, 30_000, size=[1] * 30_000, ts_recv=[1] * 30_000)  # too large for what is left of the tape
    await first.submit(Numbered(1, ballast))
    await first.submit(Numbered(2, trades(40_000)))
    assert (await failure_of(first, [])).reason_name == "TAPE_FULL"
    again = await opened(dataset)
    outcomes = await publish(again, (1, trades(1, 100)))
    assert [outcome.flagged_rows for outcome in outcomes] == [0]
    *_, entry = await dataset.tape.read(0)
    assert "verdicts" not in decode_payload(entry.entry.payload)[0].columns


async def test_a_tape_that_stays_away_ends_the_stream(
    own_nats: NatsServer, own_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender_module, "_GIVE_UP_S", 0)
    dataset = await make_dataset(own_client, new_name(), "A")
    publication = await opened(dataset)
    await publication.submit(Numbered(1, trades(1)))
    own_nats.kill()
    assert (await failure_of(publication, [])).reason_name == "TAPE_UNAVAILABLE"


async def test_a_stream_that_is_cut_off_can_be_taken_up_by_the_next(dataset: Dataset, client: Client) -> None:
    first = await opened(dataset)
    seen: list[int] = []

    async def take(publication: Publication) -> None:
        async for group in publication.outcomes():
            seen.extend(outcome.number for outcome in group)

    async with running(take(first)):
        for number in range(1, 200):
            await first.submit(Numbered(number, trades(number, 50)))
            await asyncio.sleep(0)
        await eventually(lambda: len(seen) > 20)  # and cancelled in the middle
    last = 0
    async with asyncio.timeout(10):
        while last < 249:  # an append that was under way may come in between
            second = Publication(dataset, "p")
            last = await second.open()
            assert last >= seen[-1]
            with suppress(MarketDataError):
                await publish(second, *((number, trades(number, 50)) for number in range(last + 1, 250)))
    numbers = await rows_on_tape(client, dataset.tape.dataset)
    assert numbers == [row for number in range(1, 250) for row in range(number, number + 50)]


def message(**batch: Any) -> bytes:
    return PublishRequest(batch=NumberedBatch(number=3, batch=batch)).SerializeToString()


def together(*batches: NumberedBatch) -> bytes:
    return PublishRequest(batches=Batches(batches=batches)).SerializeToString()


ONE: dict[str, Any] = {"rows": 1, "trades": {"instrument_id": [1], "ts_event": [5], "price": [7]}}


@pytest.mark.parametrize("odd", [b"", b"\xf8\x07\x01"], ids=["usual", "with a field that we do not know"])
def test_a_message_of_several_batches_is_read_in_order(odd: bytes) -> None:
    data = together(*(NumberedBatch(number=number, batch=ONE) for number in (3, 4, 1 << 40))) + odd
    assert [item.number for item in read_batches(data)] == [3, 4, 1 << 40]


def test_the_batches_before_a_bad_one_are_read() -> None:
    data = together(NumberedBatch(number=1, batch=ONE), NumberedBatch(number=2, batch={"rows": 1}))
    batches = read_batches(data)
    assert next(batches).number == 1
    with pytest.raises(MarketDataError) as caught:
        next(batches)
    assert caught.value.reason_name == "EMPTY_BATCH"


def test_a_message_is_read_with_its_number() -> None:
    columns = {"instrument_id": [1, 1], "ts_event": [5, 6], "price": [7, 8]}
    (item,) = read_batches(message(rows=2, trades=columns))
    assert (item.number, item.batch.rows, item.batch["price"].tolist()) == (3, 2, [7, 8])


BAD: dict[str, tuple[bytes, str, str | None]] = {
    "no message": (b"\xff\xff", "MALFORMED_MESSAGE", None),
    "an opening": (PublishRequest(open=PublishRequest.Open(dataset="X")).SerializeToString(), "OUT_OF_TURN", "open"),
    "nothing": (b"", "OUT_OF_TURN", "open"),
    "no batches": (together(), "INVALID_FIELD", "batches.batches"),
    "no rows": (message(trades={"instrument_id": [1]}), "EMPTY_BATCH", "batch.rows"),
    "no columns": (message(rows=1), "EMPTY_BATCH", "batch.rows"),
    "many rows": (message(rows=MAX_ROWS + 1), "BATCH_TOO_LARGE", "batch.rows"),
    "a short column": (
        message(rows=2, trades={"instrument_id": [1, 1], "ts_event": [5], "price": [7, 8]}),
        "RAGGED_COLUMN",
        "batch.trades.ts_event",
    ),
    "a required column left out": (
        message(rows=1, trades={"instrument_id": [1], "ts_event": [5]}),
        "RAGGED_COLUMN",
        "batch.trades.price",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_messages_are_refused(name: str) -> None:
    data, reason, field = BAD[name]
    with pytest.raises(MarketDataError) as caught:
        list(read_batches(data))
    assert (caught.value.reason_name, caught.value.field) == (reason, field)
