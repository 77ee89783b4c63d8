"""Trades of the past as they stand, where more were changed than a hub knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from nats.aio.client import Client

from marketdata.columns import ABSENT, MAX_ROWS, NANOS, Kind
from marketdata.query.v1.query_service_pb2 import ListBarsRequest, ListTradesRequest, ListTradesWithQuotesRequest
from marketdata.v1.batch_pb2 import TradeView
from marketdata.v1.gap_pb2 import Gap
from mda.lake import files, table
from mda.lake.lake import Lake
from mda.lake.location import Location
from mda.market.corrections import Corrections
from mda.market.decimals import format_decimal
from mda.market.errors import MarketDataError
from mda.query.history import changed as changed_module
from mda.query.history.as_of import rows_as_of
from mda.query.history.listing import Listing, Page, decode_place, encode_place, list_rows
from mda.query.history.methods import HistoryMethods
from mda.query.history.source import Source, Wanted, open_source
from mda.query.history.workers import Workers
from mda.query.hub import Hub
from mda.query.ring import ReadEntry
from mda.tape.checkpoint import Checkpoint, Checkpoints
from mda.tape.tape import Retention
from tests.query.feeding import Feed
from tests.query.history.changing import KNOWN, SPREAD_S, ChangedTrades, at_head, brief, changed_world
from tests.query.history.test_query_history import OneHub, facts, world_of
from tests.tape.helpers import NOW_NS, running, trades

CORRECTED = TradeView.TRADE_VIEW_CORRECTED
MINUTE = 60 * NANOS
_BEFORE = ("instrument_id", "ts_event", "tape_epoch", "tape_sequence", "time_ns")
"""Of these the log told bounds, before it did so of actions."""


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_SORTED_GROUP", "_FRESH_GROUP"):
        monkeypatch.setattr(files, name, 16)


@pytest.fixture(params=["log", "footer"])
async def changed(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[ChangedTrades]:
    """Give changed trades, whose files the log tells of as now, or as before."""
    if request.param == "footer":
        for module in (files, table):
            monkeypatch.setattr(module, "BOUNDED", _BEFORE)
    async with changed_world(client, tmp_path) as made:
        assert made.world.hub.corrections.complete_after > 0
        yield made


def pages(source: Source, listing: Listing) -> list[dict[str, int]]:
    """Return the rows of all pages of a listing."""
    rows: list[dict[str, int]] = []
    page = Page(None, None)
    while page.batch is None or page.last is not None:
        after = decode_place(encode_place(page.last))
        page = list_rows(
            source, Listing(listing.wanted, listing.limit, listing.newest_first, after, standing=listing.standing)
        )
        rows += facts(page.batch)
        if page.batch is None:
            break
    return rows


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("ids", [(1, 2, 3), (3,), (1, 3)])
async def test_trades_are_listed_as_they_stand(
    changed: ChangedTrades, ids: tuple[int, ...], newest_first: bool
) -> None:
    source = await changed.world.source(Kind.TRADE)
    for times in ((0, ABSENT), (NOW_NS + 300 * NANOS, NOW_NS + 2000 * NANOS), (NOW_NS, NOW_NS + 30 * NANOS)):
        wanted = Wanted(Kind.TRADE, None if len(ids) == 3 else np.array(ids, np.uint32), times)
        found = pages(source, Listing(wanted, 37, newest_first, standing=True))
        expected = changed.standing(ids, times)
        assert brief(found) == brief(expected[::-1] if newest_first else expected)


async def test_the_raw_view_is_as_it_was(changed: ChangedTrades) -> None:
    source = await changed.world.source(Kind.TRADE)
    expected = sorted(changed.rows(), key=lambda row: (row[1]["ts_event"], row[0]))
    assert brief(pages(source, Listing(Wanted(Kind.TRADE), 100))) == brief([row for _, row in expected])


async def test_trades_as_of_a_time_are_the_newest_that_stand(changed: ChangedTrades) -> None:
    source = await changed.world.source(Kind.TRADE)
    for second in (5, 700, 2500, SPREAD_S):
        time_ns = NOW_NS + second * NANOS
        newest = {row["instrument_id"]: row for row in changed.standing(times=(0, time_ns))}
        found = facts(rows_as_of(source, Kind.TRADE, np.array([1, 2, 3], np.uint32), time_ns, standing=True))
        assert brief(found) == brief([newest[one] for one in sorted(newest)])


async def test_methods_tell_trades_and_bars_as_they_stand(changed: ChangedTrades) -> None:
    hub = changed.world.hub
    methods = HistoryMethods(OneHub(hub), Workers())  # type: ignore[arg-type]
    rows = changed.standing()
    listed = await methods.list_trades(ListTradesRequest(dataset="X", view=CORRECTED, page_size=10_000))
    prices = [(row["sequence"], format_decimal(row["price"])) for row in rows]
    assert [(trade.sequence, trade.price) for trade in listed.trades] == prices
    joined = await methods.list_trades_with_quotes(
        ListTradesWithQuotesRequest(dataset="X", view=CORRECTED, page_size=10_000)
    )
    assert [(row.trade.sequence, row.trade.price) for row in joined.rows] == prices
    request = ListBarsRequest(dataset="X", symbols=["A", "C"], interval=Duration(seconds=60), page_size=10_000)
    request.start.FromNanoseconds(NOW_NS)
    request.end.FromNanoseconds(NOW_NS + SPREAD_S * NANOS)
    bars = await methods.list_bars(request)
    assert [
        (bar.symbol, bar.start_time.ToNanoseconds(), bar.open, bar.high, bar.low, bar.close, bar.volume, bar.count)
        for bar in bars.bars
    ] == _bars(changed)


def _bars(changed: ChangedTrades) -> list[tuple[Any, ...]]:
    bars: list[tuple[Any, ...]] = []
    for symbol, instrument in (("A", 1), ("C", 3)):
        rows = changed.standing((instrument,))
        for start in sorted({row["ts_event"] // MINUTE * MINUTE for row in rows}):
            inside = [row for row in rows if start <= row["ts_event"] < start + MINUTE]
            prices = [row["price"] for row in inside]
            values = (prices[0], max(prices), min(prices), prices[-1], sum(row["size"] for row in inside))
            bars.append((symbol, start, *map(format_decimal, values), len(inside)))
    return bars


async def test_what_is_dropped_while_a_query_is_under_way_is_found_again(client: Client, tmp_path: Path) -> None:
    async with world_of(client, tmp_path, known=2) as world:
        changed = ChangedTrades(world)
        await world.write(changed.trades(3), trades(90, 2, action=[1, 1], refers_to=[0, 1]))
        await world.archive()
        await world.write(changed.trades(3))
        source = await world.source(Kind.TRADE)
        parts = source.standing(Wanted(Kind.TRADE))
        first = next(parts)  # while all are known
        world.hub.corrections.add(trades(92, 2, action=[1, 1], refers_to=[50, 51]), world.hub.head + 1)
        found = [*facts(first.batch), *(row for part in parts for row in facts(part.batch))]
        assert sorted(brief(found)) == sorted(brief(changed.standing()))


async def _again(changed: ChangedTrades, folder: Path) -> Hub:
    """Return a new hub of the same dataset, which has not run yet."""
    hub = Hub(changed.world.feed.client, changed.world.feed.dataset, 1 << 20, b"", Location(str(folder)))
    hub.corrections = Corrections(KNOWN)
    await hub.open()
    return hub


async def _standing(hub: Hub) -> list[dict[str, int]]:
    source = await open_source(hub, [Kind.TRADE])
    return facts(list_rows(source, Listing(Wanted(Kind.TRADE), MAX_ROWS, standing=True)).batch)


async def test_what_was_dropped_is_known_after_a_restart(changed: ChangedTrades, tmp_path: Path) -> None:
    old = changed.world.hub
    await old.ready()
    await old._checkpoints.create(1)
    await old._checkpoint()
    hub = await _again(changed, tmp_path)
    assert hub.corrections.complete_after == old.corrections.complete_after > 0
    async with running(hub.run()):
        await hub.ready()
        assert brief(await _standing(hub)) == brief(changed.standing())


async def test_a_checkpoint_of_before_counts_as_whole_unless_it_is_full(client: Client, tmp_path: Path) -> None:
    async with changed_world(client, tmp_path) as changed:
        old, feed = changed.world.hub, changed.world.feed
        await at_head(changed)
        checkpoints = Checkpoints(client, feed.dataset)
        await checkpoints.create(1)
        kept = old.corrections.kept()
        await checkpoints.write(old.epoch, Checkpoint(old.head, [], [], kept, None))
        hub = await _again(changed, tmp_path)
        assert hub.corrections.complete_after == old.head
        async with running(hub.run()):
            await hub.ready()
            assert brief(await _standing(hub)) == brief(changed.standing())
        fewer = [kept[0].slice(0, KNOWN - 1)]
        await checkpoints.write(old.epoch, Checkpoint(old.head, [], [], fewer, None))
        assert (await _again(changed, tmp_path)).corrections.complete_after == 0


async def test_what_a_hub_could_not_learn_is_looked_for(client: Client, tmp_path: Path) -> None:
    async with world_of(client, tmp_path / "lake") as world:
        changed = ChangedTrades(world)
        await changed.write(6)
        await world.archive()
        await world.feed.tape.drop_before(6)
        hub = await _again(changed, tmp_path / "away")
        hub.corrections = Corrections()  # it knows all that comes
        async with running(hub.run()):
            await hub.ready()
            assert hub.corrections.complete_after == 5
            (tmp_path / "away").symlink_to(tmp_path / "lake")  # and back again
            assert hub.lake is not None
            hub.lake.view(fresh=True)
            assert brief(await _standing(hub)) == brief(changed.standing())


async def test_what_a_damaged_entry_held_may_be_in_the_lake(client: Client, tmp_path: Path) -> None:
    async with world_of(client, tmp_path) as world:
        world.hub._learn(ReadEntry(7, b"", gaps=[Gap(cause=Gap.CAUSE_SEQUENCE)]))
        assert world.hub.corrections.complete_after == 0
        world.hub._learn(ReadEntry(8, b"", gaps=[Gap(cause=Gap.CAUSE_TAPE_DAMAGED)]))
        assert world.hub.corrections.complete_after == 8


async def test_trades_of_a_tape_that_was_made_anew_stand_as_they_did(client: Client, tmp_path: Path) -> None:
    async with world_of(client, tmp_path) as world:
        changed = ChangedTrades(world)
        await changed.write(6)
        await world.archive()
        expected = changed.standing()
        await client.jetstream().delete_stream(world.feed.tape._log.stream)
        await world.feed.tape.create(Retention(1 << 24, 1))
        anew = Feed(client, world.feed.dataset)
        anew._version = world.feed._version
        await anew.write(trades(1000, ts_event=[NOW_NS + SPREAD_S * NANOS]))
        hub = await _again(changed, tmp_path)
        async with running(hub.run()):
            await hub.ready()
            assert hub.corrections.complete_after == 0
            found = await _standing(hub)
        assert brief(found[:-1]) == brief(expected)
        assert found[-1]["sequence"] == 1000


async def test_more_than_can_be_held_is_refused(changed: ChangedTrades, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changed_module, "MOST", 20)
    source = await changed.world.source(Kind.TRADE)
    with pytest.raises(MarketDataError, match="fewer symbols or for less time") as caught:
        list_rows(source, Listing(Wanted(Kind.TRADE), 1000, standing=True))
    assert (caught.value.reason_name, caught.value.metadata) == ("RANGE_TOO_LARGE", {"field": "symbols", "limit": "20"})
    assert list_rows(source, Listing(Wanted(Kind.TRADE), 1000)).batch is not None


class Counting:
    """The files of a place, and which of them were opened."""

    def __init__(self, filesystem: Any, opened: list[str]) -> None:
        self._filesystem = filesystem
        self._opened = opened

    def open_input_file(self, path: str) -> Any:
        self._opened.append(path)
        return self._filesystem.open_input_file(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._filesystem, name)


async def _opened(hub: Hub, listing: Listing, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the files that a query opens, who has no footers yet."""
    opened: list[str] = []
    filesystem = Location.filesystem.func  # type: ignore[attr-defined]
    assert hub.lake is not None
    hub._lake = Lake(hub._location, hub.dataset, hub.epoch)  # type: ignore[arg-type]
    with monkeypatch.context() as patched:
        patched.setattr(Location, "filesystem", property(lambda place: Counting(filesystem(place), opened)))
        list_rows(await open_source(hub, [Kind.TRADE]), listing)
    return sorted(opened)


