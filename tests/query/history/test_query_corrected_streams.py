"""Streams that begin in the past, of trades as they stand, where more were changed than a hub knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nats.aio.client import Client

from marketdata.columns import ABSENT, Kind, from_message
from marketdata.query.v1.query_service_pb2 import ScanRequest, ScanResponse, StreamTradesResponse, SubscribeResponse
from marketdata.v1.batch_pb2 import TradeView
from marketdata.wire import parse
from mda.lake import files
from mda.market.decimals import format_decimal
from mda.market.errors import MarketDataError
from mda.query.conflation import ConflatedSubscription
from mda.query.corrected import CorrectedView
from mda.query.history import changed as changed_module
from mda.query.history.methods import HistoryMethods
from mda.query.history.source import Wanted
from mda.query.history.workers import Workers
from mda.query.hub import Hub
from mda.query.row_stream import TRADES, RowStream
from tests.query.feeding import Reader, reading, subscribe
from tests.query.history.changing import ChangedTrades, at_head, brief, changed_world
from tests.query.history.test_query_history import OneHub, facts
from tests.tape.helpers import NOW_NS, eventually, running, trades

CORRECTED = TradeView.TRADE_VIEW_CORRECTED


@pytest.fixture(params=["ring", "lake"])
async def changed(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[ChangedTrades]:
    """Give changed trades, of which the ring has all, or of which the lake alone has the most."""
    for name in ("_SORTED_GROUP", "_FRESH_GROUP"):
        monkeypatch.setattr(files, name, 16)
    in_lake = request.param == "lake"
    async with changed_world(client, tmp_path, ring_bytes=1 if in_lake else 1 << 20) as made:
        if in_lake:
            await made.world.feed.tape.drop_before(25)
        await at_head(made)
        assert made.world.hub.corrections.complete_after > 0
        yield made


def told(reader: Reader) -> list[dict[str, int]]:
    """Return the trades that a reader was told."""
    batches = [batch for data in reader.data for batch in parse(SubscribeResponse, data).batches]
    return [row for batch in batches for row in facts(from_message(batch))]


@pytest.mark.parametrize("symbols", [None, ["C"]])
async def test_a_subscription_from_a_cursor(changed: ChangedTrades, symbols: list[str] | None) -> None:
    hub = changed.world.hub
    expected = [row for row in changed.on_tape() if symbols is None or row["instrument_id"] == 3]
    async with reading(hub, symbols, view=CORRECTED, cursor=hub.cursor(0)) as reader:
        await eventually(lambda: len(told(reader)) == len(expected), within_s=30)
        assert brief(told(reader)) == brief(expected)
        await changed.world.write(trades(5000), trades(5001, action=[1], refers_to=[5000]))  # it goes on, at the end
        await eventually(lambda: len(told(reader)) == len(expected) + (symbols is None), within_s=30)
        assert reader.subscription._corrections is hub.corrections
    assert hub.found._made is not None
    assert hub.found._made() is None  # nobody has it any more


async def test_a_subscription_from_in_between(changed: ChangedTrades) -> None:
    hub = changed.world.hub
    expected = changed.on_tape(after=20)
    async with reading(hub, view=CORRECTED, cursor=hub.cursor(20)) as reader:
        await eventually(lambda: len(told(reader)) == len(expected), within_s=30)
        assert brief(told(reader)) == brief(expected)


async def test_many_subscriptions_hold_one_piece(changed: ChangedTrades) -> None:
    views = [CorrectedView(changed.world.hub) for _ in range(5)]
    await asyncio.gather(*(view.reach(0) for view in views))
    assert len({id(view.known) for view in views}) == 1
    assert views[0].known is not changed.world.hub.corrections
    alone = CorrectedView(changed.world.hub, Wanted(Kind.TRADE, np.array([1], np.uint32)))
    await alone.reach(0)
    assert alone.known is not views[0].known


async def test_what_came_and_was_dropped_since_is_read_again(changed: ChangedTrades) -> None:
    hub = changed.world.hub
    view = CorrectedView(hub)
    await view.reach(0)
    before = view.known
    await changed.write(8)  # more changes than the hub knows
    await at_head(changed)
    await view.reach(0)
    assert view.known is not before
    raw = [batch for _, _, batch in changed.world.sent]
    assert brief([row for batch in view.known.apply_to(raw) for row in facts(batch)]) == brief(changed.on_tape())
    view.forget()
    assert view.known is hub.corrections


async def test_rows_for_people_from_the_beginning(changed: ChangedTrades) -> None:
    got: list[StreamTradesResponse] = []

    async def write(data: bytes) -> None:
        got.append(StreamTradesResponse.FromString(data))

    expected = changed.on_tape()
    stream = RowStream(changed.world.hub, 0, TRADES, None, snapshot=False, corrected=True)
    async with running(stream.send(write)):
        await eventually(lambda: sum(len(message.trades) for message in got) == len(expected), within_s=30)
    found = [(trade.sequence, trade.price) for message in got for trade in message.trades]
    assert found == [(row["sequence"], format_decimal(row["price"])) for row in expected]


async def test_a_conflated_subscription_tells_the_newest_as_it_stands(changed: ChangedTrades) -> None:
    hub = changed.world.hub
    start: dict[str, Any] = {"cursor": hub.cursor(0), "conflate": {"nanos": 50_000_000}, "kinds": [Kind.TRADE]}
    await changed.world.write(trades(6000, 2, instrument_id=[2, 2], action=[0, 1], refers_to=[ABSENT, 6000]))
    await changed.world.write(*(changed.changes_of(3, number) for number in range(8)))  # the hub forgets that one
    await at_head(changed)
    newest = {row["instrument_id"]: row for row in changed.on_tape() if not row["action"]}
    async with reading(hub, view=CORRECTED, **start) as reader:
        await eventually(lambda: bool(reader.rows), within_s=30)
        found = [row for row in told(reader) if not row["action"]]
        assert sorted(brief(found)) == sorted(brief(list(newest.values())))


async def _gather(subscription: ConflatedSubscription) -> None:
    """Have a subscription gather all that there is."""
    while subscription.position < subscription.hub.head:
        for entry in await subscription.hub.entries_after(subscription.position, 100):
            subscription._gather(entry)


async def test_what_a_conflated_reader_has_gathered_may_change_and_be_forgotten(changed: ChangedTrades) -> None:
    hub = changed.world.hub
    start: dict[str, Any] = {"cursor": hub.cursor(0), "conflate": {"seconds": 60}, "kinds": [Kind.TRADE]}
    subscription = await subscribe(hub, view=CORRECTED, **start)
    assert isinstance(subscription, ConflatedSubscription)
    await subscription._know()
    subscription._prepare()  # it is on all symbols now
    await _gather(subscription)
    cancels = [changed.changes_of(instrument, changed.number - 1) for instrument in (1, 2, 3)]
    others = [changed.changes_of(1, number) for number in range(8)]  # the hub forgets the cancels
    await changed.world.write(*cancels)
    await changed.world.write(*others)
    await at_head(changed)
    await _gather(subscription)
    await subscription._know()
    folded = parse(SubscribeResponse, subscription._folded())
    found = [row for batch in folded.batches for row in facts(from_message(batch)) if not row["action"]]
    newest = {row["instrument_id"]: row for row in changed.on_tape() if not row["action"]}
    assert sorted(brief(found)) == sorted(brief(list(newest.values())))


async def _scanned(hub: Hub, **options: Any) -> list[dict[str, int]]:
    methods = HistoryMethods(OneHub(hub), Workers())  # type: ignore[arg-type]
    request = ScanRequest(dataset="X", view=CORRECTED, **options)
    messages = [parse(ScanResponse, data) async for data in methods.scan(request)]
    return [row for message in messages for batch in message.batches for row in facts(from_message(batch))]


async def test_a_scan(changed: ChangedTrades) -> None:
    hub = changed.world.hub
    assert brief(await _scanned(hub)) == brief(changed.on_tape())
    of_one = [row for row in changed.on_tape() if row["instrument_id"] == 3]
    assert brief(await _scanned(hub, symbols=["C"])) == brief(of_one)
    start = {"seconds": NOW_NS // 10**9 + 500}
    end = {"seconds": NOW_NS // 10**9 + 900}
    times = range(start["seconds"] * 10**9, end["seconds"] * 10**9)
    of_times = [row for row in changed.on_tape() if row["ts_event"] in times]
    assert brief(await _scanned(hub, start=start, end=end)) == brief(of_times)
    assert await _scanned(hub, kinds=[Kind.QUOTE]) == []


async def test_more_than_can_be_held_ends_the_stream(changed: ChangedTrades, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changed_module, "MOST", 20)
    hub = changed.world.hub
    with pytest.raises(MarketDataError) as caught:
        await _scanned(hub)
    assert caught.value.reason_name == "RANGE_TOO_LARGE"
    refused = Reader(await subscribe(hub, view=CORRECTED, cursor=hub.cursor(0)))
    with pytest.raises(MarketDataError) as caught:
        await refused.run()
    assert not refused.rows
    assert caught.value.reason_name == "RANGE_TOO_LARGE"
    async with reading(hub, cursor=hub.cursor(0)) as reader:
        await eventually(lambda: len(reader.rows) == len(changed.rows()), within_s=30)
