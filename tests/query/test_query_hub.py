"""The hub: follows the tape once, and knows every place on it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest
from nats.aio.client import Client

from marketdata.columns import Kind
from mda.market.cursor import Cursor
from mda.market.errors import MarketDataError
from mda.query import hub as hub_module
from mda.query import hubs as hubs_module
from mda.query.hub import Hub
from mda.query.hubs import Hubs
from mda.runtime.tasks import background_tasks
from mda.tape.checkpoint import Checkpoint, Checkpoints
from mda.tape.log import Log
from tests.query.feeding import Feed, make_feed, opened
from tests.tape.helpers import eventually, new_name, quotes, rows_of, running, trades
from tests.tape.nats_server import NatsServer


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks, checkpoints and discovery come often."""
    monkeypatch.setattr(hub_module, "_TICK_S", 0.02)
    monkeypatch.setattr(hub_module, "_CHECKPOINT_S", 0.05)
    monkeypatch.setattr(hubs_module, "_DISCOVER_S", 0.05)


def _latest(hub: Hub, kind: Kind = Kind.TRADE) -> list[int]:
    taken = hub.latest[kind].take(None)
    return [] if taken is None else rows_of([taken])


async def _newest_checkpoint(feed: Feed, hub: Hub) -> int:
    return (await Checkpoints(feed.client, feed.dataset).newest(hub.epoch)).sequence


async def _checkpointed(feed: Feed, hub: Hub, sequence: int) -> None:
    async with asyncio.timeout(10):
        while True:
            with suppress(MarketDataError):
                if await _newest_checkpoint(feed, hub) == sequence:
                    return
            await asyncio.sleep(0.01)


