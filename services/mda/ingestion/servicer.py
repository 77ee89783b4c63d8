"""Translates between the wire and ingestion. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from marketdata.columns import Kind
from marketdata.ingestion.v1.ingestion_service_pb2 import (
    ACK_LEVEL_ACCEPTED,
    ACK_LEVEL_DURABLE,
    ACK_LEVEL_VISIBLE,
    AckLevel,
    GetPolicyRequest,
    GetPolicyResponse,
    ListInstrumentsRequest,
    ListInstrumentsResponse,
    ListQuarantinedRequest,
    ListQuarantinedResponse,
    PublishQuotesRequest,
    PublishQuotesResponse,
    PublishRequest,
    PublishResponse,
    PublishTradesRequest,
    PublishTradesResponse,
    PutInstrumentsRequest,
    PutInstrumentsResponse,
    PutPolicyRequest,
    PutPolicyResponse,
    ReleaseQuarantinedRequest,
    ReleaseQuarantinedResponse,
)
from marketdata.v1.quarantine_pb2 import QuarantinedRows
from mda.ingestion.datasets import Dataset, Datasets
from mda.ingestion.publication import Outcome, Publication
from mda.ingestion.reading import out_of_turn, read_batches, read_request
from mda.ingestion.release import Item, list_items, release
from mda.ingestion.rows import RowPublisher
from mda.market.errors import draining
from mda.market.instruments import Directory
from mda.market.pages import decode_page, encode_page
from mda.market.policy import effective
from mda.market.rows import (
    bars_of_batch,
    batch_of_quotes,
    batch_of_trades,
    quotes_of_batch,
    timestamp,
    trades_of_batch,
)
from mda.runtime.identity import current_account
from mda.runtime.lease import while_token_lives
from mda.runtime.telemetry import BYTES, ROWS
from mda.runtime.validation import validate_request

Context = grpc.aio.ServicerContext[Any, Any]
_DEFAULT_PAGE = 1000
_DEFAULT_ITEMS = 100


class IngestionServicer:
    """Serves `marketdata.ingestion.v1.IngestionService`; `Publish` takes bytes.

    Parameters
    ----------
    datasets
        All datasets.
    draining
        Set when the service is about to stop.
    tasks
        Runs the row publishers for as long as the service lives.
    """

    def __init__(self, datasets: Datasets, draining: asyncio.Event, tasks: asyncio.TaskGroup) -> None:
        self._datasets = datasets
        self._draining = draining
        self._tasks = tasks
        self._publishers: dict[str, RowPublisher] = {}

    async def Publish(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """Serve a producer's stream."""
        async with while_token_lives():
            opening = _read_open(await anext(requests, b""))
            level = opening.ack_level or ACK_LEVEL_DURABLE
            dataset = await self._datasets.get(opening.dataset)
            accepted, visible = level == ACK_LEVEL_ACCEPTED, level == ACK_LEVEL_VISIBLE
            count_rows = current_account().count_rows
            publication = Publication(
                dataset, opening.producer, accepted=accepted, visible=visible, count_rows=count_rows
            )
            last_number = await publication.open()
            await context.write(
                PublishResponse(opened=PublishResponse.Opened(last_number=last_number, position=publication.position))
            )
            reader = asyncio.create_task(_read_batches(requests, publication, opening.dataset))
            drain = asyncio.create_task(self._close_on_drain(publication))
            try:
                async for outcomes in publication.outcomes():
                    await context.write(_acks(outcomes, level))
            finally:
                reader.cancel()
                drain.cancel()

    async def _close_on_drain(self, publication: Publication) -> None:
        await self._draining.wait()
        publication.close(draining())

    async def PublishQuotes(self, request: PublishQuotesRequest, context: Context) -> PublishQuotesResponse:
        """Publish quotes as rows."""
        dataset = await self._datasets.get(request.dataset)
        await dataset.know(quote.symbol for quote in request.quotes)
        batch = batch_of_quotes(request.dataset, request.quotes, dataset.directory)
        published = await self._publisher(request.dataset, dataset).publish(batch)
        ROWS.labels("in", request.dataset).inc(batch.rows)
        return PublishQuotesResponse(
            tape_sequence=published.sequence,
            flagged_rows=published.flagged_rows,
            quarantined_rows=published.quarantined_rows,
        )

    async def PublishTrades(self, request: PublishTradesRequest, context: Context) -> PublishTradesResponse:
        """Publish trades as rows."""
        dataset = await self._datasets.get(request.dataset)
        await dataset.know(trade.symbol for trade in request.trades)
        batch = batch_of_trades(request.dataset, request.trades, dataset.directory)
        published = await self._publisher(request.dataset, dataset).publish(batch)
        ROWS.labels("in", request.dataset).inc(batch.rows)
        return PublishTradesResponse(
            tape_sequence=published.sequence,
            flagged_rows=published.flagged_rows,
            quarantined_rows=published.quarantined_rows,
        )

    async def PutInstruments(self, request: PutInstrumentsRequest, context: Context) -> PutInstrumentsResponse:
        """Add or change instruments."""
        dataset = await self._datasets.create(request.dataset)
        return PutInstrumentsResponse(instruments=await dataset.put_instruments(request.instruments))

    async def ListInstruments(self, request: ListInstrumentsRequest, context: Context) -> ListInstrumentsResponse:
        """List a page of instruments."""
        dataset = await self._datasets.get(request.dataset)
        await dataset.refresh()
        after_id = decode_page(request.page_token)
        page = dataset.directory.page(after_id, request.page_size or _DEFAULT_PAGE)
        more = after_id + len(page) < len(dataset.directory)
        token = encode_page(after_id + len(page)) if more else ""
        return ListInstrumentsResponse(instruments=page, next_page_token=token)

    async def PutPolicy(self, request: PutPolicyRequest, context: Context) -> PutPolicyResponse:
        """Set a dataset's policy."""
        dataset = await self._datasets.get(request.dataset)
        return PutPolicyResponse(policy=await dataset.put_policy(request.policy))

    async def GetPolicy(self, request: GetPolicyRequest, context: Context) -> GetPolicyResponse:
        """Tell a dataset's policy."""
        dataset = await self._datasets.get(request.dataset)
        await dataset.refresh()
        return GetPolicyResponse(policy=effective(dataset.directory.policy))

    async def ListQuarantined(self, request: ListQuarantinedRequest, context: Context) -> ListQuarantinedResponse:
        """List a page of rows that were set aside."""
        dataset = await self._datasets.get(request.dataset)
        after = decode_page(request.page_token)
        items, more = await list_items(dataset, after, request.page_size or _DEFAULT_ITEMS)
        token = encode_page(items[-1].place) if more else ""
        return ListQuarantinedResponse(
            items=[_quarantined(item, dataset.directory) for item in items], next_page_token=token
        )

    async def ReleaseQuarantined(
        self, request: ReleaseQuarantinedRequest, context: Context
    ) -> ReleaseQuarantinedResponse:
        """Put rows that were set aside on the tape."""
        dataset = await self._datasets.get(request.dataset)
        response = ReleaseQuarantinedResponse()
        for item in await release(dataset, request.ids):
            response.released.add(id=item.id, tape_sequence=item.sequence, already_released=item.already)
        return response

    def _publisher(self, name: str, dataset: Dataset) -> RowPublisher:
        if name not in self._publishers:
            publisher = RowPublisher(dataset)
            self._publishers[name] = publisher
            self._tasks.create_task(publisher.run())
        return self._publishers[name]


