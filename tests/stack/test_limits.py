"""Limits of clients as they meet them: through the gateway, on whichever service, REST and gRPC alike."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from marketdata.client import Client
from marketdata.columns import NANOS, Kind, make_batch
from marketdata.errors import ApiError, api_error
from marketdata.query.v1.query_service_pb2 import ScanRequest
from marketdata.query.v1.query_service_pb2_grpc import QueryServiceStub
from marketdata.v1.instrument_pb2 import Instrument
from tests.polling import until
from tests.stack.conftest import Stack

ROWS = 300
DAY = "2026-07-01T00:00:00Z"
SYMBOLS = ("AAA", "BBB", "CCC")


@pytest.fixture(scope="module")
def limited(stack: Stack) -> Stack:
    """Give a stack with the dataset LIMITS: 300 quotes of three symbols."""

    async def publish() -> None:
        async with Client.connect(stack.url, stack.secrets["api_key"]) as client:
            await client.put_instruments("LIMITS", [Instrument(symbol=symbol) for symbol in SYMBOLS])
            async with client.publisher("LIMITS", "p") as publisher:
                await publisher.publish(quotes(ROWS))

    asyncio.run(publish())
    return stack


def quotes(rows: int) -> Any:
    times = 1_782_864_000 * NANOS + np.arange(rows)
    return make_batch(Kind.QUOTE, {"instrument_id": 1 + np.arange(rows) % 3, "ts_event": times, "bid_price": times})


@pytest.fixture
def key_of(limited: Stack, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Make the API key of a client of this test's own, with the options of `mda clients create`."""

    def made(*options: str) -> str:
        name = re.sub(r"[^a-z0-9-]", "-", request.node.name)
        given = ("--role", "reader", "--role", "publisher", "--dataset", "*", *options, "-o", "json")
        created = limited.mda("clients", "create", name, *given)
        (client,) = json.loads(created.stdout)
        return json.loads(limited.mda("keys", "create", client["client_id"], "-o", "json").stdout)["key"]["api_key"]

    return made


@pytest.fixture
def rest(limited: Stack) -> Generator[httpx.Client]:
    with httpx.Client(base_url=limited.url, timeout=10) as client:
        yield client


