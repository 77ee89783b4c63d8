"""Translates between the wire and query. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
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
    ListGapsRequest,
    ListGapsResponse,
    StreamQuotesRequest,
    StreamTradesRequest,
    SubscribeRequest,
    SubscribeResponse,
)
from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1.batch_pb2 import TradeView
from mda.market.errors import MarketDataError, draining, invalid_field, unknown_symbol
from mda.query.digest import tape_digest
from mda.query.hub import Hub
from mda.query.hubs import Hubs
from mda.query.opening import start_subscription
from mda.query.row_stream import QUOTES, TRADES, RowForm, RowStream
from mda.query.stream import Stream, serialize
from mda.query.subscription import Subscription
from mda.query.symbols import split_symbols, start_position
from mda.runtime.errors import status_of
from mda.runtime.identity import Lease, while_token_lives
from mda.runtime.interceptors import check_request

Context = grpc.aio.ServicerContext[Any, Any]
_LONGEST_SYMBOL: Final = 64
_EXPIRY_NOTICE_S: Final = 60.0
"""A reader is told so many seconds before its token ends."""


class QueryServicer:
    """Serves `marketdata.query.v1.QueryService`; the streaming methods give bytes.

    Parameters
    ----------
    hubs
        The hubs of all datasets.
    draining
        Set when the service is about to stop.
    """

    def __init__(self, hubs: Hubs, draining: asyncio.Event) -> None:
        self._hubs = hubs
        self._draining = draining

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
        found = await tape_digest(hub, request, await _ids(hub, request.symbols))
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

    async def Subscribe(self, requests: AsyncIterator[SubscribeRequest], context: Context) -> None:
        """Serve a subscription."""
        subscription: Subscription | None = None
        try:
            async with while_token_lives() as lease:
                start = await _read_start(requests)
                subscription = await start_subscription(await self._hubs.get(start.dataset), start)
                lease.before_end(_EXPIRY_NOTICE_S, partial(_tell_expiry, subscription, lease))
                reader = asyncio.create_task(_read_changes(requests, subscription, lease))
                try:
                    await self._pump(subscription, context)
                finally:
                    reader.cancel()
        except MarketDataError as error:
            if subscription is not None and error.reason == reasons.ERROR_REASON_DRAINING:
                await context.write(subscription.farewell())
            await context.write(serialize(SubscribeResponse(end=status_of(error))))
            raise

    async def _latest(
        self, request: GetLatestQuotesRequest | GetLatestTradesRequest, form: RowForm, *, corrected: bool
    ) -> Sequence[Any]:
        hub = await self._hubs.get(request.dataset)
        latest = hub.latest_rows(form.kind, await _ids(hub, request.symbols), corrected=corrected)
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
                ids = await _ids(hub, request.symbols)
                # What a browser says when it connects again: it knows better than the address.
                resumed = _metadata(context, "last-event-id")
                snapshot = request.snapshot and not resumed
                position = await start_position(hub, resumed or request.cursor, snapshot=snapshot)
                rows = RowStream(hub, position, form, ids, snapshot=snapshot, corrected=corrected)
                await self._pump(rows, context)
        except MarketDataError as error:
            await context.write(serialize(form.response(end=status_of(error))))
            raise

    async def _pump(self, stream: Stream, context: Context) -> None:
        """Write a stream's messages until it ends."""
        drain = asyncio.create_task(self._close_on_drain(stream))
        try:
            await stream.send(context.write)
        finally:
            drain.cancel()

    async def _close_on_drain(self, stream: Stream) -> None:
        await self._draining.wait()
        stream.close(draining())


def _metadata(context: Context, name: str) -> str:
    found = next((value for key, value in context.invocation_metadata() or () if key == name), "")
    return found if isinstance(found, str) else ""


async def _ids(hub: Hub, items: Sequence[str]) -> list[int] | None:
    """Return the ids of symbols in a unary request; None for all.

    Raises
    ------
    MarketDataError
        UNKNOWN_INSTRUMENT for the first that the dataset does not have.
    """
    symbols = split_symbols(items)
    if not symbols:
        return None
    ids: list[int] = []
    for position, found in enumerate(await hub.find_symbols(symbols)):
        if found is None:
            # What came may be long, and errors travel in headers.
            raise unknown_symbol(hub.dataset, symbols[position][:_LONGEST_SYMBOL], f"symbols[{position}]")
        ids.append(found)
    return ids


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
