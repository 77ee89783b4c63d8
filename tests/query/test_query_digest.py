"""The digest of a stretch of the tape: that of the rows that a subscription delivers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from marketdata.client import Client as ApiClient
from marketdata.columns import Batch, Kind, from_message
from marketdata.digest import Digest, digest_of
from marketdata.errors import ApiError
from marketdata.query.v1.query_service_pb2 import GetDigestRequest, SubscribeResponse
from marketdata.subscriber import Start
from marketdata.v1.instrument_pb2 import Instrument
from marketdata.wire import parse
from mda.market.errors import MarketDataError
from mda.query import digest as digest_module
from mda.query import tiers
from mda.query.digest import TapeDigest, tape_digest
from mda.query.hub import Hub
from mda.query.ring import Ring
from mda.query.selection import select
from tests.client.servers import whole_api
from tests.query.feeding import Feed, Reader, make_feed, opened, reading
from tests.tape.helpers import eventually, new_name, quotes, running, trades
from tests.tape.nats_server import NatsServer

RING_BYTES = {"ring": 1 << 26, "tape": 1}
SYMBOLS = "ABC"
WANTED: list[tuple[Any, Any]] = [
    (None, []),
    (["A", "C"], []),
    (["B"], ["KIND_QUOTE"]),
    (None, ["KIND_TRADE"]),
    (None, ["KIND_TRADE", "KIND_QUOTE"]),
    (None, ["KIND_UNSPECIFIED"]),
]


async def _ask(hub: Hub, symbols: Sequence[str] | None = None, within_s: float = 60, **request: Any) -> TapeDigest:
    ids = None if symbols is None else [SYMBOLS.index(symbol) + 1 for symbol in symbols]
    return await tape_digest(hub, GetDigestRequest(dataset=hub.dataset, **request), ids, within_s=within_s)


def _digest(batches: Sequence[Batch]) -> Digest:
    return sum(map(digest_of, batches), Digest())


def _received(data: bytes) -> Digest:
    return _digest([from_message(batch) for batch in parse(SubscribeResponse, data).batches])


def _all_received(reader: Reader) -> Digest:
    return sum(map(_received, reader.data), Digest())


async def _write(feed: Feed, entries: int, rows: int = 3) -> list[Batch]:
    """Write entries of all sorts; return their batches."""
    chance = random.Random(entries)
    written: list[Batch] = []
    for number in range(0, entries * rows, rows):
        batches: list[Batch] = []
        for make in chance.choice([(trades,), (quotes,), (trades, quotes), (quotes, trades, quotes)]):
            optional = {"ts_recv": range(rows), "verdicts": [number] * rows}
            columns = {name: values for name, values in optional.items() if chance.random() < 0.4}
            ids = [chance.randrange(1, 4) for _ in range(rows)]
            batches.append(make(number, rows, instrument_id=ids, **columns))
        await feed.write(*batches)
        written += batches
    return written


@pytest.mark.parametrize("source", RING_BYTES)
@pytest.mark.parametrize(("symbols", "kinds"), WANTED)
async def test_it_is_that_of_what_a_subscription_delivers(
    client: Client, source: str, symbols: Any, kinds: Any
) -> None:
    feed = await make_feed(client)
    async with opened(feed, ring_bytes=RING_BYTES[source]) as hub:
        start = hub.cursor(0)
        async with reading(hub, symbols, kinds=kinds) as reader:
            await eventually(lambda: bool(reader.messages))
            await _write(feed, 40)
            await eventually(lambda: reader.subscription.position == 40)
            found = await _ask(hub, symbols, kinds=kinds, after=start, until=reader.cursor)
    assert found.digest == _all_received(reader)
    assert found.digest.rows == len(reader.rows) > 20
    assert (found.cursor, found.complete) == (reader.cursor, True)


@pytest.mark.parametrize("source", RING_BYTES)
async def test_it_is_that_of_any_stretch(client: Client, source: str) -> None:
    feed = await make_feed(client)
    async with opened(feed, ring_bytes=RING_BYTES[source]) as hub:
        async with reading(hub, ["A", "B"]) as reader:
            await eventually(lambda: bool(reader.messages))
            await _write(feed, 30)
            await eventually(lambda: reader.subscription.position == 30)
        places = [(message.cursor, data) for message, data in zip(reader.messages, reader.data, strict=True)]
        places = [(cursor, data) for cursor, data in places if cursor]
        for first, last in ((0, 1), (3, 9), (5, 5), (len(places) // 2, len(places) - 1)):
            found = await _ask(hub, ["A", "B"], after=places[first][0], until=places[last][0])
            expected = sum((_received(data) for _, data in places[first + 1 : last + 1]), Digest())
            assert found == TapeDigest(expected, places[last][0], complete=True)


@pytest.mark.parametrize("source", RING_BYTES)
@pytest.mark.parametrize("until", [True, False])
async def test_what_takes_long_comes_in_parts_that_add_up(client: Client, source: str, until: bool) -> None:
    feed = await make_feed(client)
    written = await _write(feed, 12)
    async with opened(feed, ring_bytes=RING_BYTES[source]) as hub:
        end = hub.cursor(12) if until else ""
        after, total, parts = "", Digest(), 0
        while True:
            part = await _ask(hub, within_s=0, after=after, until=end)
            total, after, parts = total + part.digest, part.cursor, parts + 1
            assert await hub.place(after, "after") == parts  # one entry each
            if part.complete:
                break
    assert parts == 12
    assert total == _digest(written)


async def test_a_dataset_without_rows_has_the_digest_of_none(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub:
        assert await _ask(hub) == TapeDigest(Digest(), hub.cursor(0), complete=True)
        written = await _write(feed, 2)
        await eventually(lambda: hub.head == 2)
        assert (await _ask(hub)).digest == _digest(written)
        nothing = await _ask(hub, after=hub.cursor(1), until=hub.cursor(1))
        assert nothing == TapeDigest(Digest(), hub.cursor(1), complete=True)


async def test_many_small_entries_and_large_ones(client: Client) -> None:
    feed = await make_feed(client)
    written: list[Batch] = []
    for rows in [1] * 300 + [9000, 1, 20_000, 1, 1]:
        written.append(trades(len(written), rows, size=[1] * rows))
        await feed.write(written[-1])
    async with opened(feed, ring_bytes=1) as hub:
        assert await _ask(hub) == TapeDigest(_digest(written), hub.cursor(305), complete=True)


async def test_it_begins_with_what_the_tape_still_holds(client: Client) -> None:
    feed = await make_feed(client, max_bytes=20_000, keep_s=3600)
    written: list[Batch] = []
    for number in range(0, 1600, 20):
        written.append(trades(number, 20))
        await feed.write(written[-1])
    async with opened(feed, ring_bytes=1) as hub:
        earliest = await hub.earliest()
        assert 0 < earliest < 80
        assert await _ask(hub) == TapeDigest(_digest(written[earliest:]), hub.cursor(80), complete=True)
        for field in ("after", "until"):
            with pytest.raises(MarketDataError) as caught:
                await _ask(hub, **{field: hub.cursor(earliest - 1)})
            assert (caught.value.reason_name, caught.value.field) == ("CURSOR_OUT_OF_RANGE", field)


@pytest.mark.parametrize("field", ["after", "until"])
async def test_what_is_no_cursor_of_the_dataset_is_refused(client: Client, field: str) -> None:
    feed, other = await make_feed(client), await make_feed(client)
    async with opened(feed) as hub, opened(other) as other_hub:
        for token in ("nonsense", "!", other_hub.cursor(0), hub.cursor(0)[:-1]):
            with pytest.raises(MarketDataError) as caught:
                await _ask(hub, **{field: token})
            assert (caught.value.reason_name, caught.value.field) == ("INVALID_CURSOR", field)


async def test_the_end_is_not_before_the_beginning(client: Client) -> None:
    feed = await make_feed(client)
    await _write(feed, 3)
    async with opened(feed) as hub:
        with pytest.raises(MarketDataError) as caught:
            await _ask(hub, after=hub.cursor(2), until=hub.cursor(1))
        assert (caught.value.reason_name, caught.value.field) == ("INVALID_FIELD", "until")


async def test_places_of_a_replica_that_is_ahead(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies beyond what this one has taken in is waited for, or left for the next call."""
    monkeypatch.setattr(tiers, "_CATCH_UP_S", 0.05)
    feed = await make_feed(client)
    async with opened(feed) as ahead:
        behind = Hub(client, feed.dataset, 1000)
        await behind.open()
        written = await _write(feed, 3)
        await eventually(lambda: ahead.head == 3)
        until = ahead.cursor(3)
        with pytest.raises(MarketDataError, match="still being read") as caught:
            await _ask(behind, after=until)
        assert caught.value.reason_name == "TAPE_UNAVAILABLE"
        part = await _ask(behind, until=until, within_s=0.05)
        assert part == TapeDigest(Digest(), behind.cursor(0), complete=False)
        asked = asyncio.create_task(_ask(behind, until=until))
        await asyncio.sleep(0.05)
        assert not asked.done()
        async with running(behind.run()):
            found = await asyncio.wait_for(asked, 10)
        assert await _ask(behind, after=until) == TapeDigest(Digest(), behind.cursor(3), complete=True)
    assert (found.digest, found.complete) == (_digest(written), True)


