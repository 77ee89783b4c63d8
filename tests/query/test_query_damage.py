"""A tape that was damaged behind our back: readers are told, and go on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from nats.aio.client import Client

from marketdata.v1.gap_pb2 import Gap
from mda.ingestion.appender import Appender
from mda.market.errors import MarketDataError
from mda.query import hub as hub_module
from mda.query.ring import read_entry
from mda.query.row_stream import TRADES, RowStream
from mda.tape.chain import Link
from mda.tape.damage import Inspector
from mda.tape.payload import encode_payload
from mda.tape.tape import Entry, Retention, StoredEntry
from tests.query.feeding import Feed, Reader, deletable_feed, make_feed, opened, reading
from tests.tape.helpers import eventually, trades
from tests.tape.nats_server import NatsServer


async def written(feed: Feed, count: int) -> None:
    for number in range(1, count + 1):
        await feed.write(trades(number))


def facts(gaps: Sequence[Gap]) -> list[tuple[str, int, int]]:
    assert all(gap.cause == Gap.CAUSE_TAPE_DAMAGED and gap.state == Gap.STATE_OPEN for gap in gaps)
    return [(gap.producer, gap.first_sequence, gap.last_sequence) for gap in gaps]


def gaps_of(reader: Reader) -> list[Gap]:
    return [gap for message in reader.messages for gap in message.gaps]


async def test_a_reader_of_the_tape_is_told_what_is_missing_and_goes_on(client: Client) -> None:
    feed = await deletable_feed(client)
    await written(feed, 9)
    await client.jetstream().delete_msg(feed.tape._log.stream, 4)
    await client.jetstream().delete_msg(feed.tape._log.stream, 5)
    async with opened(feed, ring_bytes=1) as hub, reading(hub, cursor=hub.cursor(0)) as reader:
        await eventually(lambda: len(reader.rows) == 7)
        assert reader.rows == [1, 2, 3, 6, 7, 8, 9]
        assert facts(gaps_of(reader)) == [("feed", 4, 5)]
        (at,) = (message for message in reader.messages if message.gaps)
        assert reader.rows.index(6) >= sum(batch.rows for batch in reader.messages[0].batches)
        assert at.cursor


async def test_all_readers_of_one_damage_are_told_the_same(client: Client) -> None:
    feed = await deletable_feed(client)
    await written(feed, 6)
    await client.jetstream().delete_msg(feed.tape._log.stream, 3)
    async with opened(feed) as hub:
        assert facts(hub.gaps.page(open_only=True, page_size=0, page_token="")[0]) == [("feed", 3, 3)]
        async with reading(hub, cursor=hub.cursor(0)) as from_tape, reading(hub, cursor=hub.cursor(2)) as at_the_hole:
            await eventually(lambda: from_tape.rows == [1, 2, 4, 5, 6] and at_the_hole.rows == [4, 5, 6])
        assert facts(gaps_of(from_tape)) == facts(gaps_of(at_the_hole)) == [("feed", 3, 3)]
        async with reading(hub, cursor=hub.cursor(4)) as after:
            await eventually(lambda: after.rows == [5, 6])
        assert gaps_of(after) == []


async def test_streams_of_rows_tell_of_damage(client: Client) -> None:
    feed = await deletable_feed(client)
    await written(feed, 3)
    await client.jetstream().delete_msg(feed.tape._log.stream, 2)
    async with opened(feed) as hub:
        stream = RowStream(hub, 0, TRADES, None, snapshot=False)
        data: list[bytes] = []

        async def write(message: bytes) -> None:
            data.append(message)

        task = asyncio.create_task(stream.send(write))
        await eventually(lambda: stream.position == 3)
        task.cancel()
    messages = [TRADES.response.FromString(message) for message in data]
    assert facts([gap for message in messages for gap in message.gaps]) == [("feed", 2, 2)]
    assert [trade.sequence for message in messages for trade in message.trades] == [1, 3]


async def test_a_subscription_without_rows_of_the_entry_is_told_too(client: Client) -> None:
    feed = await deletable_feed(client)
    await written(feed, 3)
    await client.jetstream().delete_msg(feed.tape._log.stream, 2)
    async with opened(feed) as hub, reading(hub, ["B"], cursor=hub.cursor(0)) as reader:
        await eventually(lambda: len(gaps_of(reader)) == 1)
        assert reader.rows == []


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_WATCH_S", 0.05)


def damage(nats: NatsServer, share: float) -> None:
    """Change a byte of the oldest block file of the tape, while the server is down."""
    nats.kill()
    block = min(nats._folder.rglob("TAPE_*/msgs/*.blk"), key=lambda path: int(path.stem))
    data = bytearray(block.read_bytes())
    data[int(len(data) * share)] ^= 0x55
    block.write_bytes(data)
    nats.restart()


@pytest.mark.parametrize("share", [0.3, 0.55, 0.8])
async def test_a_damaged_block_in_the_middle_is_never_passed_over(
    own_nats: NatsServer, own_client: Client, share: float
) -> None:
    rows, entries = 20_000, 40
    feed = await make_feed(own_client, max_bytes=1 << 28)
    for number in range(entries):
        await feed.write(trades(number * rows, rows))
    await asyncio.to_thread(damage, own_nats, share)
    async with opened(feed, ring_bytes=1) as hub, reading(hub, cursor=hub.cursor(0)) as reader:
        await eventually(lambda: bool(reader.rows) and reader.rows[-1] == entries * rows - 1)
        missing = sorted(set(range(entries)) - {row // rows for row in reader.rows})
        assert missing
        assert facts(gaps_of(reader)) == [("feed", missing[0] + 1, missing[-1] + 1)]
        assert len(reader.rows) == (entries - len(missing)) * rows


@pytest.mark.usefixtures("watchful")
@pytest.mark.parametrize("share", [0.3, 0.8])
async def test_lost_newest_entries_are_told_while_readers_run(
    own_nats: NatsServer, own_client: Client, share: float
) -> None:
    feed = await make_feed(own_client)
    await written(feed, 40)
    async with opened(feed) as hub, reading(hub, cursor=hub.cursor(0)) as reader:
        await eventually(lambda: len(reader.rows) == 40)
        old = reader.cursor
        await asyncio.to_thread(damage, own_nats, share)
        await eventually(lambda: bool(gaps_of(reader)), within_s=20)
        assert facts(gaps_of(reader)) == [("", 0, 0)]
        kept = hub.head
        assert 0 < kept < 40
        other = Appender(feed.tape, "other")
        await other.open()
        for number in range(1, 61):
            await other.append(Entry(number, number, 1, encode_payload([trades(100 + number)])))
        await eventually(lambda: reader.rows[-1] == 160)
        assert reader.rows == [*range(1, 41), *range(101, 161)]
        with pytest.raises(MarketDataError) as caught:  # another entry is at its place now
            await hub.place(old, "cursor")
        assert caught.value.reason_name == "CURSOR_OUT_OF_RANGE"


@pytest.mark.usefixtures("watchful")
async def test_a_tape_made_anew_is_read_from_its_beginning(client: Client) -> None:
    feed = await make_feed(client)
    await written(feed, 5)
    async with opened(feed) as hub, reading(hub, cursor=hub.cursor(0)) as reader:
        await eventually(lambda: len(reader.rows) == 5)
        await client.jetstream().delete_stream(feed.tape._log.stream)
        await feed.tape.create(Retention(1 << 24, 1))
        anew = Appender(feed.tape, "anew")
        await anew.open()
        await anew.append(Entry(1, 1, 1, encode_payload([trades(7)])))
        await eventually(lambda: reader.rows == [1, 2, 3, 4, 5, 7])
        assert facts(gaps_of(reader)) == [("", 0, 0)]


def stored(sequence: int, producer: str, number: int, previous: Link | None, payload: bytes = b"x") -> StoredEntry:
    entry = Entry(number, number, 1, payload)
    return StoredEntry(sequence, 0, producer, entry, entry.link(producer, previous.hash if previous else ""), {})


def test_an_entry_that_does_not_say_what_was_written_is_a_gap_and_has_no_rows() -> None:
    good = stored(1, "p", 1, None)
    bad = replace(stored(2, "p", 2, good.link), entry=Entry(2, 2, 1, b"y"))
    inspector = Inspector(0)
    assert inspector.inspect(good) == []
    gaps = inspector.inspect(bad)
    assert facts(gaps) == [("p", 2, 2)]
    assert read_entry(bad, gaps).payload == b""
    assert read_entry(good).payload == b"x"
    assert inspector.inspect(stored(3, "p", 3, bad.link)) == []


def test_a_missing_entry_of_a_producer_that_was_not_met_names_nobody() -> None:
    inspector = Inspector(0)
    assert inspector.inspect(stored(1, "p", 1, None)) == []
    assert facts(inspector.inspect(stored(3, "q", 1, None))) == [("", 0, 0)]


def test_a_missing_claim_is_a_gap_without_numbers() -> None:
    first = stored(1, "p", 1, None)
    claim = stored(2, "p", 1, first.link, b"")
    inspector = Inspector(0)
    assert inspector.inspect(first) == []
    assert facts(inspector.inspect(stored(3, "p", 2, claim.link))) == [("p", 0, 0)]
