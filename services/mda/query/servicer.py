"""Translates between the wire and query. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, Final

import grpc

from marketdata.query.v1.query_service_pb2 import (
    GetDigestRequest,
    GetDigestResponse,
    GetLatestQuotesRequest,
    GetLatestQuotesResponse,
    GetLatestTradesRequest,
    GetLatestTradesResponse,
    GetQuotesAsOfRequest,
    GetQuotesAsOfResponse,
    ListBarsRequest,
    ListBarsResponse,
    ListDatasetsRequest,
    ListDatasetsResponse,
    ListGapsRequest,
    ListGapsResponse,
    ListQuotesRequest,
    ListQuotesResponse,
    ListTradesRequest,
    ListTradesResponse,
    ListTradesWithQuotesRequest,
    ListTradesWithQuotesResponse,
    ScanRequest,
    StreamBarsRequest,
    StreamBarsResponse,
    StreamQuotesRequest,
    StreamTradesRequest,
    SubscribeRequest,
    SubscribeResponse,
)
from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1.batch_pb2 import TradeView
from mda.market.errors import MarketDataError, draining, invalid_field
from mda.query.digest import tape_digest
from mda.query.history.bar_stream import BarStream
from mda.query.history.methods import HistoryMethods
from mda.query.history.workers import Workers
from mda.query.hubs import Hubs
from mda.query.opening import start_subscription
from mda.query.row_stream import QUOTES, TRADES, RowForm, RowStream
from mda.query.stream import Stream, serialize
from mda.query.subscription import Subscription
from mda.query.symbols import find_ids, start_position
from mda.runtime.errors import status_of
from mda.runtime.identity import current_account, current_principal
from mda.runtime.interceptors import check_request
from mda.runtime.lease import Lease, while_token_lives

Context = grpc.aio.ServicerContext[Any, Any]
_EXPIRY_NOTICE_S: Final = 60.0
"""A reader is told so many seconds before its token ends."""
_LAST_S: Final = 1.0
"""So long a stream's last messages may take, in seconds."""


