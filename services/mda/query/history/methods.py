"""Translates between the wire and queries of the past. Decides nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import time as time_of_day
from functools import partial
from typing import Any, Final

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from marketdata.columns import Kind
from marketdata.query.v1.query_service_pb2 import (
    Dataset,
    GetQuotesAsOfRequest,
    GetQuotesAsOfResponse,
    ListBarsRequest,
    ListBarsResponse,
    ListDatasetsResponse,
    ListQuotesRequest,
    ListQuotesResponse,
    ListTradesRequest,
    ListTradesResponse,
    ListTradesWithQuotesRequest,
    ListTradesWithQuotesResponse,
    ScanRequest,
    StreamBarsRequest,
    TradeWithQuote,
)
from marketdata.query.v1.query_service_pb2 import (
    Session as SessionMessage,
)
from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1.bar_pb2 import BarFill, BarSource
from marketdata.v1.batch_pb2 import TradeView
from mda.lake.layout import TABLES
from mda.market.bars import Fill
from mda.market.errors import MarketDataError, invalid_field
from mda.market.instruments import Directory
from mda.market.intervals import Interval
from mda.market.rows import timestamp
from mda.market.sessions import EVERY_DAY, Session
from mda.query.corrected import CorrectedView
from mda.query.history.as_of import rows_as_of
from mda.query.history.bar_rows import rows_of_bars
from mda.query.history.bar_stream import BarStream, LiveBars
from mda.query.history.bars import BarQuery, decode_bar, encode_bar, make_bars, stretch_of
from mda.query.history.joined import Joined, trades_with_quotes
from mda.query.history.listing import Listing, decode_place, encode_place, list_rows
from mda.query.history.open_bars import Calendar
from mda.query.history.scan import Scan, lake_stretch, scan_rows
from mda.query.history.source import EVERYTHING, Ids, Wanted, look, open_source
from mda.query.history.venue_bars import venue_bars
from mda.query.history.workers import Workers
from mda.query.hub import Hub
from mda.query.hubs import Hubs
from mda.query.row_stream import QUOTES, TRADES, RowForm
from mda.query.selection import ALL_KINDS, select
from mda.query.symbols import find_ids
from mda.runtime.usage.account import Account

_PAGE: Final = 1_000
_LAST_NS: Final = EVERYTHING[1]
_MOST_PERIODS: Final = 5_000_000
_FILLS: Final = {
    BarFill.BAR_FILL_UNSPECIFIED: Fill.NONE,
    BarFill.BAR_FILL_NONE: Fill.NONE,
    BarFill.BAR_FILL_NULL: Fill.NULL,
    BarFill.BAR_FILL_PREVIOUS: Fill.PREVIOUS,
}

_SOURCES: Final = {
    BarSource.BAR_SOURCE_UNSPECIFIED: Kind.TRADE,
    BarSource.BAR_SOURCE_TRADES: Kind.TRADE,
    BarSource.BAR_SOURCE_QUOTE_MIDS: Kind.QUOTE,
    BarSource.BAR_SOURCE_VENUE: Kind.BAR,
}


class HistoryMethods:
    """The methods of `QueryService` that are of the past.

    Parameters
    ----------
    hubs
        The hubs of all datasets.
    workers
        The threads.
    """

    def __init__(self, hubs: Hubs, workers: Workers) -> None:
        self._hubs = hubs
        self._workers = workers

    async def list_datasets(self, may_see: Callable[[str], bool]) -> ListDatasetsResponse:
        """List the datasets that somebody may see."""
        names = filter(may_see, await self._hubs.names())
        return ListDatasetsResponse(datasets=[await self._dataset(name) for name in names])

    async def list_quotes(self, request: ListQuotesRequest) -> ListQuotesResponse:
        """List a page of quotes."""
        quotes, token = await self._list(request, QUOTES, standing=False)
        return ListQuotesResponse(quotes=quotes, next_page_token=token)

    async def list_trades(self, request: ListTradesRequest) -> ListTradesResponse:
        """List a page of trades."""
        standing = request.view == TradeView.TRADE_VIEW_CORRECTED
        trades, token = await self._list(request, TRADES, standing=standing)
        return ListTradesResponse(trades=trades, next_page_token=token)

    async def list_trades_with_quotes(self, request: ListTradesWithQuotesRequest) -> ListTradesWithQuotesResponse:
        """List a page of trades, each with the quote before it."""
        hub = await self._hubs.get(request.dataset)
        ids = await find_ids(hub, request.symbols)
        times = _times(request.start, request.end if request.HasField("end") else None)
        listing = Listing(
            Wanted(Kind.TRADE, _sorted_ids(ids), times),
            request.page_size or _PAGE,
            after=decode_place(request.page_token),
            standing=request.view == TradeView.TRADE_VIEW_CORRECTED,
        )
        tolerance_ns = request.tolerance.ToNanoseconds() if request.HasField("tolerance") else None
        async with self._workers.turn():
            source = await open_source(hub, [Kind.QUOTE, Kind.TRADE])
            work = partial(trades_with_quotes, source, listing, tolerance_ns)
            joined = await self._workers.run(hub.dataset, work)
        return ListTradesWithQuotesResponse(
            rows=_rows_with_quotes(joined, hub.directory), next_page_token=encode_place(joined.last)
        )

    async def list_bars(self, request: ListBarsRequest) -> ListBarsResponse:
        """List a page of bars."""
        hub = await self._hubs.get(request.dataset)
        query = _bar_query(request, await _all_ids(hub, request.symbols))
        after = decode_bar(request.page_token)
        stretch = stretch_of(query, request.page_size or _PAGE, after)
        if not len(stretch.ids) or not len(stretch.numbers):
            return ListBarsResponse()
        async with self._workers.turn():
            source = await open_source(hub, [query.kind])
            make = venue_bars if query.kind is Kind.BAR else make_bars
            work = partial(make, source, query, stretch, time.time_ns(), hub.gaps.times(query.kind))
            bars = await self._workers.run(hub.dataset, work)
        last = np.array([stretch.numbers.stop - 1], dtype=np.int64)
        place = (int(stretch.ids[-1]), int(query.periods.starts_of(last)[0]))
        more = stretch_of(query, 1, place)
        token = encode_bar(place) if len(more.ids) and len(more.numbers) else ""
        return ListBarsResponse(bars=rows_of_bars(bars, hub.directory), next_page_token=token)

    async def stream_bars(self, request: StreamBarsRequest, account: Account | None = None) -> BarStream:
        """Return a stream of bars, of as many symbols as the account may have."""
        hub = await self._hubs.get(request.dataset)
        ids = await find_ids(hub, request.symbols)
        if account is not None:
            account.require_symbols(len(hub.directory if ids is None else ids), "symbols")
        wanted = LiveBars(
            Calendar(_interval(request.interval), _session(request.session)),
            _sorted_ids(ids),
            _live_kind(request.source),
            request.updates.ToNanoseconds(),
        )
        cursor = await hub.place(request.cursor, "cursor") if request.cursor else None
        return BarStream(hub, wanted, self._workers, cursor)

    async def quotes_as_of(self, request: GetQuotesAsOfRequest) -> GetQuotesAsOfResponse:
        """Give each symbol's quote as of a time."""
        hub = await self._hubs.get(request.dataset)
        asked = await find_ids(hub, request.symbols)
        ids = await _all_ids(hub, request.symbols)
        if not len(ids):
            return GetQuotesAsOfResponse()
        async with self._workers.turn():
            source = await open_source(hub, [Kind.QUOTE])
            work = partial(rows_as_of, source, Kind.QUOTE, ids, request.time.ToNanoseconds())
            found = await self._workers.run(hub.dataset, work)
        if found is None:
            return GetQuotesAsOfResponse()
        rows = {int(instrument): row for row, instrument in enumerate(found["instrument_id"])}
        order = [rows[instrument] for instrument in asked or ids.tolist() if instrument in rows]
        return GetQuotesAsOfResponse(quotes=QUOTES.rows_of(found.take(np.array(order)), hub.directory))

    async def scan(self, request: ScanRequest, account: Account | None = None) -> AsyncGenerator[bytes]:
        """Yield the rows of a scan, as `ScanResponse` in bytes; count them against an account."""
        hub = await self._hubs.get(request.dataset)
        ids = await find_ids(hub, request.symbols)
        kinds = frozenset(Kind(kind) for kind in request.kinds if kind) or ALL_KINDS
        times = _times(request.start, request.end if request.HasField("end") else None)
        wanted = Wanted(Kind.TRADE, _sorted_ids(ids), times)
        is_corrected = request.view == TradeView.TRADE_VIEW_CORRECTED and Kind.TRADE in kinds
        corrected = CorrectedView(hub, wanted) if is_corrected else None
        scan = Scan(select(None if ids is None else frozenset(ids), kinds), times, corrected, account)
        place = await hub.place(request.cursor, "cursor") if request.cursor else await hub.earliest()
        stretches = [(max(after, place), until) for after, until in await self._stretches(hub, scan)]
        async with aclosing(scan_rows(hub, scan, stretches)) as messages:
            async for data in messages:
                yield data

    async def _stretches(self, hub: Hub, scan: Scan) -> list[tuple[int, int]]:
        """Return where rows of a scan are: in the lake, and after what the lake has."""
        lake, view = await look(hub)
        if lake is None or view is None or scan.times == EVERYTHING:
            return [(0, hub.head)]
        in_lake = await self._workers.run(hub.dataset, partial(lake_stretch, lake, view, scan))
        return [in_lake, (view.archived, hub.head)]

    async def _dataset(self, name: str) -> Dataset:
        hub = await self._hubs.get(name)
        dataset = Dataset(name=name, instruments=len(hub.directory))
        dataset.earliest, dataset.latest = hub.cursor(await hub.earliest()), hub.cursor(hub.head)
        async with self._workers.turn():
            source = await open_source(hub, list(Kind))
        for kind in Kind:
            least, greatest = source.span(kind)
            rows = sum(placed.batch.rows for placed in source.recent[kind])
            rows += source.view.tables[TABLES[kind]].rows if source.view is not None else 0
            if rows:
                dataset.kinds.add(
                    kind=f"KIND_{kind.name}", rows=rows, start_time=timestamp(least), end_time=timestamp(greatest)
                )
        return dataset

    async def _list(
        self, request: ListQuotesRequest | ListTradesRequest, form: RowForm, *, standing: bool
    ) -> tuple[Sequence[Any], str]:
        hub = await self._hubs.get(request.dataset)
        ids = await find_ids(hub, request.symbols)
        times = _times(request.start, request.end if request.HasField("end") else None)
        listing = Listing(
            Wanted(form.kind, _sorted_ids(ids), times),
            request.page_size or _PAGE,
            newest_first=request.newest_first,
            after=decode_place(request.page_token),
            without=sum(1 << (verdict - 1) for verdict in set(request.without_verdicts) if verdict),
            standing=standing,
        )
        async with self._workers.turn():
            source = await open_source(hub, [form.kind])
            page = await self._workers.run(hub.dataset, partial(list_rows, source, listing))
        rows = form.rows_of(page.batch, hub.directory) if page.batch is not None else []
        _mask(rows, request, form)
        return rows, encode_place(page.last)


