"""Queries of the past over lake and tape, against plain Python over all rows that were sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nats.aio.client import Client

from marketdata.columns import ABSENT, MAX_ROWS, NANOS, Batch, Kind, from_message, make_batch
from marketdata.query.v1.query_service_pb2 import ScanRequest, ScanResponse
from marketdata.wire import parse
from mda.archive.archiver import Archiver
from mda.lake.layout import Placed
from mda.lake.location import Location
from mda.market.bars import Fill, State, no_gaps
from mda.market.corrections import Corrections
from mda.market.errors import MarketDataError
from mda.market.intervals import Interval
from mda.market.sessions import Session
from mda.query.corrected import CorrectedView
from mda.query.history.as_of import rows_as_of
from mda.query.history.bars import BarQuery, make_bars, stretch_of
from mda.query.history.listing import Listing, decode_place, encode_place, list_rows
from mda.query.history.methods import HistoryMethods
from mda.query.history.scan import Scan, lake_stretch, scan_rows
from mda.query.history.source import EVERYTHING, Source, Wanted, look, open_source
from mda.query.history.venue_bars import venue_bars
from mda.query.history.workers import Workers
from mda.query.hub import Hub
from mda.query.selection import select
from tests.archive.feeding import archiver_of
from tests.query.feeding import Feed, make_feed
from tests.tape.helpers import NOW_NS, eventually, quotes, running, trades

SECOND = NANOS
_ROWS_OF_EACH = ((Kind.QUOTE, 9), (Kind.TRADE, 5), (Kind.BAR, 7))
_AMOUNTS = {
    Kind.QUOTE: ("bid_price", "bid_size", "ask_price", "ask_size"),
    Kind.TRADE: ("price", "size"),
    Kind.BAR: ("open", "high", "low", "close", "volume"),
}


class World:
    """A dataset some of whose rows are in the lake, some on the tape; and all that was sent."""

    def __init__(self, feed: Feed, hub: Hub, archiver: Archiver) -> None:
        self.feed = feed
        self.hub = hub
        self.archiver = archiver
        self.sent: list[tuple[int, int, Batch]] = []
        self._random = np.random.default_rng(7)

    async def write(self, *batches: Batch) -> None:
        sequence = await self.feed.write(*batches)
        row = 0
        for batch in batches:
            self.sent.append((sequence, row, batch))
            row += batch.rows

    async def write_random(self, entries: int, spread_s: int = 4000) -> None:
        for _ in range(entries):
            await self.write(*(self.some(kind, rows, spread_s) for kind, rows in _ROWS_OF_EACH))

    def some(self, kind: Kind, rows: int, spread_s: int) -> Batch:
        draw = self._random.integers
        columns: dict[str, Any] = {
            "instrument_id": draw(1, 4, rows),
            "ts_event": NOW_NS + draw(0, spread_s, rows) * SECOND,
            "sequence": draw(0, 1 << 40, rows),
        }
        if kind is Kind.BAR:
            columns["interval_ns"] = draw(1, 3, rows) * 60 * SECOND
        return make_batch(kind, columns | {name: draw(1, 50, rows) * NANOS for name in _AMOUNTS[kind]})

    async def archive(self, *, compact: bool = False) -> None:
        """Bring all that was written into the lake."""
        bounds = await self.feed.tape.bounds()
        assert bounds is not None
        async with running(self.archiver.run()):
            await eventually(lambda: self.archiver.archived >= bounds.last, within_s=30)
        if compact:
            await self.archiver.compact(whole=True)

    def rows(self, kind: Kind) -> list[dict[str, int]]:
        """Return all rows in the order of (event time, place)."""
        found: list[tuple[tuple[int, int, int], dict[str, int]]] = []
        for sequence, first, batch in self.sent:
            if batch.kind is kind:
                columns = {name: batch[name].tolist() for name in batch}
                for row in range(batch.rows):
                    values = {name: column[row] for name, column in columns.items()}
                    found.append(((values["ts_event"], sequence, first + row), values))
        return [values for _, values in sorted(found, key=lambda item: item[0])]

    async def source(self, *kinds: Kind) -> Source:
        return await open_source(self.hub, kinds or list(Kind))


@asynccontextmanager
async def world_of(
    client: Client, folder: Path, *, known: int = MAX_ROWS, ring_bytes: int = 1 << 20
) -> AsyncIterator[World]:
    """Give a dataset whose hub knows so many cancels and corrections."""
    feed = await make_feed(client)
    hub = Hub(client, feed.dataset, ring_bytes, b"", Location(str(folder)))
    hub.corrections = Corrections(known)
    archiver = archiver_of(feed, folder)
    await hub.open()
    async with running(hub.run()):
        yield World(feed, hub, archiver)


@pytest.fixture
async def world(client: Client, tmp_path: Path) -> AsyncIterator[World]:
    """Give rows in sorted files, in files as they came, and on the tape."""
    async with world_of(client, tmp_path) as made:
        await made.write_random(30)
        await made.archive(compact=True)
        await made.write_random(10)
        await made.archive()
        await made.write_random(10)
        yield made


def facts(batch: Batch | None) -> list[dict[str, int]]:
    if batch is None:
        return []
    columns = {name: batch[name].tolist() for name in batch}
    return [{name: column[row] for name, column in columns.items()} for row in range(batch.rows)]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("ids", [None, [1, 3]])
async def test_pages_hold_all_rows_once_in_order(world: World, ids: list[int] | None, newest_first: bool) -> None:
    start, end = NOW_NS + 500 * SECOND, NOW_NS + 3000 * SECOND
    expected = [row for row in world.rows(Kind.QUOTE) if start <= row["ts_event"] < end]
    if ids is not None:
        expected = [row for row in expected if row["instrument_id"] in ids]
    if newest_first:
        expected.reverse()
    wanted = Wanted(Kind.QUOTE, None if ids is None else np.array(ids, np.uint32), (start, end - 1))
    found: list[dict[str, int]] = []
    token, pages = "", 0
    while token or not pages:
        source = await world.source()
        listing = Listing(wanted, 37, newest_first=newest_first, after=decode_place(token))
        page = list_rows(source, listing)
        found += facts(page.batch)
        token, pages = encode_place(page.last), pages + 1
        if pages == 2:
            await world.archive(compact=True)  # where rows are does not change the pages
    assert found == expected
    assert pages == -(-len(expected) // 37)


async def test_a_row_is_there_as_soon_as_it_is_durable(world: World) -> None:
    for number in range(20):
        await world.write(trades(number, 1, ts_event=[NOW_NS - 1 - number]))
        source = await world.source(Kind.TRADE)
        page = list_rows(source, Listing(Wanted(Kind.TRADE), 1))
        assert facts(page.batch)[0]["ts_event"] == NOW_NS - 1 - number


async def test_rows_with_verdicts_are_left_out_and_trades_told_as_they_stand(client: Client, tmp_path: Path) -> None:
    async with world_of(client, tmp_path) as world:
        await world.write(trades(1, 3, verdicts=[0, 8, 0]))
        await world.archive()
        await world.write(trades(9, 2, action=[1, 2], refers_to=[1, 3], price=[5, 7]))
        source = await world.source()
        listed = list_rows(source, Listing(Wanted(Kind.TRADE), 9, without=8)).batch
        assert [row["sequence"] for row in facts(listed)] == [1, 3, 9, 10]
        standing = list_rows(source, Listing(Wanted(Kind.TRADE), 9, standing=True)).batch
        assert [(row["sequence"], row["price"]) for row in facts(standing)] == [(2, 1), (3, 7)]


async def test_nothing_is_listed_where_nothing_is(world: World) -> None:
    source = await world.source()
    assert list_rows(source, Listing(Wanted(Kind.QUOTE, None, (1, 5)), 9)).batch is None
    assert list_rows(source, Listing(Wanted(Kind.QUOTE, np.array([9], np.uint32)), 9)).batch is None


@pytest.mark.parametrize("token", ["!", "AAAA", "A" * 37, encode_place((1, 2, 3, 4)) + "A"])
def test_a_page_token_is_one_of_ours(token: str) -> None:
    with pytest.raises(MarketDataError, match="not a token"):
        decode_place(token)


async def test_rows_as_of_a_time_are_those_of_the_oracle(world: World) -> None:
    source = await world.source()
    ids = np.array([1, 2, 3], np.uint32)
    for seconds in (-1, 0, 1, 700, 2000, 3999, 10_000_000):
        time_ns = NOW_NS + seconds * SECOND
        for kind in Kind:
            expected: dict[int, dict[str, int]] = {}
            for row in world.rows(kind):
                if row["ts_event"] <= time_ns:
                    expected[row["instrument_id"]] = row
            found = facts(rows_as_of(source, kind, ids, time_ns))
            assert found == [expected[instrument] for instrument in sorted(expected)]


async def test_an_instrument_that_was_quiet_for_long_has_its_old_row(client: Client, tmp_path: Path) -> None:
    async with world_of(client, tmp_path) as world:
        await world.write(quotes(1, 1, instrument_id=[2], ts_event=[NOW_NS - 40 * 86_400 * SECOND]))
        await world.archive()
        await world.write_random(3)
        found = rows_as_of(await world.source(), Kind.QUOTE, np.array([2], np.uint32), NOW_NS - 5)
        assert found is not None
        assert found["sequence"].tolist() == [1]
        assert rows_as_of(await world.source(), Kind.QUOTE, np.array([2], np.uint32), 5) is None


def query_of(**values: Any) -> BarQuery:
    defaults: dict[str, Any] = {
        "ids": np.array([1, 2, 3], np.uint32),
        "start_ns": NOW_NS + 130 * SECOND,
        "end_ns": NOW_NS + 3800 * SECOND,
        "interval": Interval(60 * SECOND),
        "session": Session(),
        "kind": Kind.TRADE,
        "fill": Fill.NULL,
    }
    return BarQuery(**defaults | values)


@pytest.mark.parametrize("kind", [Kind.TRADE, Kind.QUOTE])
async def test_bars_in_pages_are_those_of_the_oracle(world: World, kind: Kind) -> None:
    query = query_of(kind=kind)
    bars: list[tuple[Any, ...]] = []
    after = (0, 0)
    while True:
        stretch = stretch_of(query, 50, after)
        if not len(stretch.ids) or not len(stretch.numbers):
            break
        made = make_bars(await world.source(), query, stretch, ABSENT, no_gaps())
        columns = (made.instrument_id, made.start, made.open, made.high, made.low, made.close, made.count)
        bars += zip(*(column.tolist() for column in columns), strict=True)
        last = stretch.numbers.stop - 1
        after = (int(stretch.ids[-1]), last * 60 * SECOND)
    assert bars == [_bar(world, query, instrument, start) for instrument in (1, 2, 3) for start in _starts(query)]


@pytest.mark.parametrize("compact", [False, True], ids=["as they came", "sorted"])
async def test_rows_of_one_time_and_entry_open_and_close_a_bar_as_they_came(
    client: Client, tmp_path: Path, compact: bool
) -> None:
    async with world_of(client, tmp_path) as world:
        prices = (1 + np.arange(90_000)) * NANOS  # more than are summed at once
        for part in (prices, prices[::-1]):
            ids = np.arange(len(part)) % 3 + 1
            columns = {"ts_event": np.full(len(part), NOW_NS), "instrument_id": ids, "price": part, "size": part}
            whole = make_batch(Kind.TRADE, columns)
            await world.write(*(whole.slice(first, first + 30_000) for first in range(0, len(part), 30_000)))
        await world.archive(compact=compact)
        for instrument in (1, 2, 3):
            query = query_of(ids=np.array([instrument], np.uint32), start_ns=NOW_NS, end_ns=NOW_NS + 60 * SECOND)
            made = make_bars(await world.source(), query, stretch_of(query, 1, (0, 0)), ABSENT, no_gaps())
            assert made.open.tolist() == [instrument * NANOS]
            assert made.close.tolist() == [int(prices[::-1][instrument - 1 :: 3][-1])]
            assert made.count.tolist() == [60_000]


@pytest.mark.parametrize("ids", [[1, 2, 3], [2], [1, 3], [3, 7], [9], []])
async def test_only_rows_of_the_instruments_and_times_are_read(world: World, ids: list[int]) -> None:
    found = await world.source()
    for times in ((0, ABSENT), (NOW_NS + 1000 * SECOND, NOW_NS + 2000 * SECOND)):
        parts = found.rows(Wanted(Kind.QUOTE, np.array(ids, np.uint32), times))
        wanted = [
            row
            for row in world.rows(Kind.QUOTE)
            if row["instrument_id"] in ids and times[0] <= row["ts_event"] <= times[1]
        ]
        rows = [row for placed in parts for row in facts(placed.batch)]
        assert sorted(rows, key=str) == sorted(wanted, key=str)


async def test_bars_of_the_venue_are_the_newest_of_their_interval(world: World) -> None:
    query = query_of(kind=Kind.BAR, fill=Fill.NONE)
    newest: dict[tuple[int, int], tuple[int, ...]] = {}
    for _, _, batch in world.sent:  # in the order of the tape
        for row in facts(batch) if batch.kind is Kind.BAR else ():
            start = row["ts_event"] // (60 * SECOND) * 60 * SECOND
            if row["interval_ns"] == 60 * SECOND and start in _starts(query):
                prices = tuple(row[name] for name in ("open", "high", "low", "close", "volume"))
                newest[row["instrument_id"], start] = (*prices, ABSENT, 1, State.FINAL, row["ts_event"])
    found: dict[tuple[int, int], tuple[int, ...]] = {}
    after = (0, 0)
    while len((stretch := stretch_of(query, 50, after)).ids) and len(stretch.numbers):
        made = venue_bars(await world.source(), query, stretch, ABSENT, no_gaps())
        columns = (made.open, made.high, made.low, made.close, made.vwap, made.count, made.state, made.start)
        assert (made.end - made.start == 60 * SECOND).all()
        values = zip(*(column.tolist() for column in columns), made.volume.to_ints(), strict=True)
        keys = zip(made.instrument_id.tolist(), (made.start // (60 * SECOND) * 60 * SECOND).tolist(), strict=True)
        for key, (*prices, vwap, count, state, start, volume) in zip(keys, values, strict=True):
            found[key] = (*prices, volume, vwap, count, state, start)
        after = (int(stretch.ids[-1]), (stretch.numbers.stop - 1) * 60 * SECOND)
    assert len(newest) > 50
    assert found == newest


async def test_empty_bars_of_the_venue_may_be_told(client: Client, tmp_path: Path) -> None:
    async with world_of(client, tmp_path) as world:
        await world.write(quotes(1, 1))
        query = query_of(kind=Kind.BAR, fill=Fill.NULL)
        made = venue_bars(await world.source(), query, stretch_of(query, 3, (0, 0)), ABSENT, no_gaps())
        assert (made.close.tolist(), made.count.tolist()) == ([ABSENT] * 3, [0] * 3)


def _starts(query: BarQuery) -> range:
    minute = 60 * SECOND
    return range(query.start_ns // minute * minute, query.end_ns, minute)


def _bar(world: World, query: BarQuery, instrument: int, start: int) -> tuple[int, ...]:
    first, end = max(start, query.start_ns), min(start + 60 * SECOND, query.end_ns)
    rows = [
        row for row in world.rows(query.kind) if row["instrument_id"] == instrument and first <= row["ts_event"] < end
    ]
    prices = [(row["bid_price"] + row["ask_price"]) // 2 if query.kind is Kind.QUOTE else row["price"] for row in rows]
    if not prices:
        return (instrument, start, ABSENT, ABSENT, ABSENT, ABSENT, 0)
    return (instrument, start, prices[0], max(prices), min(prices), prices[-1], len(prices))


async def test_empty_bars_go_on_with_the_close_before_the_page(client: Client, tmp_path: Path) -> None:
    async with world_of(client, tmp_path) as world:
        await world.write(trades(1, 1, price=[70], ts_event=[NOW_NS]), quotes(1, 1, ts_event=[NOW_NS]))
        await world.archive()
        for kind, close in ((Kind.TRADE, 70), (Kind.QUOTE, 15)):
            query = query_of(fill=Fill.PREVIOUS, kind=kind)
            made = make_bars(await world.source(), query, stretch_of(query, 5, (0, 0)), ABSENT, no_gaps())
            assert made.instrument_id.tolist() == [1] * 5
            assert made.open.tolist() == made.close.tolist() == [close] * 5
        query = query_of(fill=Fill.PREVIOUS, ids=np.array([2], np.uint32))
        made = make_bars(await world.source(), query, stretch_of(query, 5, (0, 0)), ABSENT, no_gaps())
        assert made.close.tolist() == [ABSENT] * 5


@given(
    ids=st.lists(st.integers(1, 9), min_size=1, max_size=5, unique=True).map(sorted),
    minutes=st.integers(1, 9),
    limit=st.integers(1, 12),
)
def test_pages_of_bars_cover_all_once(ids: list[int], minutes: int, limit: int) -> None:
    query = query_of(
        ids=np.array(ids, np.uint32),
        start_ns=NOW_NS,
        end_ns=NOW_NS + minutes * 60 * SECOND,
        interval=Interval.parse("1m"),
    )
    first = NOW_NS // (60 * SECOND)
    seen: list[tuple[int, int]] = []
    after = (0, 0)
    while len(stretch := stretch_of(query, limit, after).ids) and len(stretch_of(query, limit, after).numbers):
        found = stretch_of(query, limit, after)
        assert len(found.ids) * len(found.numbers) <= limit
        seen += [(int(instrument), number - first) for instrument in found.ids for number in found.numbers]
        after = (int(found.ids[-1]), (found.numbers.stop - 1) * 60 * SECOND)
        assert len(stretch)
    count = len(query.periods.between(query.start_ns, query.end_ns))
    assert seen == [(instrument, number) for instrument in ids for number in range(count)]


async def _scanned(world: World, scan: Scan, place: int, until: int) -> tuple[list[int], str]:
    rows: list[int] = []
    cursor = ""
    async for data in scan_rows(world.hub, scan, [(place, until)]):
        message = parse(ScanResponse, data)
        cursor = message.cursor
        for batch in message.batches:
            rows += from_message(batch)["sequence"].tolist()
    return rows, cursor


async def test_a_scan_gives_the_rows_of_a_time_in_the_order_of_the_tape(world: World) -> None:
    everything = [row for _, _, batch in world.sent for row in batch["sequence"].tolist()]
    whole = Scan(select(None), EVERYTHING, None)
    rows, cursor = await _scanned(world, whole, 0, world.hub.head)
    assert rows == everything
    assert await world.hub.place(cursor, "cursor") == world.hub.head
    times = (NOW_NS + 500 * SECOND, NOW_NS + 900 * SECOND)
    some = Scan(select(frozenset({1, 2}), frozenset({Kind.TRADE})), times, CorrectedView(world.hub))
    rows, _ = await _scanned(world, some, 0, world.hub.head)
    assert rows == [
        row
        for _, _, batch in world.sent
        if batch.kind is Kind.TRADE
        for row, time_ns, instrument in zip(
            batch["sequence"].tolist(), batch["ts_event"].tolist(), batch["instrument_id"].tolist(), strict=True
        )
        if times[0] <= time_ns <= times[1] and instrument in {1, 2}
    ]


async def test_a_scan_reads_where_its_rows_are_and_goes_on_after_a_cursor(client: Client, tmp_path: Path) -> None:
    async with world_of(client, tmp_path) as world:
        for second in range(0, 60, 2):
            await world.write(quotes(second, 2, ts_event=[NOW_NS + second * SECOND, NOW_NS + (second + 1) * SECOND]))
            if second in (18, 38):  # files of ten entries each; ten more stay on the tape
                await world.archive()
        await world.feed.tape.drop_before(16)
        scan = Scan(select(None), (NOW_NS + 21 * SECOND, NOW_NS + 24 * SECOND), None)
        lake, view = await look(world.hub)
        assert lake is not None
        assert view is not None
        stretch = lake_stretch(lake, view, scan)
        assert stretch == (10, 20)
        methods = HistoryMethods(OneHub(world.hub), Workers())
        request = ScanRequest(dataset="X")
        request.start.FromNanoseconds(scan.times[0])
        request.end.FromNanoseconds(scan.times[1] + 1)
        messages = [parse(ScanResponse, data) async for data in methods.scan(request)]
        assert _sequences(messages) == [21, 22, 23, 24]
        request.end.FromNanoseconds(NOW_NS + 51 * SECOND)
        messages = [parse(ScanResponse, data) async for data in methods.scan(request)]
        assert _sequences(messages) == list(range(21, 51))
        request.cursor = messages[0].cursor
        rest = [parse(ScanResponse, data) async for data in methods.scan(request)]
        assert _sequences([messages[0], *rest]) == list(range(21, 51))


class OneHub:
    """All hubs, of which there is one."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def get(self, _: str) -> Hub:
        return self._hub


