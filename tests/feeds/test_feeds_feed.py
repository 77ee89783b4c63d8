"""What a feed does with any source: silence, a slow tape, a source that ends, a server that refuses."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import ClassVar

import numpy as np
import psutil
import pytest
from feed_api import Api
from venues import on_tape, until

from marketdata.client import Client
from marketdata.columns import Batch, Kind, make_batch
from marketdata.errors import FencedError
from marketdata.v1.instrument_pb2 import Instrument
from mda.feeds import feed as feed_module
from mda.feeds.feed import Feed
from mda.feeds.source import Alive, Connected, RefusedError, Rule, Source, SourceError, Standings, Update
from mda.feeds.status import Status, sentence


def rows(first: int, count: int = 1) -> Batch:
    """Return trades with numbers from one on."""
    now_ns = time.time_ns()
    return make_batch(
        Kind.TRADE,
        {
            "instrument_id": np.ones(count, np.uint32),
            "ts_event": np.full(count, now_ns - 1_000_000),
            "ts_recv": np.full(count, now_ns),
            "sequence": np.arange(first, first + count, dtype=np.uint64),
            "price": np.ones(count, np.int64),
        },
    )


class Scripted(Source):
    """Yields what it is given, one script for each connection: updates, or errors to raise, or what to wait for."""

    name: ClassVar[str] = "scripted"
    rules: Mapping[Kind, Rule] = {Kind.TRADE: Rule.CONTIGUOUS}

    def __init__(self, *scripts: list[Update | Exception | float | asyncio.Event], refusals: int = 0) -> None:
        self.scripts = [*scripts]
        self.standings: list[Standings] = []
        self.refusals = refusals

    async def instruments(self) -> list[Instrument]:
        if self.refusals:
            self.refusals -= 1
            raise SourceError("not yet", retry_after_s=0.01)
        return [Instrument(symbol="A")]

    async def updates(self, ids: Mapping[str, int], standings: Standings) -> AsyncGenerator[Update]:
        assert ids == {"A": 1}
        self.standings.append(dict(standings))
        for step in self.scripts.pop(0):
            if isinstance(step, Exception):
                raise step
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, asyncio.Event):
                await step.wait()
            else:
                yield step


async def run(api: Api, source: Source, then: Callable[[Feed], Awaitable[None]] | None = None) -> Feed:
    async with Client.connect(api.url, api.api_key) as client:
        feed = Feed(client, source, "SCRIPTED")
        task = asyncio.create_task(feed.run())
        try:
            if then is not None:
                await then(feed)
            await asyncio.wait_for(task, 90)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return feed


async def test_a_source_that_falls_silent_is_broken_and_one_that_ends_is_done(api: Api, nats_url: str) -> None:
    source = Scripted([Connected(), rows(1), 60.0], [Connected(), rows(2)], refusals=2)
    source.silence_s = 0.3
    feed = await run(api, source)
    assert (feed.status.state, feed.status.breaks, feed.status.connections) == ("done", 1, 2)
    assert [[standing.number for standing in found.values()] for found in source.standings] == [[], [1]]
    tape = await on_tape(nats_url, "SCRIPTED")
    assert tape.numbers(Kind.TRADE) == [1, 2]
    assert tape.facts == ["down open", "down closed", "down open"]


async def test_a_source_that_has_never_been_there_is_no_gap(api: Api, nats_url: str) -> None:
    source = Scripted([SourceError("away", retry_after_s=0.2)], [60.0])

    async def stop(feed: Feed) -> None:
        await until(lambda: feed.status.state == "waiting")
        assert feed.status.problem == "away"
        await until(lambda: feed.status.connections == 2)
        feed.stop()

    await run(api, source, stop)
    assert (await on_tape(nats_url, "SCRIPTED")).facts == []


async def test_it_can_be_stopped_while_the_source_tells_no_instruments(api: Api) -> None:
    source = Scripted(refusals=1_000)

    async def stop(feed: Feed) -> None:
        await until(lambda: feed.status.problem == "not yet")
        feed.stop()

    with suppress(Exception):  # there is no dataset yet to publish to
        await run(api, source, stop)
    assert source.standings == []


async def test_what_came_before_a_refusal_is_on_the_tape(api: Api, nats_url: str) -> None:
    with pytest.raises(RefusedError, match="no more"):
        await run(api, Scripted([Connected(), rows(1, 3), RefusedError("no more")]))
    assert (await on_tape(nats_url, "SCRIPTED")).numbers(Kind.TRADE) == [1, 2, 3]


async def test_a_quiet_source_tells_that_it_is_well(api: Api, nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_TELL_S", 0.05)
    source = Scripted([Connected(), rows(1), Alive(), 0.2, Alive(), 0.2, Alive(), 60.0])
    task = asyncio.create_task(run(api, source))
    async with Client.connect(api.url, api.api_key) as client:
        await client.put_instruments("SCRIPTED", [Instrument(symbol="A")])
        found = 0
        async with asyncio.timeout(20):
            while found < 3:  # the row, and two words without rows
                await asyncio.sleep(0.1)
                found = await _last_number(nats_url)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _last_number(nats_url: str) -> int:
    import nats

    from mda.tape.tape import Tape

    connection = await nats.connect(nats_url)
    try:
        tape = Tape(connection, "SCRIPTED")
        return (await tape.standing_of("scripted")).last_number if await tape.bounds() is not None else 0
    finally:
        await connection.close()


async def test_a_second_feed_of_the_same_name_ends_the_first(api: Api, nats_url: str) -> None:
    go_on = asyncio.Event()
    first = asyncio.create_task(run(api, Scripted([Connected(), rows(1), go_on, rows(2), 60.0])))
    async with asyncio.timeout(30):
        while await _last_number(nats_url) < 1:
            await asyncio.sleep(0.05)
    await run(api, Scripted([Connected(), rows(2)]))
    go_on.set()
    with pytest.raises(FencedError):
        await asyncio.wait_for(first, 60)


class Wide(Source):
    """Has a row of each of many instruments, and then one of each after a hole."""

    name: ClassVar[str] = "wide"
    rules: Mapping[Kind, Rule] = {Kind.TRADE: Rule.CONTIGUOUS}
    symbols: ClassVar[list[str]] = [f"S{number}" for number in range(1_100)]

    async def instruments(self) -> list[Instrument]:
        return [Instrument(symbol=symbol) for symbol in self.symbols]

    async def updates(self, ids: Mapping[str, int], standings: Standings) -> AsyncGenerator[Update]:
        yield Connected()
        for number in (1, 3):
            same = rows(0, len(ids))
            numbers = {"instrument_id": np.array([*ids.values()], np.uint32), "sequence": np.full(len(ids), number)}
            yield make_batch(Kind.TRADE, {**same.columns, **numbers})


async def test_more_holes_than_a_batch_takes_are_told(api: Api, nats_url: str) -> None:
    feed = await run(api, Wide())
    assert (feed.status.state, feed.status.gaps) == ("done", 1_100)
    tape = await on_tape(nats_url, "SCRIPTED")
    assert {gap.instrument_id for gap in tape.gaps if gap.first_sequence == gap.last_sequence == 2} == {
        *range(1, 1_101)
    }
    assert tape.numbers(Kind.TRADE) == [1, 3]


class Torrent(Source):
    """Has rows without end."""

    name: ClassVar[str] = "torrent"
    given = 0

    async def instruments(self) -> list[Instrument]:
        return [Instrument(symbol="A")]

    async def updates(self, ids: Mapping[str, int], standings: Standings) -> AsyncGenerator[Update]:
        yield Connected()
        while True:
            batch = rows(self.given, 16_384)
            self.given += batch.rows
            # NATS takes 1 MB as it is started here
            yield Batch(batch.kind, batch.rows, {n: values for n, values in batch.columns.items() if n != "ts_recv"})


@pytest.mark.timeout(240)
async def test_a_slow_tape_stops_the_reading_and_nothing_is_lost(api: Api, nats_url: str) -> None:
    """NATS is halted: what waits is bounded, the source is left alone, and all of it comes in the end."""
    port = nats_url.rpartition(":")[2]
    (server,) = [child for child in psutil.Process().children() if port in child.cmdline()]
    source = Torrent()

    async def halt(feed: Feed) -> None:
        await until(lambda: feed.status.state == "live" and feed.status.rows > 0)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await until(lambda: feed.status.unacknowledged >= (1 << 18) - 16_384)
            given = source.given
            await asyncio.sleep(1.5)
            assert source.given <= given + 2 * 16_384
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await until(lambda: feed.status.blocked_s > 1)
        feed.stop()

    feed = await run(api, source, halt)
    assert feed.status.unacknowledged == 0
    numbers = (await on_tape(nats_url, "SCRIPTED")).numbers(Kind.TRADE)
    assert numbers == list(range(feed.status.rows))
    assert "not read for" in sentence(feed.status.facts())


def test_a_status_in_words() -> None:
    status = Status(state="live")
    status.note_batch(rows(1, 2))
    facts = status.facts() | {"rows_per_s": 1234.0, "breaks": 2, "gaps": 1, "problem": "it broke"}
    assert sentence(facts) == "live: 2 rows, 1,234 rows/s, lags 1 ms, 1 gaps, 2 breaks, it broke"