async def test_streams_have_their_turn_meanwhile(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_module, "_TURN_S", 0)
    feed = await make_feed(client)
    await _write(feed, 200)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with opened(feed) as hub, running(others()):
        await asyncio.sleep(0)
        before = turns
        stretch = digest_module._Reading(hub, select(None), 0, 200)
        await stretch.run(time.monotonic() + 60)
    assert turns - before >= 199


async def test_the_ring_holds_no_more_than_before(client: Client) -> None:
    feed = await make_feed(client)
    await _write(feed, 100)
    async with opened(feed) as hub:
        await _ask(hub)
        entries = hub.in_ring(0, 100)
        assert entries is not None
        assert all(entry._batches is None for entry in entries[:30])


async def _deletable(client: Client) -> Feed:
    """Return a feed whose tape lets entries be deleted, as none that we make does."""
    feed = await make_feed(client)
    jetstream = client.jetstream()
    config = (await jetstream.stream_info(f"TAPE_{feed.dataset}")).config
    await jetstream.delete_stream(f"TAPE_{feed.dataset}")
    config.deny_delete = False
    await jetstream.add_stream(config)
    return feed


@pytest.mark.parametrize("gone", [2, 3, 5])
async def test_where_the_tape_has_holes_it_is_of_what_is_there(client: Client, gone: int) -> None:
    feed = await _deletable(client)
    written = [trades(number) for number in range(6)]
    for batch in written:
        await feed.write(batch)
    async with opened(feed, ring_bytes=1) as hub:
        await client.jetstream().delete_msg(f"TAPE_{feed.dataset}", gone)
        for until in (gone, 6):
            found = await _ask(hub, until=hub.cursor(until))
            expected = [batch for number, batch in enumerate(written[:until], 1) if number != gone]
            assert found == TapeDigest(_digest(expected), hub.cursor(until), complete=True)