def _rows_with_quotes(joined: Joined, directory: Directory) -> list[TradeWithQuote]:
    if joined.trades is None:
        return []
    trades = TRADES.rows_of(joined.trades, directory)
    used = np.unique(joined.rows[joined.rows >= 0])
    quotes = QUOTES.rows_of(joined.quotes.take(used), directory) if joined.quotes is not None else []
    quote_of = dict(zip(used.tolist(), quotes, strict=True))
    return [
        TradeWithQuote(trade=trade, quote=quote_of.get(row))
        for trade, row in zip(trades, joined.rows.tolist(), strict=True)
    ]


def _mask(rows: Sequence[Any], request: ListQuotesRequest | ListTradesRequest, form: RowForm) -> None:
    """Leave only the wanted fields of rows."""
    if not request.fields.paths:
        return
    names = {field.name for field in form.row.DESCRIPTOR.fields}
    for position, path in enumerate(request.fields.paths):
        if path not in names:
            field = f"fields.paths[{position}]"
            wanted = f"Send names of fields of {form.row.DESCRIPTOR.name}."
            raise invalid_field(field, "field_mask", f"{field}: rows have no field {path!r}. {wanted}")
    for name in names - {"symbol", "event_time", *request.fields.paths}:
        for row in rows:
            row.ClearField(name)