def headers(stack: Stack, key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {stack.token(key)}"}


def reason(answer: httpx.Response) -> str:
    assert "details" in answer.json(), answer.text
    return next(detail["reason"] for detail in answer.json()["details"] if "reason" in detail)


@contextmanager
def streaming(rest: httpx.Client, path: str, sent: dict[str, str]) -> Generator[httpx.Response]:
    """Keep a stream open, once it has begun."""
    with rest.stream("GET", path, headers=sent) as answer:
        assert answer.status_code == 200, answer.read()
        lines = answer.iter_lines()  # kept, as it closes the stream when it goes
        next(lines)
        yield answer


def usage(stack: Stack, key: str) -> dict[str, Any]:
    (found,) = json.loads(stack.mda("usage", "-o", "json", **environment(key)).stdout)
    return found


def environment(key: str) -> dict[str, Any]:
    return {"env": os.environ | {"MDA_API_KEY": key}}


def test_calls_have_headers_and_a_limit(limited: Stack, rest: httpx.Client, key_of: Callable[..., str]) -> None:
    sent = headers(limited, key_of("--requests-per-second", "3"))
    answers = [rest.get("/v1/datasets/LIMITS/quotes:latest", headers=sent) for _ in range(15)]
    good = [answer for answer in answers if answer.status_code == 200]
    assert 6 <= len(good) < 15
    assert [answer.headers["x-ratelimit-limit"] for answer in good[:2]] == ["3, 3;w=1"] * 2
    assert [int(answer.headers["x-ratelimit-remaining"]) for answer in good[:3]] == [5, 4, 3]
    (refused, *_) = [answer for answer in answers if answer.status_code != 200]
    assert (refused.status_code, reason(refused)) == (429, "RATE_LIMITED")
    assert (refused.headers["retry-after"], refused.headers["x-ratelimit-remaining"]) == ("1", "0")


def test_calls_to_all_services_count_together(limited: Stack, rest: httpx.Client, key_of: Callable[..., str]) -> None:
    sent = headers(limited, key_of("--requests-per-second", "1"))
    for path in ("quotes:latest", "instruments"):  # of query, and of ingestion
        assert rest.get(f"/v1/datasets/LIMITS/{path}", headers=sent).status_code == 200
    statuses: list[int] = []

    def refused() -> bool:
        statuses.append(rest.get(f"/v1/datasets/LIMITS/quotes?start={DAY}", headers=sent).status_code)  # of history
        return statuses[-1] == 429

    until(refused, within_s=5)
    assert len(statuses) <= 12


def test_streams_have_a_limit_wherever_they_are(limited: Stack, rest: httpx.Client, key_of: Callable[..., str]) -> None:
    key = key_of("--streams", "2", "--tier", "pro")
    sent = headers(limited, key)
    snapshot = "/v1/datasets/LIMITS/quotes:stream?symbols=AAA&snapshot=true"
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(streaming(rest, snapshot, sent))
        refused = rest.get(snapshot, headers=sent)
        assert (refused.status_code, reason(refused)) == (429, "TOO_MANY_STREAMS")
        until(lambda: usage(limited, key)["streams"] == "2")

        async def scan() -> ApiError:
            async with grpc.aio.insecure_channel(limited.target) as channel:
                call = QueryServiceStub(channel).Scan(ScanRequest(dataset="LIMITS"), metadata=tuple(sent.items()))
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call.read()
                return api_error(caught.value)

        error = asyncio.run(scan())
        assert error.reason == "TOO_MANY_STREAMS", error  # history has heard of those at query
    until(lambda: usage(limited, key)["streams"] == "0")
    with streaming(rest, snapshot, sent):
        pass


def test_symbols_of_a_stream_have_a_limit(limited: Stack, rest: httpx.Client, key_of: Callable[..., str]) -> None:
    sent = headers(limited, key_of("--symbols", "2"))
    for query in ("?symbols=AAA,BBB,CCC", ""):
        answer = rest.get(f"/v1/datasets/LIMITS/quotes:stream{query}", headers=sent)
        assert "end" in answer.json(), answer.text
        details = answer.json()["end"]["details"]  # a stream has begun when its service looks at symbols
        assert details[0]["reason"] == "TOO_MANY_SYMBOLS"
    with streaming(rest, "/v1/datasets/LIMITS/quotes:stream?symbols=AAA,BBB&snapshot=true", sent):
        pass


def test_rows_of_a_day_are_counted_and_used_up(limited: Stack, rest: httpx.Client, key_of: Callable[..., str]) -> None:
    key = key_of("--rows-per-day", "350")
    sent = headers(limited, key)
    path = f"/v1/datasets/LIMITS/quotes?start={DAY}&page_size=100"
    answer = rest.get(path, headers=sent)
    assert len(answer.raise_for_status().json()["quotes"]) == 100
    until(lambda: usage(limited, key)["rows_today"] == "100")

    async def publish() -> None:
        async with Client.connect(limited.url, key) as client, client.publisher("LIMITS", "of-the-client") as publisher:
            await publisher.publish(quotes(260))

    asyncio.run(publish())
    until(lambda: usage(limited, key)["rows_today"] == "360")

    def spent() -> bool:
        return rest.get(path, headers=sent).status_code == 429

    until(spent)
    refused = rest.get(path, headers=sent)
    assert (refused.status_code, reason(refused)) == (429, "ROW_QUOTA_SPENT")
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    shown = " ".join(limited.mda("usage", **environment(key)).stdout.split())
    assert re.search(r"rows a day 350 \d+ today", shown)
    with pytest.raises(ApiError, match="used up"):
        asyncio.run(publish())
