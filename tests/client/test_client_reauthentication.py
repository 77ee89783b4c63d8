"""A subscription lives on by fresh tokens, in one connection; it ends with its token without them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import jwt
import pytest

import mda.query.servicer as query_servicer
from marketdata import tokens as client_tokens
from marketdata.client import Client
from marketdata.errors import api_error
from marketdata.query.v1.query_service_pb2 import SubscribeRequest, SubscribeResponse
from marketdata.query.v1.query_service_pb2_grpc import QueryServiceStub
from marketdata.v1.instrument_pb2 import Instrument
from mda.runtime import identity, lease
from mda.runtime.revocation import Revocation, Revoked
from tests.client.servers import Api, whole_api
from tests.tape.helpers import new_name, rows_of, trades
from tests.tape.nats_server import NatsServer

TOKEN_S = 3


@pytest.fixture
async def api(nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """Serve with tokens that live for seconds, and are told of a second before they end."""
    monkeypatch.setattr(identity, "LEEWAY_S", 0)
    monkeypatch.setattr(lease, "LEEWAY_S", 0)
    monkeypatch.setattr(query_servicer, "_EXPIRY_NOTICE_S", 1.5)
    monkeypatch.setattr(client_tokens, "_FRESH_S", 0.5)
    async with whole_api(nats.url, tmp_path, token_s=TOKEN_S) as served:
        yield served


async def test_a_subscriber_outlives_its_tokens_in_one_connection(api: Api) -> None:
    dataset = new_name("R")
    async with Client.connect(api.url, api.api_key) as client:
        await client.put_instruments(dataset, [Instrument(symbol="A")])
        subscriber = client.subscribe(dataset)
        rows: list[int] = []
        subscribed = asyncio.Event()

        async def read() -> None:
            async for update in subscriber:
                subscribed.set()
                rows.extend(rows_of(update.batches))

        reading = asyncio.create_task(read())
        await asyncio.wait_for(subscribed.wait(), 5)
        number, began = 0, time.monotonic()
        async with client.publisher(dataset, "p") as publisher:
            while time.monotonic() - began < 2.5 * TOKEN_S:
                number += 1
                await publisher.publish(trades(number))
                await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            while len(rows) < number:
                await asyncio.sleep(0.01)
        reading.cancel()
    assert rows == list(range(1, number + 1))
    assert subscriber.connections == 1


async def _opened(
    stub: QueryServiceStub, dataset: str, token: str
) -> grpc.aio.StreamStreamCall[SubscribeRequest, SubscribeResponse]:
    call = stub.Subscribe(metadata=(("authorization", f"Bearer {token}"),))
    start = SubscribeRequest.Start(dataset=dataset)
    start.symbols.all = True
    await call.write(SubscribeRequest(start=start))
    return call


async def test_a_subscriber_is_told_and_then_ended_where_no_fresh_token_comes(api: Api) -> None:
    dataset = new_name("R")
    async with Client.connect(api.url, api.api_key) as client, grpc.aio.insecure_channel(api.target) as channel:
        await client.put_instruments(dataset, [Instrument(symbol="A")])
        before = time.time()
        call = await _opened(QueryServiceStub(channel), dataset, await client.token())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            messages: list[SubscribeResponse] = []
            while True:
                messages.append(await call.read())
    assert api_error(caught.value).reason == "TOKEN_EXPIRED"
    (notice,) = (message.token_expiring for message in messages if message.HasField("token_expiring"))
    assert before + TOKEN_S - 1.5 <= notice.expire_time.ToSeconds() <= before + TOKEN_S + 1
    assert messages[-1].end.code == grpc.StatusCode.UNAUTHENTICATED.value[0]


async def test_a_revoked_reader_that_does_not_read_is_told_once_it_does(nats: NatsServer, tmp_path: Path) -> None:
    """The message that it does not take is in the way of those that would end the stream."""
    dataset = new_name("R")
    async with (
        whole_api(nats.url, tmp_path) as api,
        Client.connect(api.url, api.api_key) as client,
        grpc.aio.insecure_channel(api.target) as channel,
    ):
        await client.put_instruments(dataset, [Instrument(symbol="A")])
        token = await client.token()
        call = await _opened(QueryServiceStub(channel), dataset, token)
        await call.read()
        async with client.publisher(dataset, "much") as publisher:
            for number in range(60):
                await publisher.publish(trades(number * 20_000, 20_000))
        token_id = jwt.decode(token, options={"verify_signature": False})["jti"]
        api.revocations.apply(Revocation(Revoked.TOKEN, token_id, 0, time.time() + 60))
        await asyncio.sleep(1.5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(20):
                while True:
                    await call.read()
    assert api_error(caught.value).reason == "TOKEN_REVOKED"


@pytest.mark.parametrize("token", ["rubbish", "another client's"])
async def test_a_token_that_does_not_do_ends_the_subscription(api: Api, token: str) -> None:
    dataset = new_name("R")
    async with Client.connect(api.url, api.api_key) as client, grpc.aio.insecure_channel(api.target) as channel:
        await client.put_instruments(dataset, [Instrument(symbol="A")])
        call = await _opened(QueryServiceStub(channel), dataset, await client.token())
        await call.read()
        if token != "rubbish":
            async with Client.connect(api.url, api.other_api_key()) as other:
                token = await other.token()
        await call.write(SubscribeRequest(reauthenticate=SubscribeRequest.Reauthenticate(token=token)))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                await call.read()
    error = api_error(caught.value)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_TOKEN")