def _sequences(messages: Sequence[Any]) -> list[int]:
    return [
        row for message in messages for batch in message.batches for row in from_message(batch)["sequence"].tolist()
    ]


async def test_rows_that_the_tape_dropped_before_the_archive_had_them_stop_no_query(
    client: Client, tmp_path: Path
) -> None:
    async with world_of(client, tmp_path) as world:
        await world.write(quotes(1))
        await world.archive()
        await world.write(quotes(2))
        await world.write(quotes(3))
        await eventually(lambda: world.hub.head == 3)
        await world.feed.tape.drop_before(3)  # as a tape does that keeps what is young
        found = list_rows(await world.source(), Listing(Wanted(Kind.QUOTE), 9)).batch
        assert [row["sequence"] for row in facts(found)] == [1, 3]


async def test_a_look_at_the_lake_is_not_older_than_the_tape(client: Client, tmp_path: Path) -> None:
    async with world_of(client, tmp_path) as world:
        await world.write(quotes(1))
        await world.archive()
        await world.source()  # a look that is good for a second
        await world.write(quotes(2))
        await world.archive()
        await world.feed.tape.drop_before(3)
        found = list_rows(await world.source(), Listing(Wanted(Kind.QUOTE), 9)).batch
        assert [row["sequence"] for row in facts(found)] == [1, 2]


