"""Gaps that the tape tells of: every reader gets each once, in order, and the list has them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from nats.aio.client import Client

from marketdata.columns import Kind
from marketdata.query.v1.query_service_pb2 import SubscribeRequest, SymbolSelection
from marketdata.v1.gap_pb2 import Gap
from mda.query import conflation
from mda.query import hub as hub_module
from mda.query.hub import Hub
from mda.query.notices import tell_gaps
from mda.query.row_stream import QUOTES, TRADES, RowForm, RowStream
from mda.tape.checkpoint import Checkpoints
from tests.query.feeding import Feed, Reader, make_feed, opened, reading
from tests.tape.helpers import eventually, quotes, trades
from tests.tape.numbers import CLOSED, OPEN, Fact, facts_of

RING = pytest.mark.parametrize("ring_bytes", [1, 1 << 20], ids=["tape", "ring"])
TOLD: list[Fact] = [(OPEN, 3, 5), (OPEN, 8, 8), (CLOSED, 3, 5), (OPEN, 20, 29), (CLOSED, 8, 8)]


def gap(state: Gap.State, first: int, last: int) -> Gap:
    return Gap(producer="feed", cause=Gap.CAUSE_SEQUENCE, state=state, first_sequence=first, last_sequence=last)


async def written(feed: Feed, *, start: int = 0) -> None:
    """Write five entries with the records of `TOLD`, one of them without rows, and plain ones between."""
    await feed.write(trades(1, 2))
    await feed.write(trades(6, 2), gaps=[gap(*TOLD[0])])
    await feed.write(gaps=[gap(*TOLD[1])])
    await feed.write(quotes(3, 3), gaps=[gap(*fact) for fact in TOLD[2:4]])
    await feed.write(trades(30, 2))
    await feed.write(trades(8), gaps=[gap(*TOLD[4])])


def told(messages: Sequence[Any]) -> list[Fact]:
    return facts_of([found for message in messages for found in message.gaps], "feed")


def all_rows(reader: Reader) -> bool:
    return reader.subscription.position == 6


@RING
@pytest.mark.parametrize(
    ("symbols", "kinds"), [(None, []), (["A"], []), (["B"], []), (None, [Kind.QUOTE]), ([], [Kind.TRADE])]
)
async def test_every_selection_is_told_of_each_once_in_order(
    client: Client, ring_bytes: int, symbols: list[str] | None, kinds: list[Any]
) -> None:
    feed = await make_feed(client)
    await written(feed)
    async with (
        opened(feed, ring_bytes=ring_bytes) as hub,
        reading(hub, symbols, cursor=hub.cursor(0), kinds=kinds) as reader,
    ):
        await eventually(lambda: all_rows(reader))
        assert told(reader.messages) == TOLD
        wanted = {Kind.TRADE: [1, 2, 6, 7, 30, 31, 8], Kind.QUOTE: [3, 4, 5]}
        rows = [row for kind in kinds or wanted for row in wanted[kind]] if symbols in (None, ["A"]) else []
        assert sorted(reader.rows) == sorted(rows)


async def test_readers_that_keep_up_are_told_before_the_rows(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub, reading(hub) as reader, reading(hub, ["B"]) as other:
        await eventually(lambda: bool(reader.messages and other.messages))
        await written(feed)
        await eventually(lambda: all_rows(reader) and all_rows(other))
        assert told(reader.messages) == told(other.messages) == TOLD
        assert reader.rows == [1, 2, 6, 7, 3, 4, 5, 30, 31, 8]
        first = next(message for message in reader.messages if message.gaps)
        assert [6, 7] in [list(batch.trades.sequence) for batch in first.batches]
        assert all(message.cursor for message in other.messages)


@RING
@pytest.mark.parametrize("place", range(7))
async def test_a_reader_that_resumes_is_told_what_comes_after_its_cursor(
    client: Client, ring_bytes: int, place: int
) -> None:
    feed = await make_feed(client)
    await written(feed)
    after = [TOLD, TOLD, TOLD[1:], TOLD[2:], TOLD[4:], TOLD[4:], []][place]
    async with opened(feed, ring_bytes=ring_bytes) as hub, reading(hub, ["C"], cursor=hub.cursor(place)) as reader:
        await eventually(lambda: all_rows(reader))
        assert told(reader.messages) == after


@asynccontextmanager
async def conflated(hub: Hub, symbols: list[str] | None, seconds: float) -> AsyncIterator[Reader]:
    interval = Duration()
    interval.FromMilliseconds(int(seconds * 1000))
    async with reading(hub, symbols, cursor=hub.cursor(0), conflate=interval) as reader:
        yield reader


@RING
async def test_conflated_subscriptions_pass_them_on(client: Client, ring_bytes: int) -> None:
    feed = await make_feed(client)
    await written(feed)
    async with (
        opened(feed, ring_bytes=ring_bytes) as hub,
        conflated(hub, None, 0.05) as reader,
        conflated(hub, ["B"], 0.05) as other,
    ):
        await eventually(lambda: all_rows(reader) and all_rows(other))
        await reader.subscription.change(SubscribeRequest(unsubscribe=SymbolSelection(all=True)))
        await eventually(lambda: len(told(reader.messages)) == len(told(other.messages)) == 5)
        assert told(reader.messages) == told(other.messages) == TOLD


async def test_a_conflated_reader_that_is_behind_gathers_only_so_many(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conflation, "_MOST_GAPS", 3)
    feed = await make_feed(client)
    await written(feed)
    async with opened(feed) as hub, conflated(hub, None, 0.05) as reader:
        await eventually(lambda: len(told(reader.messages)) == 5)
        assert told(reader.messages) == TOLD
        assert max(len(message.gaps) for message in reader.messages) < 5
        assert len(reader.rows) + sum(message.folded_rows for message in reader.messages) == 10


@RING
@pytest.mark.parametrize("form", [QUOTES, TRADES], ids=["quotes", "trades"])
@pytest.mark.parametrize("ids", [None, [2]], ids=["all", "another"])
async def test_streams_of_rows_have_them(client: Client, ring_bytes: int, form: RowForm, ids: list[int] | None) -> None:
    feed = await make_feed(client)
    await written(feed)
    data: list[bytes] = []

    async def write(message: bytes) -> None:
        data.append(message)

    async with opened(feed, ring_bytes=ring_bytes) as hub:
        stream = RowStream(hub, 0, form, ids, snapshot=False)
        task = asyncio.create_task(stream.send(write))
        await eventually(lambda: stream.position == 6)
        task.cancel()
    messages: list[Any] = [form.response.FromString(message) for message in data]
    assert told(messages) == TOLD
    rows = [row.sequence for message in messages for row in getattr(message, form.field)]
    assert len(rows) == (0 if ids else {"quotes": 3, "trades": 7}[form.field])


def listed(hub: Hub, *, open_only: bool) -> list[Fact]:
    page, _ = hub.gaps.page(open_only=open_only, page_size=0, page_token="")
    return facts_of(page, "feed")


async def test_the_list_has_them_and_outlives_a_restart(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_TICK_S", 0.01)
    monkeypatch.setattr(hub_module, "_CHECKPOINT_S", 0.02)
    feed = await make_feed(client)
    checkpoints = Checkpoints(client, feed.dataset)
    async with opened(feed, ticks=True) as hub:
        await written(feed)
        await eventually(lambda: hub.head == 6)
        assert listed(hub, open_only=False) == TOLD[::-1]
        assert listed(hub, open_only=True) == [(OPEN, 20, 29)]
        await eventually(lambda: hub_module.OPEN_GAPS.labels(feed.dataset)._value.get() == 1)
        await eventually(lambda: hub._checkpointed == 6)
    assert facts_of((await checkpoints.newest(hub.epoch)).gaps, "feed") == TOLD
    await feed.write(trades(20, 10), gaps=[gap(CLOSED, 20, 29)])
    async with opened(feed) as again:
        assert again._checkpointed == 6  # the tape before it was not read
        assert listed(again, open_only=False) == [(CLOSED, 20, 29), *TOLD[::-1]]
        assert listed(again, open_only=True) == []
        async with reading(again, ["B"], cursor=again.cursor(0)) as reader:
            await eventually(lambda: reader.subscription.position == 7)
            assert told(reader.messages) == [*TOLD, (CLOSED, 20, 29)]


def test_operators_hear_of_many_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    tell_gaps("X", 7, [gap(OPEN, 3, 3), gap(OPEN, 5, 9), gap(CLOSED, 3, 3)])
    lines = capsys.readouterr()
    text = (lines.out + lines.err).splitlines()
    assert [("missing" in line, "last_number" in line) for line in text] == [(True, True)] * 2
