"""Streams through the gateway: columns, rows, server-sent events, lines of JSON."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import httpx
import pytest

from marketdata.client import Client
from marketdata.columns import ABSENT, Kind, make_batch
from marketdata.errors import ApiError, api_error
from marketdata.query.v1.query_service_pb2 import StreamQuotesRequest, SubscribeRequest, SubscribeResponse, SymbolStatus
from marketdata.query.v1.query_service_pb2_grpc import QueryServiceStub
from marketdata.subscriber import Start
from tests.stack.conftest import Stack
from tests.stack.test_publish import quotes

State = SymbolStatus


class Subscription:
    """A subscription made with the plain stub, as any gRPC user would."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        metadata = (("authorization", f"Bearer {token}"),)
        self._call: Any = QueryServiceStub(channel).Subscribe(metadata=metadata, timeout=30)

    async def send(self, **request: Any) -> None:
        await self._call.write(SubscribeRequest(**request))

    async def read(self) -> SubscribeResponse:
        async with asyncio.timeout(10):
            answer = await self._call.read()
        assert answer is not grpc.aio.EOF
        return answer

    async def failure(self) -> tuple[ApiError, SubscribeResponse]:
        """Return the error of the call and the last message before it."""
        last = SubscribeResponse()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                last = await self.read()
        return api_error(caught.value), last


@pytest.fixture
async def subscription(stack: Stack, tokens: dict[str, str]) -> AsyncGenerator[Subscription]:
    async with grpc.aio.insecure_channel(stack.target) as channel:
        yield Subscription(channel, tokens["good"])


async def _publish(client: Client, producer: str, **columns: Any) -> None:
    async with client.publisher("TEST", producer) as publisher:
        await publisher.publish(quotes(**columns))


def _states(answer: SubscribeResponse) -> list[tuple[str, int]]:
    return [(entry.symbol, entry.state) for entry in answer.status.symbols]


async def test_symbols_are_subscribed_and_unsubscribed_while_it_runs(
    subscription: Subscription, client: Client
) -> None:
    await subscription.send(start={"dataset": "TEST", "symbols": {"symbols": ["AAA", "ZZZ"]}})
    answer = await subscription.read()
    assert _states(answer) == [("AAA", State.STATE_SUBSCRIBED), ("ZZZ", State.STATE_UNKNOWN_SYMBOL)]
    assert answer.status.subscribed_count == 1
    both = {"rows": 2, "instrument_id": [1, 2]}
    await _publish(client, "streams", **both)
    assert list((await subscription.read()).batches[0].quotes.instrument_id) == [1]
    await subscription.send(subscribe={"symbols": ["BBB"]})
    assert (await subscription.read()).status.subscribed_count == 2
    await _publish(client, "streams", **both)
    assert list((await subscription.read()).batches[0].quotes.instrument_id) == [1, 2]
    await subscription.send(unsubscribe={"symbols": ["AAA"]})
    assert _states(await subscription.read()) == [("AAA", State.STATE_UNSUBSCRIBED)]
    await _publish(client, "streams", **both)
    assert list((await subscription.read()).batches[0].quotes.instrument_id) == [2]


async def test_all_tells_the_instruments_and_can_be_left(subscription: Subscription) -> None:
    await subscription.send(start={"dataset": "TEST", "symbols": {"all": True}})
    assert (await subscription.read()).status.all
    assert [i.symbol for i in (await subscription.read()).instruments][:3] == ["AAA", "BBB", "CCC/USD"]
    await subscription.send(unsubscribe={"symbols": ["AAA"]})
    error, last = await subscription.failure()
    assert (error.reason, error.metadata["field"]) == ("INVALID_FIELD", "unsubscribe.symbols")
    assert last.end.message == error.message


