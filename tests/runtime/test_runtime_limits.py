"""Limits of a token's client, around calls over a real channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from echo_service import KINDS, SCOPED, Caller, serving
from issuing import AUDIENCE, ISSUER, Issuer, eventually

from marketdata.errors import ApiError, api_error
from marketdata.v1.instrument_pb2 import Instrument
from mda.runtime.identity import TokenVerifier
from mda.runtime.usage.account import Usage

OK = Instrument(symbol="ALFA")
STREAMS = [name for name, kind in KINDS.items() if any(kind)]


@pytest.fixture
def usage() -> Usage:
    return Usage()


@pytest_asyncio.fixture
async def caller(issuer: Issuer, usage: Usage) -> AsyncIterator[Caller]:
    async with serving(SCOPED, TokenVerifier(issuer.fetch, ISSUER, AUDIENCE), usage=usage) as caller:
        yield caller


def bearer(issuer: Issuer, **quotas: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {issuer.token(quotas=quotas)}"}


async def refused(call: Any) -> tuple[ApiError, dict[str, Any]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return api_error(caught.value), dict(caught.value.trailing_metadata())


async def test_each_answer_tells_what_is_left(caller: Caller, issuer: Issuer) -> None:
    metadata = bearer(issuer, requests_per_second=2)
    for remaining in ("3", "2"):
        call = caller.call("OneOne", OK, metadata=metadata)
        headers = dict(await call.initial_metadata())
        assert headers["x-ratelimit-limit"] == "2, 2;w=1"
        assert headers["x-ratelimit-remaining"] == remaining
        assert headers["x-ratelimit-reset"] == {"3": "1", "2": "1"}[remaining]
        assert await call == OK


async def test_without_a_limit_nothing_is_told(caller: Caller, issuer: Issuer) -> None:
    call = caller.call("OneOne", OK, metadata=bearer(issuer))
    assert not {key for key, _ in await call.initial_metadata() if key.startswith("x-ratelimit")}


@pytest.mark.parametrize("method", KINDS)
async def test_a_call_too_many_is_refused(caller: Caller, issuer: Issuer, method: str) -> None:
    metadata = bearer(issuer, requests_per_second=1)
    for _ in range(2):
        await caller.answers("OneOne", OK, metadata=metadata)
    error, trailers = await refused(caller.answers(method, OK, metadata=metadata))
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert error.metadata == {"limit": "1"}
    assert (trailers["retry-after"], trailers["x-ratelimit-remaining"]) == ("1", "0")


async def test_an_error_tells_what_is_left_too(caller: Caller, issuer: Issuer) -> None:
    request = Instrument(symbol="ALFA", description="refuse")
    error, trailers = await refused(caller.answers("OneOne", request, metadata=bearer(issuer, requests_per_second=5)))
    assert error.reason == "UNKNOWN_INSTRUMENT"
    assert trailers["x-ratelimit-remaining"] == "9"
    assert "retry-after" not in trailers


@pytest.mark.parametrize("method", STREAMS)
async def test_a_stream_too_many_is_refused(caller: Caller, issuer: Issuer, usage: Usage, method: str) -> None:
    metadata = bearer(issuer, streams=1)
    open_call = caller.call("ManyMany", OK, Instrument(symbol="ALFA", description="hang"), metadata=metadata)
    await eventually(lambda: usage.meter.streams("mdc_1") == 1)
    error, _ = await refused(caller.answers(method, OK, metadata=metadata))
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
    assert await caller.answers("OneOne", OK, metadata=metadata) == [OK]  # is none
    open_call.cancel()
    await eventually(lambda: usage.meter.streams("mdc_1") == 0)
    assert (await caller.answers(method, OK, metadata=metadata))[-1] == OK