@pytest.mark.parametrize("compact", [False, True])
async def test_a_lake_without_corrections_is_read_as_if_all_were_known(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compact: bool
) -> None:
    async with world_of(client, tmp_path) as world:
        changed = ChangedTrades(world)
        for _ in range(4):
            await world.write(changed.trades(20))
            await world.archive()
        if compact:
            await world.archive(compact=True)
        hub = world.hub
        for wanted in (
            Wanted(Kind.TRADE),
            Wanted(Kind.TRADE, np.array([2], np.uint32), (NOW_NS, NOW_NS + 900 * NANOS)),
        ):
            listing = Listing(wanted, 1000, standing=True)
            hub.corrections = Corrections()
            known = await _opened(hub, listing, monkeypatch)
            hub.corrections.miss(1)
            assert await _opened(hub, listing, monkeypatch) == known
            assert len(known) >= 2  # the footer and the rows of a file


async def test_only_files_with_corrections_are_read_for_them(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world_of(client, tmp_path) as world:
        changed = ChangedTrades(world)
        for number in range(4):
            await world.write(changed.trades(20), *([changed.random_changes(3)] if number == 2 else []))
            await world.archive()
        world.hub.corrections.miss(1)
        raw = await _opened(world.hub, Listing(Wanted(Kind.TRADE), 1000), monkeypatch)
        standing = await _opened(world.hub, Listing(Wanted(Kind.TRADE), 1000, standing=True), monkeypatch)
        more = list(standing)
        for path in raw:
            more.remove(path)
        assert len(set(more)) == 1