class QueryServicer:
    """Serves `marketdata.query.v1.QueryService`; the streaming methods give bytes.

    Parameters
    ----------
    hubs
        The hubs of all datasets.
    draining
        Set when the service is about to stop.
    workers
        The threads of queries of the past.
    """

    def __init__(self, hubs: Hubs, draining: asyncio.Event, workers: Workers) -> None:
        self._hubs = hubs
        self._draining = draining
        self._history = HistoryMethods(hubs, workers)

    async def ListDatasets(self, request: ListDatasetsRequest, context: Context) -> ListDatasetsResponse:
        """List the datasets."""
        return await self._history.list_datasets(current_principal().may_see)

    async def ListQuotes(self, request: ListQuotesRequest, context: Context) -> ListQuotesResponse:
        """List a page of quotes."""
        return await self._history.list_quotes(request)

    async def ListTrades(self, request: ListTradesRequest, context: Context) -> ListTradesResponse:
        """List a page of trades."""
        return await self._history.list_trades(request)

    async def ListTradesWithQuotes(
        self, request: ListTradesWithQuotesRequest, context: Context
    ) -> ListTradesWithQuotesResponse:
        """List a page of trades with quotes."""
        return await self._history.list_trades_with_quotes(request)

    async def ListBars(self, request: ListBarsRequest, context: Context) -> ListBarsResponse:
        """List a page of bars."""
        return await self._history.list_bars(request)

    async def GetQuotesAsOf(self, request: GetQuotesAsOfRequest, context: Context) -> GetQuotesAsOfResponse:
        """Give each symbol's quote as of a time."""
        return await self._history.quotes_as_of(request)

    async def Scan(self, request: ScanRequest, context: Context) -> None:
        """Scan all rows of a time."""
        async with while_token_lives():
            drain = asyncio.create_task(self._draining.wait())
            try:
                async with aclosing(self._history.scan(request, current_account())) as messages:
                    async for data in messages:
                        await context.write(data)
                        if drain.done():
                            raise draining()
            finally:
                drain.cancel()

    async def GetLatestQuotes(self, request: GetLatestQuotesRequest, context: Context) -> GetLatestQuotesResponse:
        """Give the latest quotes."""
        return GetLatestQuotesResponse(quotes=await self._latest(request, QUOTES, corrected=False))

    async def GetLatestTrades(self, request: GetLatestTradesRequest, context: Context) -> GetLatestTradesResponse:
        """Give the latest trades."""
        corrected = request.view == TradeView.TRADE_VIEW_CORRECTED
        return GetLatestTradesResponse(trades=await self._latest(request, TRADES, corrected=corrected))

    async def GetDigest(self, request: GetDigestRequest, context: Context) -> GetDigestResponse:
        """Give the digest of a stretch of the tape."""
        hub = await self._hubs.get(request.dataset)
        found = await tape_digest(hub, request, await find_ids(hub, request.symbols))
        return GetDigestResponse(
            digest=found.digest.hex, rows=found.digest.rows, cursor=found.cursor, complete=found.complete
        )

    async def ListGaps(self, request: ListGapsRequest, context: Context) -> ListGapsResponse:
        """List a page of gaps."""
        hub = await self._hubs.get(request.dataset)
        gaps, token = hub.gaps.page(
            open_only=request.open_only, page_size=request.page_size, page_token=request.page_token
        )
        return ListGapsResponse(gaps=gaps, next_page_token=token)

    async def StreamQuotes(self, request: StreamQuotesRequest, context: Context) -> None:
        """Stream quotes as rows."""
        await self._stream_rows(request, QUOTES, context, corrected=False)

    async def StreamTrades(self, request: StreamTradesRequest, context: Context) -> None:
        """Stream trades as rows."""
        corrected = request.view == TradeView.TRADE_VIEW_CORRECTED
        await self._stream_rows(request, TRADES, context, corrected=corrected)

    async def StreamBars(self, request: StreamBarsRequest, context: Context) -> None:
        """Stream bars."""
        try:
            async with while_token_lives():
                resumed = _metadata(context, "last-event-id")
                if resumed:
                    request.cursor = resumed
                await self._pump(await self._history.stream_bars(request, current_account()), context)
        except MarketDataError as error:
            await _write_last(context, [serialize(StreamBarsResponse(end=status_of(error)))])
            raise

    async def Subscribe(self, requests: AsyncIterator[SubscribeRequest], context: Context) -> None:
        """Serve a subscription."""
        subscription: Subscription | None = None
        try:
            async with while_token_lives() as lease:
                start = await _read_start(requests)
                subscription = await start_subscription(await self._hubs.get(start.dataset), start, current_account())
                lease.before_end(_EXPIRY_NOTICE_S, partial(_tell_expiry, subscription, lease))
                reader = asyncio.create_task(_read_changes(requests, subscription, lease))
                try:
                    await self._pump(subscription, context)
                finally:
                    reader.cancel()
        except MarketDataError as error:
            last = [serialize(SubscribeResponse(end=status_of(error)))]
            if subscription is not None and error.reason == reasons.ERROR_REASON_DRAINING:
                last.insert(0, subscription.farewell())
            await _write_last(context, last)
            raise

    async def _latest(
        self, request: GetLatestQuotesRequest | GetLatestTradesRequest, form: RowForm, *, corrected: bool
    ) -> Sequence[Any]:
        hub = await self._hubs.get(request.dataset)
        latest = hub.latest_rows(form.kind, await find_ids(hub, request.symbols), corrected=corrected)
        return form.rows_of(latest, hub.directory) if latest is not None else []

    async def _stream_rows(
        self,
        request: StreamQuotesRequest | StreamTradesRequest,
        form: RowForm,
        context: Context,
        *,
        corrected: bool,
    ) -> None:
        try:
            async with while_token_lives():
                hub = await self._hubs.get(request.dataset)
                ids = await find_ids(hub, request.symbols)
                current_account().require_symbols(len(hub.directory if ids is None else ids), "symbols")
                # What a browser says when it connects again: it knows better than the address.
                resumed = _metadata(context, "last-event-id")
                snapshot = request.snapshot and not resumed
                position = await start_position(hub, resumed or request.cursor, snapshot=snapshot)
                rows = RowStream(hub, position, form, ids, snapshot=snapshot, corrected=corrected)
                await self._pump(rows, context)
        except MarketDataError as error:
            await _write_last(context, [serialize(form.response(end=status_of(error)))])
            raise

    async def _pump(self, stream: Stream | BarStream, context: Context) -> None:
        """Write a stream's messages until it ends."""
        stream.account = current_account()
        drain = asyncio.create_task(self._close_on_drain(stream))
        try:
            await stream.send(context.write)
        finally:
            drain.cancel()

    async def _close_on_drain(self, stream: Stream | BarStream) -> None:
        await self._draining.wait()
        stream.close(draining())


async def _write_last(context: Context, messages: Sequence[bytes]) -> None:
    """Write what a stream ends with; where its reader does not read, the status has to do."""
    with suppress(grpc.aio.InternalError, TimeoutError):  # InternalError: the message before is still on its way
        async with asyncio.timeout(_LAST_S):
            for message in messages:
                await context.write(message)


def _metadata(context: Context, name: str) -> str:
    found = next((value for key, value in context.invocation_metadata() or () if key == name), "")
    return found if isinstance(found, str) else ""


async def _read_start(requests: AsyncIterator[SubscribeRequest]) -> SubscribeRequest.Start:
    request = await anext(requests, SubscribeRequest())
    check_request(request)
    if not request.HasField("start"):
        raise invalid_field("start", "turn", "start: the first message must be `start`.")
    return request.start


def _tell_expiry(subscription: Subscription, lease: Lease) -> None:
    subscription.tell_expiry(lease.expires_s)


async def _read_changes(requests: AsyncIterator[SubscribeRequest], subscription: Subscription, lease: Lease) -> None:
    try:
        async for request in requests:
            check_request(request)
            if request.HasField("reauthenticate"):
                await lease.renew(request.reauthenticate.token)
            else:
                await subscription.change(request)
    except Exception as error:  # whatever it is, the subscription ends with it
        subscription.close(error)