def _times(start: Timestamp, end: Timestamp | None) -> tuple[int, int]:
    """Return the first and the last event time."""
    first = start.ToNanoseconds()
    last = end.ToNanoseconds() - 1 if end is not None else _LAST_NS
    if last < first:
        raise invalid_field("end", "after", "end: is not after `start`. Send a later time, or none.")
    return first, last


def _sorted_ids(ids: Sequence[int] | None) -> Ids | None:
    return None if ids is None else np.unique(np.array(ids, dtype=np.uint32))


async def _all_ids(hub: Hub, symbols: Sequence[str]) -> Ids:
    """Return the ids of symbols, or of all, ascending."""
    ids = _sorted_ids(await find_ids(hub, symbols))
    return np.arange(1, len(hub.directory) + 1, dtype=np.uint32) if ids is None else ids


def _live_kind(source: BarSource) -> Kind:
    kind = _SOURCES[source]
    if kind is Kind.BAR:
        raise invalid_field("source", "live", "source: a venue's bars come as rows. Subscribe to the kind BAR.")
    return kind


def _bar_query(request: ListBarsRequest, ids: Ids) -> BarQuery:
    end_ns = request.end.ToNanoseconds() if request.HasField("end") else time.time_ns()
    start_ns = request.start.ToNanoseconds()
    if end_ns <= start_ns:
        raise invalid_field("end", "after", "end: is not after `start`. Send a later time, or none.")
    query = BarQuery(
        ids,
        start_ns,
        end_ns,
        _interval(request.interval),
        _session(request.session),
        _SOURCES[request.source],
        _FILLS[request.fill],
    )
    if query.kind is Kind.BAR and query.fill is Fill.PREVIOUS:
        raise invalid_field("fill", "source", "fill: a venue's bars are told as they are. Send NONE or NULL.")
    _check_size(query)
    return query


def _check_size(query: BarQuery) -> None:
    periods = (query.end_ns - query.start_ns) // query.interval.ns
    if periods > _MOST_PERIODS:
        raise MarketDataError(
            reasons.ERROR_REASON_RANGE_TOO_LARGE,
            f"interval: from `start` to `end` there are {periods:,} bars of each symbol, and {_MOST_PERIODS:,} are the "
            "most. Ask for longer bars, or for less time.",
            field="interval",
            bars=periods,
            limit=_MOST_PERIODS,
        )


def _interval(message: Duration) -> Interval:
    try:
        return Interval(message.ToNanoseconds())
    except ValueError as error:
        raise invalid_field("interval", "interval", str(error)) from None


def _session(message: SessionMessage) -> Session:
    try:
        return Session(
            message.time_zone or "UTC",
            time_of_day.fromisoformat(message.opens or "00:00"),
            time_of_day.fromisoformat(message.closes or "00:00"),
            frozenset(message.weekdays) or EVERY_DAY,
        )
    except ValueError as error:
        field = f"session.{str(error).partition(':')[0]}"
        raise invalid_field(field, "session", f"session.{error}") from None