async def test_trades_are_told_as_they_stand(client: Client) -> None:
    _, start = await client.digest("TEST")
    base: dict[str, Any] = {"instrument_id": [2, 2], "ts_event": [time.time_ns()] * 2, "price": [5, 6]}
    async with client.publisher("TEST", "corrections") as publisher:
        await publisher.publish(make_batch(Kind.TRADE, base | {"sequence": [901, 902]}))
        changes = {"sequence": [903, 904], "action": [1, 2], "refers_to": [901, 902], "price": [ABSENT, 7]}
        await publisher.publish(make_batch(Kind.TRADE, base | changes))
    rows: list[tuple[int, int]] = []
    async with asyncio.timeout(10):
        async for update in client.subscribe("TEST", ["BBB"], Start(cursor=start, corrected=True)):
            for batch in update.batches:
                rows += zip(batch["sequence"].tolist(), batch["price"].tolist(), strict=True)
            if len(rows) >= 3:
                break
    assert rows == [(902, 7), (903, ABSENT), (904, 7)]


async def test_a_snapshot_begins_with_the_latest_rows(subscription: Subscription, client: Client) -> None:
    await _publish(client, "snapshot", rows=1, instrument_id=[3], bid_price=[7])
    await subscription.send(start={"dataset": "TEST", "snapshot": True, "kinds": ["KIND_QUOTE"]})
    await subscription.read()
    await subscription.send(subscribe={"symbols": ["CCC/USD"]})
    await subscription.read()
    snapshot = (await subscription.read()).snapshot
    assert list(snapshot[0].quotes.bid_price) == [7]


async def test_a_quiet_subscription_beats(subscription: Subscription) -> None:
    start = SubscribeRequest.Start(dataset="TEST")
    start.heartbeat.seconds = 1
    await subscription.send(start=start)
    await subscription.read()
    began = time.monotonic()
    watermark = (await subscription.read()).watermark
    assert 0.5 < time.monotonic() - began < 3
    assert watermark.tape_sequence > 0
    assert watermark.delivered_rows == 0


BAD_STARTS: dict[str, tuple[dict[str, Any], str, str, str | None]] = {
    "no start": ({"subscribe": {"symbols": ["AAA"]}}, "INVALID_ARGUMENT", "INVALID_FIELD", "start"),
    "an unknown dataset": ({"start": {"dataset": "NOPE"}}, "NOT_FOUND", "UNKNOWN_DATASET", "dataset"),
    "a bad cursor": (
        {"start": {"dataset": "TEST", "cursor": "AAAA"}},
        "INVALID_ARGUMENT",
        "INVALID_CURSOR",
        "start.cursor",
    ),
    "a short heartbeat": (
        {"start": {"dataset": "TEST", "heartbeat": {"nanos": 1}}},
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "start.heartbeat",
    ),
}


@pytest.mark.parametrize("name", BAD_STARTS)
async def test_bad_starts_are_refused_in_the_stream_too(subscription: Subscription, name: str) -> None:
    request, code, reason, field = BAD_STARTS[name]
    await subscription.send(**request)
    error, last = await subscription.failure()
    assert (error.code.name, error.reason, error.metadata.get("field")) == (code, reason, field)
    assert last.end.message == error.message


async def test_a_second_start_is_refused(subscription: Subscription) -> None:
    for _ in range(2):
        await subscription.send(start={"dataset": "TEST"})
    error, _ = await subscription.failure()
    assert (error.reason, error.metadata["field"]) == ("INVALID_FIELD", "start")


async def test_a_cursor_goes_on_where_it_stands_from_the_tape_or_the_ring(client: Client) -> None:
    updates = aiter(client.subscribe("TEST", None, Start()))
    cursor = (await anext(updates)).cursor
    await updates.aclose()
    for number in range(5):
        await _publish(client, "cursor", rows=1, bid_price=[number + 1], ask_price=[100])
    prices: list[int] = []
    resumed = aiter(client.subscribe("TEST", None, Start(cursor=cursor, kinds=frozenset({Kind.QUOTE}))))
    while len(prices) < 5:
        for batch in (await anext(resumed)).batches:
            prices += batch["bid_price"].tolist()
    assert prices == [1, 2, 3, 4, 5]
    await resumed.aclose()


