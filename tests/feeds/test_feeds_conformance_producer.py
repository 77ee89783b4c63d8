"""The conformance feed's producer against real auth and ingestion: every batch once, whichever connection dies."""

from __future__ import annotations

from collections.abc import AsyncIterator

import nats
import pytest
from feed_api import Api

from marketdata.client import Client
from marketdata.columns import Kind
from marketdata.errors import ApiError
from mda.feeds import conformance_producer
from mda.feeds.conformance_producer import ConformanceError, Producer
from mda.feeds.conformance_rows import FIRST, NEW, PROFILES, Source
from mda.tape.payload import decode_payload
from mda.tape.tape import Tape

START = 1_700_000_000_000_000_000


@pytest.fixture
async def client(api: Api) -> AsyncIterator[Client]:
    async with Client.connect(api.url, api.api_key) as connected:
        await connected.put_instruments("X", [PROFILES[place - 1].instrument() for place in FIRST])
        yield connected


async def sequences_on_the_tape(nats_url: str) -> list[int]:
    connected = await nats.connect(nats_url)
    try:
        entries = await Tape(connected, "X").read(0)
        batches = [batch for stored in entries for batch in decode_payload(stored.entry.payload)]
        return [number for batch in batches for number in batch["sequence"].tolist()]
    finally:
        await connected.close()


async def test_each_batch_is_once_on_the_tape_through_crashes(client: Client, nats_url: str) -> None:
    source = Source(1, START)
    async with Producer.open(client, "X", "p") as producer:
        for number in range(1, 31):
            assert await producer.publish(source.batch(Kind.QUOTE, 10)) == number
            if number % 10 == 0:
                await producer.crash()
        await producer.flush()
        await producer.crash()
        assert await producer.take_over(source.batch(Kind.QUOTE, 10)) == 31
        await producer.flush()
    assert producer.unacknowledged_rows >= 100
    assert producer.sent_again >= 1
    assert await sequences_on_the_tape(nats_url) == list(range(1, 311))


async def test_no_more_is_kept_than_so_many_rows(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance_producer, "_KEPT_ROWS", 25)
    source = Source(1, START)
    async with Producer.open(client, "X", "p") as producer:
        kept: list[int] = []
        for _ in range(4):
            await producer.publish(source.batch(Kind.QUOTE, 10))
            kept.append(sum(batch.rows for _, batch in producer._kept))
    assert kept == [10, 20, 0, 10]


async def test_an_older_connection_that_is_not_fenced_off_is_an_error(client: Client) -> None:
    async with client.publisher("X", "p") as publisher:
        with pytest.raises(ConformanceError, match="not fenced off"):
            await conformance_producer._expect_fenced(publisher, Source(1, START).batch(Kind.QUOTE, 1))


async def test_another_refusal_than_fencing_is_told(client: Client) -> None:
    unknown = Source(1, START).batch(Kind.QUOTE, 1, [NEW])
    async with Producer.open(client, "X", "p") as producer:
        with pytest.raises(ApiError) as caught:
            await conformance_producer._expect_fenced(producer._connection.publisher, unknown)
    assert caught.value.reason == "UNKNOWN_INSTRUMENT_ID"


async def test_batches_that_the_server_lost_are_an_error(client: Client) -> None:
    batch = Source(1, START).batch(Kind.QUOTE, 1)
    async with Producer.open(client, "X", "p") as producer:
        producer._keep(3, batch)  # as if 1 and 2 had been acknowledged
        with pytest.raises(ConformanceError, match="lost batches 1 to 2"):
            await producer.crash()
