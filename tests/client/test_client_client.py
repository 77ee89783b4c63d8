"""The client against the whole API on one port, plain and over TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest

from marketdata.client import Client
from marketdata.errors import ApiError, api_error
from marketdata.ingestion.v1.ingestion_service_pb2 import (
    ListInstrumentsRequest,
    PublishQuotesRequest,
    PublishRequest,
    PublishResponse,
    PublishTradesRequest,
)
from marketdata.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from marketdata.query.v1.query_service_pb2 import (
    GetLatestQuotesRequest,
    GetLatestTradesRequest,
    StreamQuotesRequest,
    StreamTradesRequest,
    SubscribeRequest,
    SymbolSelection,
)
from marketdata.query.v1.query_service_pb2_grpc import QueryServiceStub
from marketdata.subscriber import Start
from marketdata.v1.instrument_pb2 import Instrument
from marketdata.v1.quote_pb2 import Quote
from marketdata.v1.trade_pb2 import Trade
from mda.cli.certificates import ensure_certificates
from mda.market.rows import timestamp
from mda.runtime.telemetry import OPEN_STREAMS
from tests.client.servers import Api, whole_api
from tests.tape.helpers import NOW_NS, eventually, new_name, rows_of, running, trades
from tests.tape.nats_server import NatsServer


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(autouse=True)
def small_tapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDA_INGESTION_TAPE_MAX_BYTES", str(1 << 26))


@pytest.fixture
async def api(nats: NatsServer, tmp_path: Path) -> AsyncIterator[Api]:
    async with whole_api(nats.url, tmp_path) as served:
        yield served


class Caller:
    """Calls methods by the plain stubs."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self.ingestion: Any = IngestionServiceStub(channel)
        self.query: Any = QueryServiceStub(channel)
        self.options: dict[str, Any] = {"metadata": (("authorization", f"Bearer {token}"),), "timeout": 10}


@pytest.fixture
async def client(api: Api) -> AsyncIterator[Client]:
    async with Client.connect(api.url, api.api_key) as connected:
        yield connected


@pytest.fixture
async def caller(api: Api, client: Client) -> AsyncIterator[Caller]:
    async with grpc.aio.insecure_channel(api.target) as channel:
        yield Caller(channel, await client.token())


async def _dataset(client: Client, *symbols: str) -> str:
    dataset = new_name("API")
    await client.put_instruments(dataset, [Instrument(symbol=symbol) for symbol in symbols or ("A", "B")])
    return dataset


async def _round_trip(client: Client) -> None:
    dataset = await _dataset(client)
    rows: list[int] = []
    async with aclosing(aiter(client.subscribe(dataset))) as updates:
        await anext(updates)
        async with client.publisher(dataset, "p") as publisher:
            await publisher.publish(trades(1, 3))
        async with asyncio.timeout(10):
            while len(rows) < 3:
                rows += rows_of((await anext(updates)).batches)
    assert rows == [1, 2, 3]


async def test_what_is_published_is_subscribed(client: Client) -> None:
    await _round_trip(client)


async def test_over_tls_too(nats: NatsServer, tmp_path: Path) -> None:
    ensure_certificates(tmp_path)
    async with whole_api(nats.url, tmp_path, tls=tmp_path) as api:
        root = (tmp_path / "ca.crt").read_bytes()
        async with Client.connect(api.url, api.api_key, root_certificates=root) as client:
            await _round_trip(client)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://127.0.0.1", "http://"])
async def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not a URL"):
        async with Client.connect(url, "key"):
            raise AssertionError


