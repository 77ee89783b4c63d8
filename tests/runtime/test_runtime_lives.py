"""Streams end with their tokens; background tasks with their service."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest
from echo_service import SCOPED, serving
from issuing import AUDIENCE, ISSUER, Issuer

from marketdata.errors import api_error
from marketdata.v1.instrument_pb2 import Instrument
from mda.market.errors import MarketDataError
from mda.market.quotas import Quotas
from mda.runtime.identity import Caller, Principal, TokenVerifier, set_caller
from mda.runtime.lease import while_token_lives
from mda.runtime.tasks import background_tasks
from mda.runtime.usage.account import Account, Usage

ACCOUNT = Account(Usage(), "mdc_1", Quotas())
LEEWAY_S = 10


def hold_token_for(seconds: float) -> None:
    set_caller(Caller(Principal("mdc_1", frozenset(), "", time.time() - LEEWAY_S + seconds), ACCOUNT))


async def test_what_outlives_its_token_is_ended() -> None:
    hold_token_for(0.05)
    with pytest.raises(MarketDataError) as caught:
        async with while_token_lives():
            await asyncio.Event().wait()
    assert caught.value.reason_name == "TOKEN_EXPIRED"


async def test_what_begins_after_its_token_is_ended_at_once() -> None:
    hold_token_for(-60)
    with pytest.raises(MarketDataError, match="outlived its token"):
        async with while_token_lives():
            await asyncio.Event().wait()


async def test_what_ends_before_its_token_is_left_alone() -> None:
    hold_token_for(60)
    async with while_token_lives():
        done = True
    assert done


async def test_another_time_out_is_not_the_tokens() -> None:
    hold_token_for(60)
    with pytest.raises(TimeoutError):
        async with while_token_lives(), asyncio.timeout(0.01):
            await asyncio.Event().wait()


async def test_a_stream_ends_with_its_token(issuer: Issuer) -> None:
    metadata = {"authorization": f"Bearer {issuer.token(exp=int(time.time()) - LEEWAY_S + 2)}"}
    async with serving(SCOPED, TokenVerifier(issuer.fetch, ISSUER, AUDIENCE)) as caller:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.answers("ManyMany", Instrument(symbol="A", description="token"), metadata=metadata)
    error = api_error(caught.value)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
    assert error.transient


async def test_background_tasks_end_with_the_body() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    async with background_tasks() as tasks:
        tasks.create_task(work())
        await asyncio.sleep(0)
        assert ended == []
    assert ended == ["work"]


async def test_a_task_that_fails_ends_the_body() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def body() -> None:
        async with background_tasks() as tasks:
            tasks.create_task(fail())
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        await body()
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]


@pytest.mark.parametrize(
    ("error", "expected"),
    [(ValueError, ExceptionGroup), (asyncio.CancelledError, asyncio.CancelledError), (SystemExit, SystemExit)],
)
async def test_an_error_of_the_body_ends_the_tasks_and_comes_out(
    error: type[BaseException], expected: type[BaseException]
) -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def body() -> Any:
        async with background_tasks() as tasks:
            tasks.create_task(work())
            await asyncio.sleep(0)
            raise error

    with pytest.raises(expected):
        await body()
    assert ended.is_set()