def _events(
    stack: Stack, token: str, path: str, accept: str, count: int, more: dict[str, str] | None = None
) -> list[str]:
    headers = {"authorization": f"Bearer {token}", "accept": accept, **(more or {})}
    lines: list[str] = []
    with httpx.stream("GET", stack.url + path, headers=headers, timeout=15) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(accept)
        for line in answer.iter_lines():
            lines += [line] if line else []
            if len(lines) == count:
                break
    return lines


def test_quotes_come_as_server_sent_events(stack: Stack, tokens: dict[str, str]) -> None:
    path = "/v1/datasets/SIM/quotes:stream?symbols=ALFA&symbols=ECHO/USD&snapshot=true"
    lines = _events(stack, tokens["good"], path, "text/event-stream", 6)
    ids, data = lines[::2], lines[1::2]
    events = [json.loads(line.removeprefix("data: ")) for line in data]
    assert all(line.startswith("data: ") for line in data)
    assert ids == [f"id: {event['cursor']}" for event in events]
    assert {quote["symbol"] for quote in events[0]["quotes"]} == {"ALFA", "ECHO/USD"}
    assert all(event["cursor"] for event in events)


def test_a_browser_that_connects_again_goes_on_where_it_was(stack: Stack, tokens: dict[str, str]) -> None:
    path = "/v1/datasets/SIM/quotes:stream?symbols=ALFA&snapshot=true"
    lines = _events(stack, tokens["good"], path, "text/event-stream", 8)
    events = [json.loads(line.removeprefix("data: ")) for line in lines[1::2]]
    again = _events(stack, tokens["good"], path, "text/event-stream", 2, {"last-event-id": events[1]["cursor"]})
    resumed = json.loads(again[1].removeprefix("data: "))
    assert resumed["quotes"][: len(events[2]["quotes"])] == events[2]["quotes"]


def test_trades_come_as_lines_of_json(stack: Stack, tokens: dict[str, str]) -> None:
    path = "/v1/datasets/SIM/trades:stream?symbols=ALFA"
    lines = _events(stack, tokens["good"], path, "application/json", 2)
    trades = [trade for line in lines for trade in json.loads(line)["trades"]]
    assert {trade["symbol"] for trade in trades} == {"ALFA"}
    assert all(float(trade["price"]) > 0 for trade in trades)


def test_a_refused_rest_stream_says_so_in_its_last_event(stack: Stack, tokens: dict[str, str]) -> None:
    path = "/v1/datasets/SIM/quotes:stream?symbols=ZZZ"
    event = json.loads(_events(stack, tokens["good"], path, "text/event-stream", 1)[0].removeprefix("data: "))
    assert event["end"]["code"] == 5
    assert event["end"]["details"][0]["reason"] == "UNKNOWN_INSTRUMENT"


async def test_quotes_stream_over_grpc_and_resume(stack: Stack, tokens: dict[str, str]) -> None:
    metadata = (("authorization", f"Bearer {tokens['good']}"),)
    async with grpc.aio.insecure_channel(stack.target) as channel:
        stub = QueryServiceStub(channel)
        call = stub.StreamQuotes(StreamQuotesRequest(dataset="SIM", symbols=["ALFA"]), metadata=metadata, timeout=20)
        first = await call.read()
        second = await call.read()
        resumed = stub.StreamQuotes(
            StreamQuotesRequest(dataset="SIM", symbols=["ALFA"], cursor=first.cursor), metadata=metadata, timeout=20
        )
        again = await resumed.read()
        assert list(again.quotes)[: len(second.quotes)] == list(second.quotes)
        call.cancel()
        resumed.cancel()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            request = StreamQuotesRequest(dataset="SIM", snapshot=True, cursor=first.cursor)
            async for _ in stub.StreamQuotes(request, metadata=metadata, timeout=20):
                pass
        assert api_error(caught.value).metadata["field"] == "snapshot"


async def test_reflection_lists_the_services_without_a_token(stack: Stack) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    async with grpc.aio.insecure_channel(stack.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in stub.ServerReflectionInfo(iter([request]), timeout=10):
            names = {service.name for service in answer.list_services_response.service}
            break
    assert {"marketdata.query.v1.QueryService", "marketdata.auth.v1.AuthService"} <= names