async def test_an_empty_dataset_is_ready_at_once(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub:
        assert hub.head == 0
        assert len(hub.directory) == 3
        assert list(await hub.entries_after(0, 10)) == []


async def test_takes_in_what_is_there_and_what_comes(client: Client) -> None:
    feed = await make_feed(client)
    await feed.write(trades(1, 3), quotes(10))
    async with opened(feed) as hub:
        assert hub.head == 1
        assert (_latest(hub), _latest(hub, Kind.QUOTE)) == ([3], [10])
        await feed.write(trades(4, 2, instrument_id=[2, 3]))
        await eventually(lambda: hub.head == 2)
        assert _latest(hub) == [3, 4, 5]


async def test_an_unknown_dataset_is_told(client: Client) -> None:
    with pytest.raises(MarketDataError) as caught:
        await Hub(client, "NOPE", 1000).open()
    assert caught.value.reason_name == "UNKNOWN_DATASET"


@pytest.mark.usefixtures("often")
async def test_a_checkpoint_is_written_and_used_after_a_restart(client: Client) -> None:
    feed = await make_feed(client)
    for number in range(1, 21):
        await feed.write(trades(number, instrument_id=[number % 3 + 1]))
    async with opened(feed, ticks=True) as hub:
        await _checkpointed(feed, hub, 20)
        before = _latest(hub)
    await feed.write(trades(21, instrument_id=[1]))
    taken: list[int] = []
    again = Hub(client, feed.dataset, 1 << 20)
    take_one = again._take_one
    again._take_one = lambda stored: (taken.append(stored.sequence), take_one(stored))[1]
    await again.open()
    assert (again.head, _latest(again)) == (20, before)
    async with running(again.run()):
        await again.ready()
    assert taken == [21]  # and none of the twenty before
    assert _latest(again) == sorted({21, *before} - {max(n for n in before if n % 3 == 0)}, key=lambda n: n % 3)


@pytest.mark.usefixtures("often")
async def test_a_checkpoint_is_written_only_where_something_came(client: Client) -> None:
    feed = await make_feed(client)
    await feed.write(trades(1))
    checkpoints = Checkpoints(client, feed.dataset)
    async with opened(feed, ticks=True) as hub:
        await _checkpointed(feed, hub, 1)
        log = checkpoints._log
        for _ in range(8):
            await asyncio.sleep(0.02)
        assert [record.sequence for record in await log.read(0)] == [1]
        await feed.write(trades(2))
        await _checkpointed(feed, hub, 2)


async def test_a_checkpoint_of_another_epoch_is_not_used(client: Client) -> None:
    feed = await make_feed(client)
    await feed.write(trades(1))
    checkpoints = Checkpoints(client, feed.dataset)
    await checkpoints.create(1)
    await checkpoints.write(12345, Checkpoint(1, [trades(99)]))
    async with opened(feed) as hub:
        assert _latest(hub) == [1]


async def test_a_checkpoint_of_places_that_the_tape_lost_is_not_used(client: Client) -> None:
    feed = await make_feed(client)
    await feed.write(trades(1))
    bounds = await feed.tape.bounds()
    assert bounds is not None
    checkpoints = Checkpoints(client, feed.dataset)
    await checkpoints.create(1)
    await checkpoints.write(bounds.epoch, Checkpoint(5, [trades(99)]))
    async with opened(feed) as hub:
        assert (hub.head, _latest(hub)) == (1, [1])
        await feed.write(trades(2))
        await eventually(lambda: hub.head == 2)


@pytest.mark.usefixtures("often")
async def test_a_checkpoint_that_cannot_be_written_is_tried_again(own_nats: NatsServer, own_client: Client) -> None:
    feed = await make_feed(own_client)
    async with opened(feed, ticks=True) as hub:
        hub._checkpoints._log._timeout_s = 0.1
        await feed.write(trades(1))
        await eventually(lambda: hub.head == 1)
        own_nats.restart()
        await eventually(lambda: own_client.is_connected)
        await _checkpointed(feed, hub, 1)


async def test_entries_come_from_the_ring_or_from_the_tape(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = await make_feed(client)
    async with opened(feed, ring_bytes=2000) as hub:
        for number in range(1, 41):
            await feed.write(trades(number, 5))
        await eventually(lambda: hub.head == 40)
        reads = 0
        read = hub._tape.read

        async def counted(*args: Any, **options: Any) -> Any:
            nonlocal reads
            reads += 1
            return await read(*args, **options)

        monkeypatch.setattr(hub._tape, "read", counted)
        for place in (39, 40, 41):
            assert [entry.sequence for entry in await hub.entries_after(place, 9)] == list(range(place + 1, 41))
        assert reads == 0
        assert [entry.sequence for entry in await hub.entries_after(0, 9)] == list(range(1, 10))
        assert [entry.sequence for entry in await hub.entries_after(7, 100)] == list(range(8, 41))
        assert reads == 2
        from_tape = await hub.entries_after(0, 40)
        assert [rows_of(entry.batches) for entry in from_tape] == [list(range(n, n + 5)) for n in range(1, 41)]


async def test_no_entry_comes_before_the_hub_has_taken_it_in(client: Client) -> None:
    feed = await make_feed(client)
    hub = Hub(client, feed.dataset, 1000)
    await hub.open()
    for number in range(1, 6):
        await feed.write(trades(number))
    hub.head = 3  # as of a follower that is late
    assert [entry.sequence for entry in await hub.entries_after(0, 9)] == [1, 2, 3]
    assert list(await hub.entries_after(3, 9)) == []


async def test_cursors_are_places(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub:
        for number in range(1, 4):
            await feed.write(trades(number))
        await eventually(lambda: hub.head == 3)
        assert [await hub.place(hub.cursor(place), "cursor") for place in range(4)] == [0, 1, 2, 3]
        second, third = await hub.entries_after(1, 2)
        tail = hub.tail(second)
        assert tail.endswith(hub.cursor(2).encode())
        assert hub.tail(second) is tail
        assert hub.tail(third) != tail


async def _refused(hub: Hub, token: str) -> MarketDataError:
    with pytest.raises(MarketDataError) as caught:
        await hub.place(token, "start.cursor")
    assert caught.value.field == "start.cursor"
    return caught.value


async def test_cursors_of_elsewhere_are_refused(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub:
        await feed.write(trades(1))
        await eventually(lambda: hub.head == 1)
        other_dataset = Cursor(hub.epoch, 1).encode("OTHER", b"")
        assert (await _refused(hub, other_dataset)).reason_name == "INVALID_CURSOR"
        assert (await _refused(hub, "rubbish")).reason_name == "INVALID_CURSOR"
        for epoch, sequence in ((hub.epoch - 1, 1), (hub.epoch, 2), (hub.epoch, 99)):
            error = await _refused(hub, Cursor(epoch, sequence).encode(feed.dataset, b""))
            assert error.reason_name == "CURSOR_OUT_OF_RANGE"
            assert await hub.place(error.metadata["earliest"], "cursor") == 0


async def test_a_cursor_of_another_epoch_of_an_empty_tape_is_refused(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub:
        error = await _refused(hub, Cursor(1, 0).encode(feed.dataset, b""))
        assert error.reason_name == "CURSOR_OUT_OF_RANGE"
        assert await hub.place(error.metadata["earliest"], "cursor") == 0


async def test_places_that_have_gone_are_told_with_a_usable_earliest(client: Client) -> None:
    feed = await make_feed(client, max_bytes=20_000, keep_s=3600)
    async with opened(feed, ring_bytes=500) as hub:
        for number in range(1, 81):
            await feed.write(trades(number, 20))
        await eventually(lambda: hub.head == 80)
        bounds = await feed.tape.bounds()
        assert bounds is not None
        assert bounds.first > 10
        error = await _refused(hub, hub.cursor(5))
        assert error.reason_name == "CURSOR_OUT_OF_RANGE"
        earliest = await hub.place(error.metadata["earliest"], "cursor")
        assert earliest == bounds.first - 1
        assert [entry.sequence for entry in await hub.entries_after(earliest, 2)] == [bounds.first, bounds.first + 1]
        with pytest.raises(MarketDataError) as caught:  # a reader whose place goes while it reads
            await hub.entries_after(5, 9)
        assert caught.value.reason_name == "CURSOR_OUT_OF_RANGE"
        assert await hub.place(caught.value.metadata["earliest"], "cursor") == bounds.first - 1


async def test_the_directory_is_never_behind_the_rows(client: Client) -> None:
    feed = await make_feed(client, "A")
    known: list[bool] = []

    class Watcher:
        position = 0

        def wake(self) -> None:
            entries = hub._ring.after(0, 99) or ()
            newest = max(int(batch["instrument_id"].max()) for entry in entries for batch in entry.batches)
            known.append(newest <= len(hub.directory))

        def tick(self, now_s: float) -> None:
            """Is not called."""

    async with opened(feed) as hub:
        hub.add(Watcher())
        for number in range(2, 12):
            await feed.put(f"S{number}")
            await feed.write(trades(number, instrument_id=[number]))
        await eventually(lambda: hub.head == 10)
    assert known
    assert all(known)


async def test_an_outage_while_instruments_are_looked_up_is_waited_out(client: Client) -> None:
    feed = await make_feed(client, "A")
    async with opened(feed) as hub:
        catch_up, failures = hub._instruments.catch_up, 0

        async def fails_first(directory: Any) -> None:
            nonlocal failures
            failures += 1
            if failures == 1:
                await Log(client, "LOG_nowhere", "nowhere.>").read(0)  # is unavailable
            await catch_up(directory)

        hub._instruments.catch_up = fails_first
        await feed.put("B")
        await feed.write(trades(1, instrument_id=[2]))
        await eventually(lambda: hub.head == 1)
        assert failures == 2


async def test_symbols_are_found_also_when_they_are_new(client: Client) -> None:
    feed = await make_feed(client, "A", "B")
    async with opened(feed) as hub:
        assert await hub.find_symbols(["B", "X", "A"]) == [2, None, 1]
        await feed.put("X")
        assert await hub.find_symbols(["B", "X", "A"]) == [2, 3, 1]
        assert await hub.find_symbols([]) == []


async def test_a_hub_that_still_reads_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_READY_S", 0.05)
    feed = await make_feed(client)
    await feed.write(trades(1))
    hub = Hub(client, feed.dataset, 1000)
    await hub.open()
    with pytest.raises(MarketDataError, match="still being read") as caught:
        await hub.ready()
    assert caught.value.reason_name == "TAPE_UNAVAILABLE"
    async with running(hub.run()):
        await eventually(lambda: hub.head == 1)
        await hub.ready()


@pytest.mark.usefixtures("often")
async def test_hubs_open_what_is_asked_for_once_and_discover_the_rest(client: Client) -> None:
    asked, there = await make_feed(client), await make_feed(client)
    async with background_tasks() as tasks:
        hubs = Hubs(client, 1000, tasks)
        one, same = await asyncio.gather(hubs.get(asked.dataset), hubs.get(asked.dataset))
        assert one is same
        with pytest.raises(MarketDataError) as caught:
            await hubs.get(new_name("NOBODY"))
        assert caught.value.reason_name == "UNKNOWN_DATASET"
        discovery = tasks.create_task(hubs.discover())
        await eventually(lambda: there.dataset in hubs._open)
        later = await make_feed(client)
        await eventually(lambda: later.dataset in hubs._open)
        assert hubs._open[asked.dataset] is one
        discovery.cancel()


@pytest.mark.usefixtures("often")
async def test_hubs_outlive_nats(own_nats: NatsServer, own_client: Client) -> None:
    feed = await make_feed(own_client)
    await feed.write(trades(1))
    async with background_tasks() as tasks:
        hubs = Hubs(own_client, 1000, tasks)
        discovery = tasks.create_task(hubs.discover())
        hub = await hubs.get(feed.dataset)
        own_nats.restart()
        await eventually(lambda: own_client.is_connected)
        await feed.write(trades(2))
        await eventually(lambda: hub.head == 2)
        assert _latest(hub) == [2]
        discovery.cancel()


async def test_a_time_is_the_place_before_the_first_entry_of_then(client: Client) -> None:
    feed = await make_feed(client)
    times: list[int] = []
    async with opened(feed) as hub:
        assert await hub.place_at(time.time_ns(), "start.time") == 0
        for number in range(1, 4):
            times.append(time.time_ns())
            await feed.write(trades(number))
            await asyncio.sleep(0.02)
        assert [await hub.place_at(at, "start.time") for at in (0, *times)] == [0, 0, 1, 2]
        assert await hub.place_at(time.time_ns(), "start.time") == 3
        with pytest.raises(MarketDataError) as caught:
            await hub.place_at(time.time_ns() + 10**10, "start.time")
        assert (caught.value.reason_name, caught.value.field) == ("INVALID_FIELD", "start.time")


async def test_a_time_before_the_tape_begins_is_out_of_range(client: Client) -> None:
    feed = await make_feed(client, max_bytes=20_000, keep_s=3600)
    async with opened(feed) as hub:
        began = time.time_ns()
        for number in range(1, 81):
            await feed.write(trades(number, 20))
        with pytest.raises(MarketDataError) as caught:
            await hub.place_at(began, "start.time")
        assert caught.value.reason_name == "CURSOR_OUT_OF_RANGE"
        assert await hub.place(caught.value.metadata["earliest"], "cursor") > 0


async def test_a_cursor_knows_the_entry_that_it_stands_after(client: Client) -> None:
    feed = await make_feed(client)
    await feed.write(trades(1))
    await feed.write(trades(2))
    for ring_bytes in (1, 1 << 20):
        async with opened(feed, ring_bytes=ring_bytes) as hub:
            entry, _ = await hub.entries_after(0, 2)
            assert entry.mark
            assert await hub.place(Cursor(hub.epoch, 1, entry.mark).encode(feed.dataset, b""), "cursor") == 1
            error = await _refused(hub, Cursor(hub.epoch, 1, entry.mark ^ 1).encode(feed.dataset, b""))
            assert error.reason_name == "CURSOR_OUT_OF_RANGE"


async def test_a_defect_in_following_ends_the_hub(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = await make_feed(client)
    hub = Hub(client, feed.dataset, 1 << 20)
    await hub.open()

    async def fail(_stored: Any) -> None:
        raise AssertionError("a defect")

    monkeypatch.setattr(hub, "_take", fail)
    running_hub = asyncio.create_task(hub.run())
    await feed.write(trades(1))
    with pytest.raises(AssertionError, match="a defect"):
        await asyncio.wait_for(running_hub, 5)