async def test_where_the_newest_entry_is_lost_the_end_is_reached(client: Client) -> None:
    feed = await _deletable(client)
    written = [trades(number) for number in range(3)]
    for batch in written:
        await feed.write(batch)
    async with opened(feed) as hub:
        await client.jetstream().delete_msg(f"TAPE_{feed.dataset}", 3)
        hub._ring = Ring(1)  # as if it were of a while ago
        assert await _ask(hub) == TapeDigest(_digest(written[:2]), hub.cursor(3), complete=True)


async def test_a_client_checks_what_it_has_received(
    nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MDA_INGESTION_TAPE_MAX_BYTES", str(1 << 26))
    monkeypatch.setattr("mda.query.servicer.tape_digest", partial(tape_digest, within_s=0))
    dataset = new_name("API")
    async with whole_api(nats.url, tmp_path) as api, ApiClient.connect(api.url, api.api_key) as client:
        await client.put_instruments(dataset, [Instrument(symbol=symbol) for symbol in SYMBOLS])
        _, start = await client.digest(dataset)
        batches = [quotes(1, 3, instrument_id=[1, 2, 3]), trades(4, 2, instrument_id=[3, 1])]
        for batch in batches:
            async with client.publisher(dataset, "p") as publisher:
                await publisher.publish(batch)
        received, cursor = Digest(), start
        async for update in client.subscribe(dataset, start=Start(cursor=start)):
            received += _digest(update.batches)
            cursor = update.cursor or cursor
            if received.rows == 5:
                break
        assert received == _digest(batches)
        assert await client.digest(dataset, after=start, until=cursor) == (received, cursor)
        assert await client.digest(dataset) == (received, cursor)
        assert (await client.digest(dataset, kinds=[Kind.TRADE]))[0] == digest_of(batches[1])
        some, _ = await client.digest(dataset, symbols=["A", "B"], kinds=set(Kind))
        assert some.rows == 3
        with pytest.raises(ValueError, match="None for all"):
            await client.digest(dataset, symbols=[])
        for wrong, field in (
            ({"symbols": ["A", "Z"]}, "symbols[1]"),
            ({"after": cursor, "until": start}, "until"),
            ({"after": "x" * 257}, "after"),
        ):
            with pytest.raises(ApiError) as caught:
                await client.digest(dataset, **wrong)
            assert caught.value.metadata["field"] == field
