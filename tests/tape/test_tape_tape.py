"""Tapes, instrument logs and checkpoints."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import pytest
from nats.aio.client import Client
from opentelemetry import trace

from marketdata.columns import Kind
from marketdata.v1.gap_pb2 import Gap
from marketdata.v1.instrument_pb2 import Instrument
from mda.market.instruments import Directory
from mda.tape.checkpoint import Checkpoint, Checkpoints
from mda.tape.log import WrongPlaceError
from mda.tape.payload import encode_payload
from mda.tape.tape import Entry, InstrumentLog, Retention, Tape, list_datasets
from tests.tape.helpers import collect, eventually, new_name, quotes, rows_of, rows_on_tape, running, trades

RETENTION = Retention(1 << 24, 1)


async def make_tape(client: Client, dataset: str, retention: Retention = RETENTION) -> Tape:
    tape = Tape(client, dataset)
    await tape.create(retention)
    return tape


def entry(first: int, rows: int = 1, version: int = 0) -> Entry:
    return Entry(first, first + rows - 1, version, encode_payload([trades(first, rows)]))


async def append(tape: Tape, producer: str, entry: Entry, expected: int) -> int:
    """Append an entry as the first of its producer's chain: these tests do not follow chains."""
    return await tape.append(producer, entry, entry.link(producer, ""), expected)


async def test_an_entry_comes_back_as_it_was_written(client: Client) -> None:
    tape = await make_tape(client, new_name())
    written = Entry(7, 9, 3, encode_payload([trades(1, 3), quotes(4, 2)]))
    assert await append(tape, "p", written, 0) == 1
    newest = await tape.newest_of("p")
    assert newest is not None
    assert newest.entry == written
    assert newest.sequence == 1
    assert abs(newest.time_ns - time.time_ns()) < 10_000_000_000
    (read,) = await tape.read(0)
    (followed,) = await collect(tape.follow(0), 1)
    assert read.entry == followed.entry == written
    assert read.time_ns == followed.time_ns == newest.time_ns


async def test_each_producer_has_a_place_of_its_own_in_one_order(client: Client) -> None:
    tape = await make_tape(client, new_name())
    assert await append(tape, "p", entry(1), 0) == 1
    assert await append(tape, "q", entry(1), 0) == 2
    with pytest.raises(WrongPlaceError):
        await append(tape, "q", entry(2), 1)
    assert await append(tape, "p", entry(2), 1) == 3
    places = {name: await tape.newest_of(name) for name in ("p", "q", "nobody")}
    assert {name: place and place.sequence for name, place in places.items()} == {"p": 3, "q": 2, "nobody": None}


async def test_names_with_dots_are_kept_apart(client: Client) -> None:
    dataset = new_name("GLBX.MDP3.X")
    tape = await make_tape(client, dataset)
    shorter = await make_tape(client, dataset.replace(".X", "X"))
    await append(tape, "feed.a", entry(1), 0)
    assert await tape.newest_of("feed") is None
    assert await tape.newest_of("feed.a.b") is None
    found = await tape.newest_of("feed.a")
    assert found is not None
    assert found.sequence == 1
    assert await shorter.read(0) == []
    assert {dataset, dataset.replace(".X", "X")} <= set(await list_datasets(client))


async def test_datasets_are_listed_in_order(client: Client) -> None:
    names = [new_name("B"), new_name("A.B-C_D"), new_name("C")]
    assert not set(names) & set(await list_datasets(client))
    for name in names:
        await make_tape(client, name)
        await InstrumentLog(client, name).create(RETENTION)  # no dataset of its own
    listed = await list_datasets(client)
    assert [name for name in listed if name in names] == sorted(names)
    assert listed == sorted(set(listed))


async def test_bounds_move_with_the_entries(client: Client) -> None:
    tape = Tape(client, new_name())
    assert await tape.bounds() is None
    await tape.create(RETENTION)
    empty = await tape.bounds()
    assert empty is not None
    assert (empty.first, empty.last) == (1, 0)
    for number in range(1, 4):
        await append(tape, "p", entry(number), number - 1)
    full = await tape.bounds()
    assert full is not None
    assert (full.first, full.last, full.epoch) == (1, 3, empty.epoch)


async def test_a_tape_made_anew_has_another_epoch(client: Client) -> None:
    dataset = new_name()
    before = await (await make_tape(client, dataset)).bounds()
    await client.jetstream().delete_stream(f"TAPE_{dataset}")
    after = await (await make_tape(client, dataset)).bounds()
    assert before is not None
    assert after is not None
    assert after.epoch > before.epoch
    assert abs(after.epoch / 1e6 - time.time()) < 10