async def test_queries_take_turns_and_too_many_are_refused() -> None:
    workers = Workers(threads=1, most_waiting=1)
    release = asyncio.Event()
    at_once: list[int] = []

    async def query(number: int) -> int:
        async with workers.turn():
            at_once.append(number)
            await release.wait()
            assert at_once == [number]
            at_once.remove(number)
            return await workers.run("X", partial(int, number))

    under_way = [asyncio.create_task(query(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(MarketDataError) as caught:
        await query(3)
    assert caught.value.reason_name == "OVERLOADED"
    release.set()
    assert await asyncio.gather(*under_way) == [1, 2]
    assert await query(4) == 4
    workers.close()


async def test_a_lake_that_fails_is_told(world: World) -> None:
    source = await world.source()
    assert source.view is not None
    for file in source.view.tables["quotes"].files:
        (Path(source.view.tables["quotes"].location.uri) / file.path).unlink()
    with pytest.raises(MarketDataError) as caught:
        await Workers().run("X", partial(list_rows, source, Listing(Wanted(Kind.QUOTE), 5)))
    assert caught.value.reason_name == "ARCHIVE_UNAVAILABLE"


async def test_without_a_lake_all_is_read_from_the_tape(client: Client) -> None:
    feed = await make_feed(client)
    hub = Hub(client, feed.dataset, 1 << 20)
    await hub.open()
    async with running(hub.run()):
        await feed.write(quotes(1, 3))
        source = await open_source(hub, [Kind.QUOTE])
        assert facts(list_rows(source, Listing(Wanted(Kind.QUOTE), 9)).batch)[2]["sequence"] == 3
        assert source.span(Kind.QUOTE) == (NOW_NS + 1, NOW_NS + 3)


@st.composite
def sources(draw: st.DrawFn) -> tuple[Source, list[tuple[int, int, int, int]]]:
    """Return rows in parts, some of older tapes, and all of them."""
    parts: list[Placed] = []
    everything: list[tuple[int, int, int, int]] = []
    for number in range(draw(st.integers(1, 5))):
        times = draw(st.lists(st.integers(0, 8), min_size=1, max_size=6))
        epoch = draw(st.integers(1, 2))
        sequence = np.full(len(times), number)
        row = np.arange(len(times), dtype=np.int32)
        parts.append(Placed(trades(0, len(times), ts_event=times), epoch, sequence, row))
        everything += [(time, epoch, number, place) for place, time in enumerate(times)]
    return Source(1, 0, None, None, {Kind.TRADE: parts}, Corrections()), everything


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(made=sources(), limit=st.integers(1, 9), newest_first=st.booleans())
def test_pages_go_on_where_the_one_before_ended(
    made: tuple[Source, Sequence[tuple[int, int, int, int]]], limit: int, newest_first: bool
) -> None:
    source, everything = made
    places: list[tuple[int, int, int, int] | None] = []
    listing = Listing(Wanted(Kind.TRADE), limit, newest_first=newest_first)
    rows = 0
    while True:
        page = list_rows(source, listing)
        rows += page.batch.rows if page.batch is not None else 0
        if page.last is None:
            break
        places.append(page.last)
        listing = Listing(Wanted(Kind.TRADE), limit, newest_first=newest_first, after=page.last)
    ordered = sorted(everything, reverse=newest_first)
    assert rows == len(ordered)
    assert places == ordered[limit - 1 : len(ordered) - 1 : limit]
