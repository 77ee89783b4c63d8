"""The part of the client that reads the past."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from marketdata.bar_updates import BarUpdates
from marketdata.calls import some
from marketdata.columns import NANOS, Kind
from marketdata.digest import Digest
from marketdata.instruments import Instruments
from marketdata.query.v1.query_service_pb2 import (
    Dataset,
    GetDigestRequest,
    GetQuotesAsOfRequest,
    ListBarsRequest,
    ListDatasetsRequest,
    ListQuotesRequest,
    ListTradesRequest,
    ListTradesWithQuotesRequest,
    ScanRequest,
    Session,
    StreamBarsRequest,
    TradeWithQuote,
)
from marketdata.query.v1.query_service_pb2_grpc import QueryServiceStub
from marketdata.rows import Rows
from marketdata.scan import Scan
from marketdata.tokens import TokenSource
from marketdata.v1.bar_pb2 import Bar, BarFill, BarSource
from marketdata.v1.batch_pb2 import TradeView
from marketdata.v1.quote_pb2 import Quote
from marketdata.v1.trade_pb2 import Trade


class History(Instruments):
    """Reads the past: rows as messages, for people, and all rows in columns with `scan`.

    Both can be given as tables: `to_polars()`, `to_pandas()`, `to_arrow()`. Times are
    nanoseconds since the epoch, UTC; a range has its start and not its end.
    """

    def __init__(self, channel: grpc.aio.Channel, tokens: TokenSource) -> None:
        super().__init__(channel, tokens)
        self._query = QueryServiceStub(channel)

    async def list_datasets(self) -> list[Dataset]:
        """Return the datasets, with what they hold.

        Raises
        ------
        ApiError
            If the server refuses.
        """
        return list((await self._call(self._query.ListDatasets, ListDatasetsRequest())).datasets)

    async def quotes(
        self,
        dataset: str,
        symbols: Sequence[str] | None = None,
        *,
        start_ns: int,
        end_ns: int | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> Rows[Quote]:
        """Return quotes by event time, each as a message. For many rows, `scan` is the way.

        Parameters
        ----------
        dataset
            Whose.
        symbols
            Which symbols; None for all.
        start_ns, end_ns
            The range of event times; without an end all that there is.
        newest_first
            Whether the newest comes first.
        limit
            How many at the most; None for all.

        Raises
        ------
        ApiError
            If the server refuses.
        ValueError
            If `symbols` is empty.
        """
        request = ListQuotesRequest(dataset=dataset, symbols=some(symbols), newest_first=newest_first)
        _set_range(request, start_ns, end_ns)
        return Rows(Quote, await self._pages(self._query.ListQuotes, request, "quotes", limit))

    async def trades(
        self,
        dataset: str,
        symbols: Sequence[str] | None = None,
        *,
        start_ns: int,
        end_ns: int | None = None,
        newest_first: bool = False,
        limit: int | None = None,
        corrected: bool = False,
    ) -> Rows[Trade]:
        """Return trades; otherwise as `quotes`.

        Parameters
        ----------
        corrected
            Trades as they stand (`TRADE_VIEW_CORRECTED`), not as they came.
        """
        request = ListTradesRequest(
            dataset=dataset, symbols=some(symbols), newest_first=newest_first, view=_view(corrected)
        )
        _set_range(request, start_ns, end_ns)
        return Rows(Trade, await self._pages(self._query.ListTrades, request, "trades", limit))

    async def trades_with_quotes(
        self,
        dataset: str,
        symbols: Sequence[str] | None = None,
        *,
        start_ns: int,
        end_ns: int | None = None,
        tolerance_ns: int | None = None,
        limit: int | None = None,
        corrected: bool = False,
    ) -> Rows[TradeWithQuote]:
        """Return trades, each with the quote before it; otherwise as `trades`.

        Parameters
        ----------
        tolerance_ns
            How much older than its trade a quote may be, in nanoseconds; None for any age.
        """
        request = ListTradesWithQuotesRequest(dataset=dataset, symbols=some(symbols), view=_view(corrected))
        if tolerance_ns is not None:
            request.tolerance.FromNanoseconds(tolerance_ns)
        _set_range(request, start_ns, end_ns)
        rows = await self._pages(self._query.ListTradesWithQuotes, request, "rows", limit)
        return Rows(TradeWithQuote, rows)

    async def bars(
        self,
        dataset: str,
        symbols: Sequence[str] | None = None,
        *,
        start_ns: int,
        end_ns: int | None = None,
        interval_s: int = 60,
        source: BarSource = BarSource.BAR_SOURCE_TRADES,
        fill: BarFill = BarFill.BAR_FILL_NONE,
        session: Session | None = None,
        limit: int | None = None,
    ) -> Rows[Bar]:
        """Return bars by symbol and start; otherwise as `quotes`.

        Parameters
        ----------
        interval_s
            How long a bar is: seconds that divide a day.
        source
            What the bars are made of.
        fill
            What to tell of intervals without rows.
        session
            The trading day; None for days from midnight to midnight UTC.
        """
        request = ListBarsRequest(dataset=dataset, symbols=some(symbols), source=source, fill=fill, session=session)
        request.interval.FromNanoseconds(interval_s * NANOS)
        _set_range(request, start_ns, end_ns)
        return Rows(Bar, await self._pages(self._query.ListBars, request, "bars", limit))

    def stream_bars(
        self,
        dataset: str,
        symbols: Sequence[str] | None = None,
        *,
        interval_s: int = 60,
        source: BarSource = BarSource.BAR_SOURCE_TRADES,
        session: Session | None = None,
        updates_s: float = 0,
        cursor: str = "",
    ) -> BarUpdates:
        """Return bars as they come, to iterate over: each once it is over, and again each time that it changes.

        Parameters
        ----------
        dataset, symbols, interval_s, source, session
            As in `bars`.
        updates_s
            Tell bars that go on, too, this often, in seconds; 0 for not.
        cursor
            Go on after this place: the `cursor` of an earlier update of the same.

        Raises
        ------
        ValueError
            If `symbols` is empty.
        """
        request = StreamBarsRequest(
            dataset=dataset, symbols=some(symbols), source=source, session=session, cursor=cursor
        )
        request.interval.FromNanoseconds(interval_s * NANOS)
        if updates_s:
            request.updates.FromNanoseconds(round(updates_s * NANOS))
        return BarUpdates(self._channel, self._tokens, request)

    async def quotes_as_of(self, dataset: str, symbols: Sequence[str] | None = None, *, time_ns: int) -> Rows[Quote]:
        """Return each symbol's last quote whose event was not after a time. A symbol without one is left out.

        Raises
        ------
        ApiError
            If the server refuses.
        ValueError
            If `symbols` is empty.
        """
        request = GetQuotesAsOfRequest(dataset=dataset, symbols=some(symbols), time=_timestamp(time_ns))
        return Rows(Quote, (await self._call(self._query.GetQuotesAsOf, request)).quotes)

    def scan(
        self,
        dataset: str,
        symbols: Sequence[str] | None = None,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        kinds: Collection[Kind] = (),
        corrected: bool = False,
        cursor: str = "",
    ) -> Scan:
        """Return a scan of all rows of a time in columns, in the order of the tape, to iterate over.

        Parameters
        ----------
        dataset
            What to scan.
        symbols
            Which symbols; None for all.
        start_ns, end_ns
            The range of event times; None for all that there is.
        kinds
            Which kinds; empty for all.
        corrected
            Trades as they stand when they are sent (`TRADE_VIEW_CORRECTED`), not as they came.
        cursor
            Go on after this place: the `cursor` of an update of an earlier scan of the same.

        Raises
        ------
        ValueError
            If `symbols` is empty.
        """
        request = ScanRequest(
            dataset=dataset, symbols=some(symbols), kinds=_names(kinds), view=_view(corrected), cursor=cursor
        )
        _set_range(request, start_ns, end_ns)
        return Scan(self._channel, self._tokens, request, self.symbols)

    async def digest(
        self,
        dataset: str,
        *,
        symbols: Sequence[str] | None = None,
        kinds: Collection[Kind] = (),
        after: str = "",
        until: str = "",
    ) -> tuple[Digest, str]:
        """Return the digest of a stretch of the tape, and the cursor that it goes up to.

        A subscriber that has added up `digest_of` all batches that it received between
        the two places has the same, if it has every row once.

        Parameters
        ----------
        dataset
            Whose tape.
        symbols
            Which symbols; None for all.
        kinds
            Which kinds; empty for all.
        after
            The stretch begins after this cursor; empty for the earliest row.
        until
            It ends at this cursor; empty for all that is there now.

        Raises
        ------
        ApiError
            If the server refuses.
        ValueError
            If `symbols` is empty.
        """
        total = Digest()
        while True:
            request = GetDigestRequest(
                dataset=dataset,
                symbols=some(symbols),
                kinds=_names(kinds),
                after=after,
                until=until,
            )
            page = await self._call(self._query.GetDigest, request)
            total += Digest.from_hex(page.digest, page.rows)
            after = page.cursor
            if page.complete:
                return total, after


def _names(kinds: Collection[Kind]) -> list[Any]:
    return [f"KIND_{kind.name}" for kind in kinds]


def _view(corrected: bool) -> TradeView:
    return TradeView.TRADE_VIEW_CORRECTED if corrected else TradeView.TRADE_VIEW_RAW


def _set_range(request: Any, start_ns: int | None, end_ns: int | None) -> None:
    if start_ns is not None:
        request.start.CopyFrom(_timestamp(start_ns))
    if end_ns is not None:
        request.end.CopyFrom(_timestamp(end_ns))


def _timestamp(time_ns: int) -> Timestamp:
    seconds, nanos = divmod(time_ns, NANOS)
    return Timestamp(seconds=seconds, nanos=nanos)