@pytest.mark.parametrize(("url", "target"), [("http://h.test", "h.test:80"), ("https://h.test", "h.test:443")])
async def test_an_address_without_a_port_has_the_usual_one(
    url: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets: list[str] = []
    for name in ("insecure_channel", "secure_channel"):
        make = getattr(grpc.aio, name)
        monkeypatch.setattr(grpc.aio, name, lambda t, *a, make=make, **o: (targets.append(t), make(t, *a, **o))[1])
    async with Client.connect(url, "key"):
        assert targets == [target]


async def test_many_instruments_are_put_and_listed(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marketdata.calls.PAGE", 1000)
    symbols = [f"S{number}" for number in range(2500)]
    dataset = new_name("API")
    put = await client.put_instruments(dataset, (Instrument(symbol=symbol) for symbol in symbols))
    assert [(i.symbol, i.instrument_id) for i in put] == [(s, n) for n, s in enumerate(symbols, 1)]
    assert await client.list_instruments(dataset) == put


async def test_a_refused_call_is_an_api_error(client: Client) -> None:
    with pytest.raises(ApiError) as caught:
        await client.list_instruments("NOPE")
    assert (caught.value.reason, caught.value.metadata["field"]) == ("UNKNOWN_DATASET", "dataset")


async def test_pages_have_tokens(client: Client, caller: Caller) -> None:
    dataset = await _dataset(client, *"ABCDE")
    request = ListInstrumentsRequest(dataset=dataset, page_size=2)
    seen: list[str] = []
    while True:
        page = await caller.ingestion.ListInstruments(request, **caller.options)
        seen += [instrument.symbol for instrument in page.instruments]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == list("ABCDE")


def _quote(symbol: str, sequence: int, bid: str = "1") -> Quote:
    return Quote(
        symbol=symbol, event_time=timestamp(NOW_NS + sequence), sequence=sequence, bid_price=bid, ask_price="2"
    )


def _trade(symbol: str, sequence: int) -> Trade:
    return Trade(symbol=symbol, event_time=timestamp(NOW_NS + sequence), sequence=sequence, price="1.5")


async def test_rows_are_published_and_the_latest_asked_for(client: Client, caller: Caller) -> None:
    dataset = await _dataset(client)
    quotes = [_quote("A", 1), _quote("B", 2, bid="3"), _quote("A", 3)]
    done = await caller.ingestion.PublishQuotes(PublishQuotesRequest(dataset=dataset, quotes=quotes), **caller.options)
    assert (done.tape_sequence, done.flagged_rows) == (1, 1)
    traded = PublishTradesRequest(dataset=dataset, trades=[_trade("B", 4)])
    assert (await caller.ingestion.PublishTrades(traded, **caller.options)).tape_sequence == 2

    async def latest(kind: str, *symbols: str) -> list[int]:
        request = {"Quotes": GetLatestQuotesRequest, "Trades": GetLatestTradesRequest}[kind]
        method = getattr(caller.query, f"GetLatest{kind}")
        answer = await method(request(dataset=dataset, symbols=symbols), **caller.options)
        return [row.sequence for row in (answer.quotes if kind == "Quotes" else answer.trades)]

    async with asyncio.timeout(10):
        while await latest("Trades") != [4]:
            await asyncio.sleep(0.01)
    assert await latest("Quotes") == [3, 2]
    assert await latest("Quotes", "B,A") == [2, 3]
    assert await latest("Trades", "A") == []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await latest("Quotes", "A", "ZZZ")
    assert api_error(caught.value).metadata["field"] == "symbols[1]"


async def test_rows_are_streamed(client: Client, caller: Caller) -> None:
    dataset = await _dataset(client)
    quotes = caller.query.StreamQuotes(StreamQuotesRequest(dataset=dataset, snapshot=True), **caller.options)
    snapshot = await quotes.read()
    assert list(snapshot.quotes) == []
    trade_stream = caller.query.StreamTrades(
        StreamTradesRequest(dataset=dataset, symbols=["B"], cursor=snapshot.cursor), **caller.options
    )
    published = PublishTradesRequest(dataset=dataset, trades=[_trade("A", 1), _trade("B", 2)])
    await caller.ingestion.PublishTrades(published, **caller.options)
    await caller.ingestion.PublishQuotes(
        PublishQuotesRequest(dataset=dataset, quotes=[_quote("A", 3)]), **caller.options
    )
    assert [trade.sequence for trade in (await trade_stream.read()).trades] == [2]
    assert [quote.sequence for quote in (await quotes.read()).quotes] == [3]
    quotes.cancel()
    trade_stream.cancel()


async def test_a_refused_stream_says_why_twice(caller: Caller) -> None:
    call = caller.query.StreamQuotes(StreamQuotesRequest(dataset="NOPE"), **caller.options)
    end = (await call.read()).end
    assert end.code == 5
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert api_error(caught.value).message == end.message


async def test_a_subscription_takes_changes_and_ends_with_a_bad_one(client: Client, caller: Caller) -> None:
    dataset = await _dataset(client)
    call = caller.query.Subscribe(**caller.options)
    await call.write(SubscribeRequest(start=SubscribeRequest.Start(dataset=dataset)))
    assert (await call.read()).status.subscribed_count == 0
    await call.write(SubscribeRequest(subscribe=SymbolSelection(symbols=["A"])))
    assert (await call.read()).status.subscribed_count == 1
    await call.write(SubscribeRequest(start=SubscribeRequest.Start(dataset=dataset)))
    assert (await call.read()).end.code == 3
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert api_error(caught.value).metadata["field"] == "start"


async def test_a_subscription_begins_with_a_start(caller: Caller) -> None:
    for first in (SubscribeRequest(subscribe=SymbolSelection(symbols=["A"])), None):
        call = caller.query.Subscribe(**caller.options)
        if first is not None:
            await call.write(first)
        await call.done_writing()
        assert (await call.read()).end.code == 3


async def test_draining_ends_streams_after_what_they_hold(api: Api, client: Client, caller: Caller) -> None:
    dataset = await _dataset(client)
    subscription = caller.query.Subscribe(**caller.options)
    await subscription.write(SubscribeRequest(start=SubscribeRequest.Start(dataset=dataset)))
    await subscription.read()
    publication = caller.ingestion.Publish(**caller.options)
    await publication.write(PublishRequest(open=PublishRequest.Open(dataset=dataset, producer="p")))
    assert (await publication.read()).opened == PublishResponse.Opened(last_number=0)
    api.draining.set()
    farewell = await subscription.read()
    assert farewell.draining
    assert farewell.cursor
    assert (await subscription.read()).end.code == 14
    for call in (subscription, publication):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        error = api_error(caught.value)
        assert (error.reason, error.transient) == ("DRAINING", True)


async def test_a_publication_that_is_done_ends_well(client: Client, caller: Caller) -> None:
    dataset = await _dataset(client)
    call = caller.ingestion.Publish(**caller.options)
    await call.write(PublishRequest(open=PublishRequest.Open(dataset=dataset, producer="p")))
    await call.read()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("first", [PublishRequest(), PublishRequest(open=PublishRequest.Open(dataset="bad name"))])
async def test_a_publication_begins_with_a_good_opening(caller: Caller, first: PublishRequest) -> None:
    call = caller.ingestion.Publish(**caller.options)
    await call.write(first)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_subscriber_that_goes_away_leaves_nothing_behind(client: Client) -> None:
    dataset = await _dataset(client)
    rows: list[int] = []

    async def read() -> None:
        async for update in client.subscribe(dataset, ["A"], Start()):
            rows.extend(rows_of(update.batches))

    async with client.publisher(dataset, "p") as publisher:
        for _ in range(3):
            rows.clear()
            async with running(read()):
                number = 0
                while not rows:  # published before it had subscribed
                    number += 1
                    await publisher.publish(trades(number))
                    await asyncio.sleep(0.02)
        await publisher.flush()
    streams = OPEN_STREAMS.labels("/marketdata.query.v1.QueryService/Subscribe")
    await eventually(lambda: streams._value.get() == 0)
