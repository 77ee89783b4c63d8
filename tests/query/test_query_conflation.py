"""Conflated subscriptions: the newest row of each instrument in each interval, and counts of the rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from marketdata.columns import Kind
from marketdata.query.v1.query_service_pb2 import SubscribeRequest, SymbolSelection
from mda.market.errors import MarketDataError, draining
from mda.market.verdicts import OUT_OF_ORDER
from mda.query import conflation
from mda.query.conflation import ConflatedSubscription, fold
from mda.query.hub import Hub
from tests.query.feeding import Reader, make_feed, opened, reading, subscribe
from tests.tape.helpers import eventually, quotes, trades


def every(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(int(seconds * 1000))
    return duration


@asynccontextmanager
async def conflated(hub: Hub, symbols: Any = None, *, seconds: float = 0.1, **start: Any) -> AsyncIterator[Reader]:
    async with reading(hub, symbols, conflate=every(seconds), **start) as reader:
        yield reader


def folded(reader: Reader) -> int:
    return sum(message.folded_rows for message in reader.messages)


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=40))
def test_fold_keeps_the_last_in_order_row_of_each_instrument(rows: list[tuple[int, bool]]) -> None:
    ids = [instrument for instrument, _ in rows]
    verdicts = np.array([late for _, late in rows]) * np.uint32(OUT_OF_ORDER)
    newest = {instrument: place for place, (instrument, late) in enumerate(rows) if not late}
    found = fold(trades(0, len(rows), instrument_id=ids, verdicts=verdicts))
    assert found["sequence"].tolist() == sorted(newest.values())


async def test_the_newest_of_each_instrument_and_kind_comes_once_in_an_interval(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub, conflated(hub, seconds=0.3) as reader:
        await feed.write(trades(1))
        await eventually(lambda: reader.rows == [1])  # the first comes at once
        for number in range(2, 22, 2):
            await feed.write(trades(number, 2, instrument_id=[1, 2]), quotes(100 + number))
        await eventually(lambda: len(reader.rows) == 4)
        assert sorted(reader.rows[1:]) == [20, 21, 120]
        assert folded(reader) == 9 * 3
        assert reader.subscription.delivered_rows == 4
        assert reader.subscription.conflated_rows == 27


async def test_nothing_is_lost_in_the_counts_whatever_the_pace(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed, ring_bytes=2000) as hub, conflated(hub, seconds=0.02) as reader:
        for number in range(0, 600, 3):
            await feed.write(trades(number, 3, instrument_id=[1, 2, 1]))
        await eventually(lambda: len(reader.rows) + folded(reader) == 600)
        assert set(reader.rows[-2:]) == {598, 599}
        assert len(reader.rows) < 600
        assert reader.rows == sorted(reader.rows)


async def test_a_reader_that_is_behind_folds_all_that_it_missed_into_one_message(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conflation, "_FOLD_ROWS", 1000)  # and does so in steps
    feed = await make_feed(client)
    for number in range(0, 30_000, 100):
        await feed.write(trades(number, 100))
    async with opened(feed, ring_bytes=1) as hub, conflated(hub, cursor=hub.cursor(0)) as reader:
        await eventually(lambda: reader.rows == [29_999])
        assert folded(reader) == 29_999
        assert await hub.place(reader.cursor, "cursor") == 300


async def test_a_change_of_symbols_takes_effect_between_rows(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub, conflated(hub, ["A"], seconds=0.2) as reader:
        await feed.write(trades(1))
        await eventually(lambda: reader.rows == [1])
        await feed.write(trades(2, 2, instrument_id=[1, 2]))
        await reader.subscription.change(SubscribeRequest(subscribe=SymbolSelection(symbols=["B"])))
        await reader.subscription.change(SubscribeRequest(unsubscribe=SymbolSelection(symbols=["A"])))
        await feed.write(trades(4, 2, instrument_id=[1, 2]))
        await eventually(lambda: reader.rows[-1:] == [5])
        assert 4 not in reader.rows or reader.rows.index(4) < reader.rows.index(5)


async def test_a_quiet_conflated_reader_has_a_heartbeat_and_ends_soon(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed, ticks=True) as hub:
        subscription = await subscribe(hub, conflate=every(60), heartbeat=every(1))
        assert isinstance(subscription, ConflatedSubscription)
        reader = Reader(subscription)
        task = asyncio.create_task(reader.run())
        await feed.write(trades(1))
        await eventually(lambda: reader.rows == [1])
        await feed.write(trades(2))
        await eventually(lambda: any(message.HasField("watermark") for message in reader.messages))
        mark = next(message.watermark for message in reader.messages if message.HasField("watermark"))
        assert (mark.delivered_rows, mark.lag_entries) == (1, 1)
        began = time.monotonic()
        subscription.close(draining())
        with pytest.raises(MarketDataError, match="shutting down"):
            await asyncio.wait_for(task, 5)
        assert time.monotonic() - began < 2


async def test_kinds_are_kept(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub, conflated(hub, kinds=[Kind.QUOTE], seconds=0.05) as reader:
        await feed.write(trades(1), quotes(2))
        await eventually(lambda: reader.rows == [2])
        assert folded(reader) == 0
