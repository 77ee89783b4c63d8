"""Readers of what the tape has dropped: the lake gives the same rows, in the same order, without a seam."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from marketdata.columns import Batch, Kind, from_message
from marketdata.digest import Digest, digest_of
from marketdata.query.v1.query_service_pb2 import GetDigestRequest, SubscribeResponse
from marketdata.wire import parse
from mda.lake.layout import Placed
from mda.lake.location import Location
from mda.market.errors import MarketDataError
from mda.query import past as past_module
from mda.query.digest import tape_digest
from mda.query.hub import Hub
from mda.query.past import _cuts, _interleaved
from tests.archive.feeding import archiving, caught_up
from tests.query.feeding import Feed, Reader, deletable_feed, make_feed, reading
from tests.tape.helpers import eventually, quotes, running, trades


@asynccontextmanager
async def opened(feed: Feed, folder: Path, *, ring_bytes: int = 1) -> AsyncIterator[Hub]:
    hub = Hub(feed.client, feed.dataset, ring_bytes, b"key", Location(str(folder)))
    await hub.open()
    async with running(hub.run()):
        await hub.ready()
        yield hub


def batches_of(reader: Reader) -> list[Batch]:
    messages = [parse(SubscribeResponse, data) for data in reader.data]
    return [from_message(batch) for message in messages for batch in message.batches]


def digest(batches: Sequence[Batch]) -> Digest:
    return sum(map(digest_of, batches), Digest())


async def archived(feed: Feed, folder: Path, *, drop_before: int) -> None:
    """Bring all into the lake, and let the tape drop what is before a place."""
    async with archiving(feed, folder) as archiver:
        bounds = await feed.tape.bounds()
        assert bounds is not None
        await eventually(lambda: archiver.archived >= bounds.last)
    await feed.tape.drop_before(drop_before)


async def written(feed: Feed, first: int, entries: int) -> list[Batch]:
    batches: list[Batch] = []
    for number in range(first, first + entries):
        batches += [quotes(number * 10, 4), trades(number * 10 + 4, 2), quotes(number * 10 + 6, 4)]
        await feed.write(*batches[-3:])
    return batches


async def test_a_reader_goes_from_the_lake_over_the_tape_to_the_ring(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    sent = await written(feed, 0, 40)
    async with archiving(feed, tmp_path) as archiver:
        await caught_up(archiver, feed)
        await archiver.compact(whole=True)
        await feed.tape.drop_before(25)
        sent += await written(feed, 40, 20)
        async with opened(feed, tmp_path, ring_bytes=3000) as hub, reading(hub, cursor=hub.cursor(0)) as reader:
            await eventually(lambda: len(reader.rows) == 600)
            sent += await written(feed, 60, 5)
            await eventually(lambda: len(reader.rows) == 650)
            expected = [row for batch in sent for row in batch["sequence"].tolist()]
            assert reader.rows == expected
            assert digest(batches_of(reader)) == digest(sent)
            found = await tape_digest(hub, GetDigestRequest(), None, within_s=30)
            assert (found.digest, found.complete) == (digest(sent), True)
            # Between any two places, also such as the lake gives joined with others.
            for after, until in ((0, 1), (3, 11), (20, 30), (7, 60)):
                request = GetDigestRequest(after=hub.cursor(after), until=hub.cursor(until))
                found = await tape_digest(hub, request, None, within_s=30)
                assert (found.digest, found.complete) == (digest(sent[after * 3 : until * 3]), True)


async def test_a_cursor_among_what_was_dropped_is_good(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    await written(feed, 0, 20)
    async with opened(feed, tmp_path) as hub, reading(hub, cursor=hub.cursor(0)) as reader:
        await eventually(lambda: len(reader.rows) == 200)
        tokens = {place: hub._token(place, (await feed.tape.at(place)).mark) for place in (3, 12)}
        forged = hub._token(3, 12345)
    await archived(feed, tmp_path, drop_before=15)
    async with opened(feed, tmp_path) as hub:
        for place, token in tokens.items():
            assert await hub.place(token, "cursor") == place
            async with reading(hub, cursor=token) as reader:
                await eventually(lambda reader=reader, due=200 - place * 10: len(reader.rows) == due)
        with pytest.raises(MarketDataError, match="holds that place") as caught:
            await hub.place(forged, "cursor")
        assert await hub.place(caught.value.metadata["earliest"], "cursor") == 0
        assert await hub.earliest() == 0


async def test_a_time_among_what_was_dropped_is_found(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    await written(feed, 0, 10)
    await asyncio.sleep(0.05)
    middle = time.time_ns()
    await written(feed, 10, 10)
    await archived(feed, tmp_path, drop_before=18)
    async with opened(feed, tmp_path) as hub:
        assert await hub.place_at(middle, "time") == 10
        assert await hub.place_at(1, "time") == 0
        at = Timestamp()
        at.FromNanoseconds(middle)
        async with reading(hub, time=at) as reader:
            await eventually(lambda: len(reader.rows) == 100)
        assert await hub.place_at(time.time_ns(), "time") == 20
    await feed.tape.drop_before(21)
    async with opened(feed, tmp_path) as hub:
        assert await hub.place_at(middle, "time") == 10
        assert await hub.place_at(time.time_ns(), "time") == 20


async def test_without_a_lake_what_was_dropped_is_gone(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    await written(feed, 0, 10)
    await archived(feed, tmp_path, drop_before=6)
    nowhere = tmp_path / "empty"
    nowhere.mkdir()
    async with opened(feed, nowhere) as hub:
        with pytest.raises(MarketDataError, match="holds that place"):
            await hub.place(hub.cursor(2), "cursor")
        with pytest.raises(MarketDataError, match="holds that place"):
            await hub.place_at(1, "time")
        with pytest.raises(MarketDataError, match="holds that place"):
            await hub.entries_after(2, 10)
        assert await hub.earliest() == 5


async def test_a_replica_that_was_away_for_long_learns_from_the_lake(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    await feed.write(trades(1, instrument_id=[1]))
    async with opened(feed, tmp_path) as hub:
        await hub._checkpoint()
    await feed.write(trades(2, instrument_id=[2]))
    await feed.write(quotes(3))
    await archived(feed, tmp_path, drop_before=4)
    await feed.write(quotes(4, instrument_id=[2]))
    async with opened(feed, tmp_path) as hub:
        latest = hub.latest_rows(Kind.TRADE, None)
        assert latest is not None
        assert latest["sequence"].tolist() == [1, 2]
        assert hub.latest_rows(Kind.QUOTE, [1]) is not None


async def test_entries_that_the_tape_lost_come_from_the_lake(client: Client, tmp_path: Path) -> None:
    feed = await deletable_feed(client)
    sent = await written(feed, 0, 10)
    await archived(feed, tmp_path, drop_before=0)
    for place in (4, 5, 9):
        await client.jetstream().delete_msg(feed.tape._log.stream, place)
    async with opened(feed, tmp_path) as hub, reading(hub, cursor=hub.cursor(0)) as reader:
        await eventually(lambda: len(reader.rows) == 100)
        assert digest(batches_of(reader)) == digest(sent)
        assert not any(message.gaps for message in reader.messages)


async def test_a_lake_that_cannot_be_read_is_told(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    await written(feed, 0, 10)
    await archived(feed, tmp_path, drop_before=6)
    for file in (tmp_path / feed.dataset / "quotes").rglob("*.parquet"):
        file.unlink()
    async with opened(feed, tmp_path) as hub:  # live goes on without it
        with pytest.raises(MarketDataError) as caught:
            await hub.entries_after(0, 10)
        assert caught.value.reason_name == "ARCHIVE_UNAVAILABLE"
        assert len(await hub.entries_after(7, 10)) == 3  # the tape's
    shutil.rmtree(tmp_path / feed.dataset)
    (tmp_path / feed.dataset).write_text("not a folder")
    async with opened(feed, tmp_path) as hub:
        assert hub.head == 10


ROWS = st.lists(st.integers(0, 6), min_size=1, max_size=12)


@given(sizes=ROWS, gaps=st.lists(st.booleans(), min_size=12, max_size=12))
def test_chunks_are_small_and_gaps_begin_them(sizes: list[int], gaps: list[bool]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(past_module, "_CHUNK_ROWS", 8)
        patch.setattr(past_module, "_PAGE_CHUNKS", 3)
        cuts = _cuts(np.array(sizes, np.int32), gaps[: len(sizes)])
    assert cuts == sorted(set(cuts))
    assert len(cuts) <= 3
    for start, end in zip([0, *cuts], cuts, strict=False):
        assert end > start
        assert sum(sizes[start:end]) <= 8 or end == start + 1
        assert not any(gaps[start + 1 : end])
    if len(cuts) < 3:
        assert cuts[-1] == len(sizes)


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(list(Kind))), min_size=1, max_size=40))
def test_kinds_are_interleaved_as_on_the_tape(places: list[tuple[int, Kind]]) -> None:
    """Rows are numbered in the order of the tape; so they come out."""
    ordered = sorted(places, key=lambda place: place[0])
    counts: dict[int, int] = {}
    rows: dict[Kind, list[tuple[int, int, int]]] = {kind: [] for kind in Kind}
    for number, (sequence, kind) in enumerate(ordered):
        counts[sequence] = counts.get(sequence, -1) + 1
        rows[kind].append((sequence, counts[sequence], number))
    parts = []
    for kind, found in rows.items():
        if found:
            sequences, numbers, names = map(list, zip(*found, strict=True))
            make = quotes if kind is Kind.QUOTE else trades
            batch = make(0, len(found), sequence=names)
            parts.append(Placed(batch, 1, np.array(sequences), np.array(numbers, np.int32)))
    assert [row for batch in _interleaved(parts) for row in batch["sequence"].tolist()] == list(range(len(ordered)))
