"""Unary publishing: many callers, few entries, and each answered for its own rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from nats.aio.client import Client
from opentelemetry import trace

from mda.ingestion import appender as appender_module
from mda.ingestion.datasets import Dataset
from mda.ingestion.rows import Published, RowPublisher
from mda.market.errors import MarketDataError
from mda.tape.log import Log
from tests.ingestion.feeding import make_dataset
from tests.tape.helpers import new_name, quotes, rows_on_tape, running, trades
from tests.tape.nats_server import NatsServer


@pytest.fixture
async def dataset(client: Client) -> Dataset:
    return await make_dataset(client, new_name(), "A")


@pytest.fixture
async def publisher(dataset: Dataset) -> AsyncIterator[RowPublisher]:
    made = RowPublisher(dataset)
    async with running(made.run()):
        yield made


async def test_a_call_returns_its_place(publisher: RowPublisher) -> None:
    assert await publisher.publish(trades(1)) == Published(1, 0)
    assert await publisher.publish(quotes(1, bid_price=[99])) == Published(2, 1)


async def test_concurrent_callers_are_joined_in_few_entries(
    publisher: RowPublisher, dataset: Dataset, client: Client
) -> None:
    results = await asyncio.gather(*(publisher.publish(trades(number)) for number in range(200)))
    entries = len(await dataset.tape.read(0))
    assert entries <= 10
    assert {result.sequence for result in results} == set(range(1, entries + 1))
    assert sorted(await rows_on_tape(client, dataset.tape.dataset)) == list(range(200))


async def test_one_callers_bad_row_harms_no_other(publisher: RowPublisher, dataset: Dataset, client: Client) -> None:
    batches = [trades(n, price=[-1 if n % 3 == 0 else 1]) for n in range(30)]
    results = await asyncio.gather(*(publisher.publish(batch) for batch in batches), return_exceptions=True)
    refused = [number for number, result in enumerate(results) if isinstance(result, MarketDataError)]
    assert refused == list(range(0, 30, 3))
    assert all(isinstance(results[n], Published) for n in range(30) if n % 3)
    good = [number for number in range(30) if number % 3]
    assert sorted(await rows_on_tape(client, dataset.tape.dataset)) == good


async def test_each_caller_is_told_of_its_own_flagged_rows(publisher: RowPublisher) -> None:
    odd = [quotes(n, 4, bid_price=[99] * (n % 5) + [1] * (4 - n % 5)) for n in range(0, 60, 4)]
    results = await asyncio.gather(*(publisher.publish(batch) for batch in odd))
    assert [result.flagged_rows for result in results] == [n % 5 for n in range(0, 60, 4)]


async def test_errors_reach_all_of_a_group_and_the_next_calls_go_on(client: Client) -> None:
    dataset = await make_dataset(client, new_name(), "A", tape_max_bytes=1 << 20)
    publisher = RowPublisher(dataset)
    async with running(publisher.run()):
        large = [trades(n * 7_000, 7_000, ts_recv=[1] * 7_000, size=[1] * 7_000) for n in range(4)]
        results = await asyncio.gather(*(publisher.publish(batch) for batch in large), return_exceptions=True)
        reasons = [result.reason_name for result in results if isinstance(result, MarketDataError)]
        assert reasons == ["TAPE_FULL"] * 4  # one entry, too large for the tape
        assert (await publisher.publish(trades(1, 10))).flagged_rows == 0
        assert (await publisher.publish(trades(11, 10))).sequence == 2


async def test_a_caller_that_goes_away_harms_nobody(publisher: RowPublisher, dataset: Dataset, client: Client) -> None:
    calls = [asyncio.create_task(publisher.publish(trades(number))) for number in range(20)]
    await asyncio.sleep(0)
    assert len(publisher._waiting) == 20
    for call in calls[::2]:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, Published) for result in results[1::2])
    assert publisher._waiting == {}
    assert set(range(1, 20, 2)) <= set(await rows_on_tape(client, dataset.tape.dataset))


async def test_goes_on_after_an_append_without_answer(
    own_nats: NatsServer, own_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender_module, "_GIVE_UP_S", 0)
    dataset = await make_dataset(own_client, new_name(), "A")
    tape = dataset.tape
    tape._log = Log(own_client, tape._log.stream, f"{tape._prefix}.>", timeout_s=0.3)
    publisher = RowPublisher(dataset)
    async with running(publisher.run()):
        await publisher.publish(trades(1))
        own_nats.pause()
        with pytest.raises(MarketDataError, match="does not answer"):
            await publisher.publish(trades(2))
        own_nats.resume()

        async def publish() -> Published:
            while True:
                with suppress(MarketDataError):
                    return await publisher.publish(trades(3))

        await asyncio.wait_for(publish(), 10)
        await publisher.publish(trades(4))
    numbers = await rows_on_tape(own_client, tape.dataset)
    assert numbers[0] == 1
    assert numbers[-1] == 4
    assert set(numbers) >= {1, 3, 4}


async def test_an_entry_carries_the_trace_of_its_first_caller(publisher: RowPublisher, dataset: Dataset) -> None:
    for number in (0xA1, 0xB2):
        context = trace.SpanContext(number, 1, is_remote=True, trace_flags=trace.TraceFlags(1))
        with trace.use_span(trace.NonRecordingSpan(context)):
            await publisher.publish(trades(number))
    parents = [entry.headers["traceparent"].split("-")[1] for entry in await dataset.tape.read(0)]
    assert parents == [f"{0xA1:032x}", f"{0xB2:032x}"]


async def test_two_publishers_of_a_dataset_do_not_fence_each_other(
    publisher: RowPublisher, dataset: Dataset, client: Client
) -> None:
    other = RowPublisher(dataset)
    async with running(other.run()):
        await asyncio.gather(*(which.publish(trades(n)) for n, which in enumerate([publisher, other] * 20)))
    assert sorted(await rows_on_tape(client, dataset.tape.dataset)) == list(range(40))
