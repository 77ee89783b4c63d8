"""Errors that say what to do, and calls that are made again."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from marketdata import retries
from marketdata.errors import (
    _BY_REASON,
    ApiError,
    CredentialsError,
    CursorError,
    DataLossError,
    FencedError,
    InvalidRequestError,
    LimitError,
    NotAllowedError,
    NotFoundError,
    ServerError,
    UnavailableError,
    api_error,
    error_of,
)
from marketdata.retries import Retries
from marketdata.tokens import TokenSource
from marketdata.v1.error_reason_pb2 import ErrorReason

Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (Code.INVALID_ARGUMENT, "INVALID_FIELD", InvalidRequestError),
        (Code.INVALID_ARGUMENT, "INVALID_CURSOR", CursorError),
        (Code.OUT_OF_RANGE, "CURSOR_OUT_OF_RANGE", CursorError),
        (Code.NOT_FOUND, "UNKNOWN_DATASET", NotFoundError),
        (Code.UNAUTHENTICATED, "INVALID_TOKEN", CredentialsError),
        (Code.PERMISSION_DENIED, "MISSING_SCOPE", NotAllowedError),
        (Code.ABORTED, "FENCED", FencedError),
        (Code.RESOURCE_EXHAUSTED, "TAPE_FULL", LimitError),
        (Code.UNAVAILABLE, "DRAINING", UnavailableError),
        (Code.INTERNAL, "INTERNAL", ServerError),
        (Code.DATA_LOSS, "", DataLossError),
        (Code.INTERNAL, "", ApiError),
    ],
)
def test_errors_are_of_the_class_that_says_what_to_do(code: Code, reason: str, kind: type[ApiError]) -> None:
    error = error_of(code, "what", reason)
    assert type(error) is kind
    assert error.advice in str(error) or reason
    assert kind.advice


def test_all_reasons_of_the_contract_are_known() -> None:
    known = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118  # it is no mapping
    assert set(_BY_REASON) <= known


def _failed(code: Code, retry_s: float | None = None, reason: str = "OVERLOADED") -> grpc.aio.AioRpcError:
    status = status_pb2.Status(message="no")
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=reason)]
    if retry_s is not None:
        details.append(error_details_pb2.RetryInfo())
        details[-1].retry_delay.FromMilliseconds(round(retry_s * 1000))
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, "no")


def test_how_long_to_wait_is_read() -> None:
    assert api_error(_failed(Code.RESOURCE_EXHAUSTED, 1.5)).retry_after_s == 1.5
    assert api_error(_failed(Code.RESOURCE_EXHAUSTED)).retry_after_s is None


class Tokens(TokenSource):
    """Gives numbered tokens; a new one may help once."""

    def __init__(self) -> None:
        super().__init__(grpc.aio.insecure_channel("127.0.0.1:1"), "a.b")  # nobody is called
        self.given = 1
        self.stale = True

    async def token(self) -> str:
        return f"token {self.given}"

    def refused(self, began_s: float) -> bool:
        helps, self.stale = self.stale, False
        self.given += 1
        return helps


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Take no time for pauses, and note them."""
    noted: list[float] = []
    sleep = asyncio.sleep

    async def note(delay_s: float) -> None:
        noted.append(delay_s)
        await sleep(0)

    monkeypatch.setattr(retries.asyncio, "sleep", note)
    return noted


def _calls(*outcomes: Any) -> Any:
    left = iter(outcomes)
    tokens: list[str] = []

    async def attempt(token: str, timeout_s: float) -> Any:
        assert 0 < timeout_s <= 1000
        tokens.append(token)
        outcome = next(left)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    attempt.tokens = tokens  # pyright: ignore[reportFunctionMemberAccess]
    return attempt


async def test_what_may_pass_is_tried_again_with_pauses_that_grow(pauses: list[float]) -> None:
    failures = [_failed(Code.UNAVAILABLE)] * 3
    assert await Retries(Tokens()).call(_calls(*failures, "well"), 10) == "well"
    for pause_s, most_s in zip(pauses, (0.1, 0.2, 0.4), strict=True):
        assert most_s / 2 <= pause_s <= most_s


async def test_the_server_says_how_long_to_wait(pauses: list[float]) -> None:
    calls = _calls(_failed(Code.RESOURCE_EXHAUSTED, 3.0), "well")
    assert await Retries(Tokens()).call(calls, 10) == "well"
    assert pauses == [3.0]
    with pytest.raises(LimitError):
        await Retries(Tokens()).call(_calls(_failed(Code.RESOURCE_EXHAUSTED, 11.0)), 10)


async def test_what_will_not_pass_comes_out_at_once(pauses: list[float]) -> None:
    with pytest.raises(NotFoundError):
        await Retries(Tokens()).call(_calls(_failed(Code.NOT_FOUND, reason="UNKNOWN_DATASET")), 10)
    assert pauses == []


async def test_a_token_that_was_refused_is_replaced_once(pauses: list[float]) -> None:
    refusals = [_failed(Code.UNAUTHENTICATED, reason="INVALID_TOKEN")] * 3
    calls = _calls(refusals[0], "well")
    assert await Retries(Tokens()).call(calls, 10) == "well"
    assert calls.tokens == ["token 1", "token 2"]
    with pytest.raises(CredentialsError):
        await Retries(Tokens()).call(_calls(*refusals), 10)


async def test_the_budget_is_of_all_calls_and_comes_back_with_successes(pauses: list[float]) -> None:
    shared = Retries(Tokens())

    async def tries() -> int:
        pauses.clear()
        with pytest.raises(UnavailableError):
            await shared.call(_calls(*itertools.repeat(_failed(Code.UNAVAILABLE), 20)), 1000)
        return len(pauses) + 1

    assert [await tries(), await tries()] == [5, 1]
    for _ in range(100):
        await shared.call(_calls("well"), 10)
    assert await tries() == 5