def _read_open(data: bytes) -> PublishRequest.Open:
    message = read_request(data)
    if message.WhichOneof("message") != "open":
        raise out_of_turn("open", "The first message must be `open`.")
    opening = PublishRequest.Open.FromString(message.open.SerializeToString())
    validate_request(opening)
    return opening


async def _read_batches(requests: AsyncIterator[bytes], publication: Publication, dataset: str) -> None:
    rows, size, account = ROWS.labels("in", dataset), BYTES.labels("in", dataset), current_account()
    try:
        async for data in requests:
            size.inc(len(data))
            account.require_rows()
            for item in read_batches(data):
                await publication.submit(item)
                rows.inc(item.batch.rows)
    except Exception as error:  # whatever it is, the stream ends with it, after the acknowledgements
        publication.close(error)
    else:
        publication.close()


def _acks(outcomes: list[Outcome], level: AckLevel) -> PublishResponse:
    response = PublishResponse()
    for outcome in outcomes:
        response.acks.acks.add(
            number=outcome.number,
            level=level,
            duplicate=outcome.duplicate,
            flagged_rows=outcome.flagged_rows,
            tape_sequence=outcome.sequence,
            quarantined_rows=outcome.quarantined_rows,
        )
    return response


def _quarantined(item: Item, directory: Directory) -> QuarantinedRows:
    batch = item.rows.batch
    rows = QuarantinedRows(
        id=item.id,
        producer=item.entry.producer,
        batch_number=item.rows.number,
        time=timestamp(item.entry.time_ns),
        instrument_ids=batch["instrument_id"].tolist(),
        tape_sequence=item.tape_sequence,
    )
    if batch.kind is Kind.QUOTE:
        rows.quotes.extend(quotes_of_batch(batch, directory))
    elif batch.kind is Kind.TRADE:
        rows.trades.extend(trades_of_batch(batch, directory))
    else:
        rows.bars.extend(bars_of_batch(batch, directory))
    return rows