async def test_a_rolling_tape_drops_its_oldest_and_a_keeping_one_refuses(client: Client) -> None:
    rolling = await make_tape(client, new_name(), Retention(20_000, 1, keep_s=3600))
    for number in range(40):
        await append(rolling, f"p{number}", entry(1, rows=30), 0)
    bounds = await rolling.bounds()
    assert bounds is not None
    assert 1 < bounds.first < bounds.last == 40
    assert [stored.sequence for stored in await rolling.read(0)] == list(range(bounds.first, 41))


async def test_entries_carry_the_trace_of_who_wrote_them(client: Client) -> None:
    tape = await make_tape(client, new_name())
    context = trace.SpanContext(0xABCDEF, 0x1234, is_remote=True, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        await append(tape, "p", entry(1), 0)
    (stored,) = await tape.read(0)
    assert stored.headers["traceparent"].split("-")[1] == f"{0xABCDEF:032x}"
    (live,) = await collect(tape.follow(0), 1)
    assert live.headers["traceparent"] == stored.headers["traceparent"]


async def test_read_is_bounded_by_bytes(client: Client) -> None:
    tape = await make_tape(client, new_name())
    for number in range(1, 5):
        await append(tape, "p", entry(number, rows=1000), number - 1)
    assert [stored.sequence for stored in await tape.read(1, max_bytes=1)] == [2]


async def test_directories_catch_up_and_follow(client: Client) -> None:
    log = InstrumentLog(client, new_name())
    assert not await log.exists()
    await log.create(RETENTION)
    assert await log.exists()
    writer, reader, follower = Directory(), Directory(), Directory()
    assert await log.append([Instrument(instrument_id=1, symbol="A")], writer) == 1
    with pytest.raises(WrongPlaceError):
        await log.append([Instrument(instrument_id=1, symbol="B")], writer)  # it does not know of A
    await log.catch_up(writer)
    changes = 0

    async def follow() -> None:
        nonlocal changes
        async with aclosing(log.follow(follower)) as followed:
            async for _ in followed:
                changes += 1

    async with running(follow()):
        await eventually(lambda: len(follower) == 1)
        assert await log.append([Instrument(instrument_id=2, symbol="B", description="new")], writer) == 2
        await eventually(lambda: follower.version == 2)
    assert changes == 2
    await log.catch_up(reader)
    await log.catch_up(reader)  # nothing is applied twice
    for directory in (reader, follower):
        assert [instrument.symbol for instrument in directory.page(0, 9)] == ["A", "B"]
        assert directory.version == 2


async def test_a_directory_ahead_of_its_follower_is_left_as_it_is(client: Client) -> None:
    log = InstrumentLog(client, new_name())
    await log.create(RETENTION)
    shared = Directory()
    followed = log.follow(shared)
    async with aclosing(followed):
        waiting = asyncio.ensure_future(anext(followed))
        await log.append([Instrument(instrument_id=1, symbol="A")], shared)
        await log.catch_up(shared)  # may come before the follower's own
        await asyncio.wait_for(waiting, 10)
    assert [instrument.symbol for instrument in shared.page(0, 9)] == ["A"]


async def test_the_newest_checkpoint_of_an_epoch_counts(client: Client) -> None:
    checkpoints = Checkpoints(client, new_name("A.B"))
    await checkpoints.create(1)
    await checkpoints.create(1)
    assert await checkpoints.newest(5) == Checkpoint()
    gaps = [Gap(producer="p", first_sequence=3, last_sequence=4)]
    await checkpoints.write(5, Checkpoint(10, [trades(1, 3), quotes(1, 2)]))
    changes = trades(9, 2, action=[1, 2], refers_to=[4, 5])
    await checkpoints.write(5, Checkpoint(12, [trades(4, 3), quotes(3, 2)], gaps, [changes], 7))
    found = await checkpoints.newest(5)
    sequence, batches = found.sequence, found.batches
    assert found.corrections_after == 7
    assert found.gaps == gaps
    assert [batch["refers_to"].tolist() for batch in found.corrections] == [[4, 5]]
    assert sequence == 12
    assert [batch.kind for batch in batches] == [Kind.TRADE, Kind.QUOTE]
    assert rows_of(batches) == [4, 5, 6, 3, 4]
    assert await checkpoints.newest(6) == Checkpoint()
    await checkpoints.write(6, Checkpoint(1))
    assert await checkpoints.newest(6) == Checkpoint(1, [], [], [])
    await checkpoints.write(6, Checkpoint(2, corrections_after=None))  # as an earlier version did
    assert await checkpoints.newest(6) == Checkpoint(2, [], [], [], None)


async def test_rows_on_tape_reads_all_pages(client: Client) -> None:
    dataset = new_name()
    tape = await make_tape(client, dataset)
    for number in range(8):
        await append(tape, "p", entry(number * 20_000, rows=20_000), number)
    assert await rows_on_tape(client, dataset) == list(range(160_000))
