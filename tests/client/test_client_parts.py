"""Tokens, errors and pauses of the client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from marketdata.backoff import Backoff
from marketdata.errors import ApiError, api_error
from marketdata.publisher import Publisher
from marketdata.subscriber import Start, Subscriber
from marketdata.tokens import TokenSource
from tests.client.servers import Endings, Tokens, auth_endpoint, endings_endpoints, served
from tests.tape.helpers import eventually, running

Code = grpc.StatusCode


def test_pauses_are_a_fifth_of_the_outage_with_jitter_and_begin_anew() -> None:
    for failing_for_s, most_s in ((0.0, 0.1), (0.3, 0.1), (1.0, 0.2), (10.0, 2.0), (25.0, 5.0), (3600.0, 5.0)):
        waits: list[float] = []
        for _ in range(200):
            now_s = iter((100.0, 100.0 + failing_for_s, 1e6))
            backoff = Backoff(lambda now_s=now_s: next(now_s))
            assert 0.05 <= backoff.next_s() <= 0.1
            waits.append(backoff.next_s())
            backoff.reset()
            assert 0.05 <= backoff.next_s() <= 0.1
        assert most_s / 2 <= min(waits) <= max(waits) <= most_s
        assert max(waits) - min(waits) > most_s / 4  # jitter


TRANSIENT = {
    Code.UNAVAILABLE,
    Code.RESOURCE_EXHAUSTED,
    Code.DEADLINE_EXCEEDED,
    Code.INTERNAL,
    Code.UNKNOWN,
    Code.CANCELLED,
}


@pytest.mark.parametrize("code", list(Code))
def test_which_codes_are_transient(code: Code) -> None:
    assert ApiError(code, "", "", {}).transient is (code in TRANSIENT)
    assert ApiError(code, "", "TOKEN_EXPIRED", {}).transient is True
    assert ApiError(code, "", "INTERNAL", {}).transient is False


def test_an_error_says_what_and_why() -> None:
    error = ApiError(Code.NOT_FOUND, "There is no dataset.", "UNKNOWN_DATASET", {"dataset": "X"})
    assert str(error) == "NOT_FOUND: There is no dataset."
    assert error.metadata == {"dataset": "X"}


def _details(*details: Any, message: str = "why") -> bytes:
    status = status_pb2.Status(code=5, message=message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status.SerializeToString()


def _rpc_error(trailers: tuple[tuple[str, Any], ...], text: str | None = "text") -> grpc.aio.AioRpcError:
    metadata = grpc.aio.Metadata(*trailers)
    return grpc.aio.AioRpcError(Code.NOT_FOUND, grpc.aio.Metadata(), metadata, text)


def test_details_are_read() -> None:
    info = error_details_pb2.ErrorInfo(reason="UNKNOWN_DATASET", metadata={"dataset": "X"})
    other = error_details_pb2.BadRequest()
    for details in ((info, other), (other, info)):
        error = api_error(_rpc_error((("x", "y"), ("grpc-status-details-bin", _details(*details)))))
        assert (error.code, error.message, error.reason) == (Code.NOT_FOUND, "why", "UNKNOWN_DATASET")
        assert error.metadata == {"dataset": "X"}


def test_an_error_without_details_is_of_something_on_the_way() -> None:
    for text, expected in (("text", "text"), (None, "NOT_FOUND"), ("", "NOT_FOUND")):
        error = api_error(_rpc_error((), text))
        assert (error.message, error.reason, error.metadata) == (expected, "", {})


@pytest.fixture
async def auth() -> AsyncIterator[tuple[Tokens, TokenSource]]:
    tokens = Tokens()
    async with served([auth_endpoint(tokens)]) as address, grpc.aio.insecure_channel(address) as channel:
        yield tokens, TokenSource(channel, "the id.the secret.with a dot")


async def test_a_token_is_got_once_for_all_who_ask(auth: tuple[Tokens, TokenSource]) -> None:
    tokens, source = auth
    assert await asyncio.gather(*(source.token() for _ in range(20))) == ["token 1"] * 20
    (form,) = tokens.forms
    assert form == "grant_type=client_credentials&client_id=the+id&client_secret=the+secret.with+a+dot"


@pytest.mark.parametrize(("life_s", "renew_s"), [(900, 840), (100, 50), (60, 30), (121, 61)])
async def test_a_token_is_renewed_ahead_of_its_end(
    auth: tuple[Tokens, TokenSource], monkeypatch: pytest.MonkeyPatch, life_s: float, renew_s: float
) -> None:
    tokens, source = auth
    tokens.life_s = life_s
    now = 1000.0
    monkeypatch.setattr("marketdata.tokens.time.monotonic", lambda: now)
    assert await source.token() == "token 1"
    now = 1000 + renew_s - 0.01
    assert await source.token() == "token 1"
    now = 1000 + renew_s
    assert await source.token() == "token 2"


async def test_a_short_token_is_renewed_in_time(auth: tuple[Tokens, TokenSource]) -> None:
    tokens, source = auth
    tokens.life_s = 0.2
    seen: set[str] = set()
    async with asyncio.timeout(10):
        while len(seen) < 3:
            seen.add(await source.token())
            await asyncio.sleep(0.01)
    assert len(tokens.forms) == 3


async def test_a_refused_token_is_got_anew_which_may_help_where_it_was_not_fresh(
    auth: tuple[Tokens, TokenSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, source = auth
    assert await source.token() == "token 1"
    assert not source.refused(time.monotonic())
    assert await source.token() == "token 2"
    monkeypatch.setattr("marketdata.tokens._FRESH_S", 0.0)
    assert source.refused(time.monotonic())
    assert not source.refused(time.monotonic())  # there is none to be refused
    assert await source.token() == "token 3"


async def test_calls_whose_token_is_refused_together_go_on_with_one_new_token(
    auth: tuple[Tokens, TokenSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, source = auth
    monkeypatch.setattr("marketdata.tokens._FRESH_S", 0.0)
    assert await source.token() == "token 1"
    began_s = [time.monotonic() for _ in range(3)]
    assert [source.refused(each) for each in began_s] == [True] * 3
    assert await source.token() == "token 2"
    assert source.refused(began_s[0])  # one that hears of it late
    assert await source.token() == "token 2"


async def test_a_refused_key_is_told_and_asked_for_again_next_time(auth: tuple[Tokens, TokenSource]) -> None:
    tokens, source = auth
    for answer, message in (
        ({"error": "invalid_client", "error_description": "wrong secret"}, "wrong secret"),
        ({"error": "invalid_client"}, "invalid_client"),
        ({"nothing": 1}, "no token"),
    ):
        tokens.answer = answer
        with pytest.raises(ApiError, match=message) as caught:
            await source.token()
        assert (caught.value.reason, caught.value.transient) == ("INVALID_TOKEN", False)
    tokens.answer = None
    assert await source.token() == "token 4"


@pytest.mark.parametrize(
    ("error", "code"), [("slow_down", Code.RESOURCE_EXHAUSTED), ("temporarily_unavailable", Code.UNAVAILABLE)]
)
async def test_a_key_that_is_to_come_again_later_is_no_bad_key(
    auth: tuple[Tokens, TokenSource], error: str, code: Code
) -> None:
    tokens, source = auth
    tokens.answer = {"error": error, "error_description": "come again later"}
    with pytest.raises(ApiError, match="come again later") as caught:
        await source.token()
    assert (caught.value.code, caught.value.transient, caught.value.metadata) == (code, True, {"problem": error})


async def test_an_auth_that_fails_is_told_as_it_failed(auth: tuple[Tokens, TokenSource]) -> None:
    tokens, source = auth
    tokens.failure = Code.UNAVAILABLE
    with pytest.raises(ApiError) as caught:
        await source.token()
    assert caught.value.transient


class Broken:
    """A client of servers whose streams end at once."""

    def __init__(self, tokens: Tokens, endings: Endings, source: TokenSource, channel: grpc.aio.Channel) -> None:
        self.tokens = tokens
        self.endings = endings
        self._source = source
        self._channel = channel

    def uses(self) -> dict[str, Any]:
        """Return what a publisher and a subscriber do until they are refused for good."""
        subscriber = Subscriber(self._channel, self._source, "X", None, Start())
        return {"publisher": self._publish(), "subscriber": anext(aiter(subscriber))}

    async def _publish(self) -> None:
        async with Publisher.open(self._channel, self._source, "X", "p"):
            raise AssertionError


@pytest.fixture
async def broken(auth: tuple[Tokens, TokenSource]) -> AsyncIterator[Broken]:
    endings = Endings()
    async with served(endings_endpoints(endings)) as address, grpc.aio.insecure_channel(address) as channel:
        yield Broken(*(auth[0], endings, auth[1]), channel)


def _reason(reason: str) -> tuple[tuple[str, bytes], ...]:
    return (("grpc-status-details-bin", _details(error_details_pb2.ErrorInfo(reason=reason))),)


@pytest.mark.parametrize("who", ["publisher", "subscriber"])
async def test_a_stream_that_ends_well_is_opened_again_after_a_pause(broken: Broken, who: str) -> None:
    broken.endings.status, broken.endings.after = Code.PERMISSION_DENIED, 3
    uses = broken.uses()
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(ApiError) as caught:
        await asyncio.wait_for(uses[who], 10)
    assert caught.value.code is Code.PERMISSION_DENIED
    assert broken.endings.calls == 4
    assert loop.time() - began >= 3 * 0.05  # the least of three pauses
    for name in uses.keys() - {who}:
        await _dispose(uses[name])


@pytest.mark.parametrize("who", ["publisher", "subscriber"])
async def test_an_expired_token_is_renewed(broken: Broken, who: str) -> None:
    broken.endings.status, broken.endings.trailers = Code.UNAUTHENTICATED, _reason("TOKEN_EXPIRED")
    uses = broken.uses()
    task = asyncio.ensure_future(uses[who])
    async with running(_wait(task)):
        await eventually(lambda: len(broken.tokens.forms) >= 3)
        broken.endings.trailers = _reason("INVALID_TOKEN")
        with pytest.raises(ApiError, match="UNAUTHENTICATED"):
            await asyncio.wait_for(task, 10)
    for name in uses.keys() - {who}:
        await _dispose(uses[name])


@pytest.mark.parametrize("who", ["publisher", "subscriber"])
async def test_a_stream_waits_for_an_auth_that_has_no_token_now(broken: Broken, who: str) -> None:
    broken.endings.status = Code.PERMISSION_DENIED
    broken.tokens.answer = {"error": "slow_down"}
    uses = broken.uses()
    task = asyncio.ensure_future(uses[who])
    async with running(_wait(task)):
        await eventually(lambda: len(broken.tokens.forms) >= 3)
        broken.tokens.answer = None
        with pytest.raises(ApiError, match="PERMISSION_DENIED"):
            await asyncio.wait_for(task, 10)
    for name in uses.keys() - {who}:
        await _dispose(uses[name])


async def _wait(task: asyncio.Future[Any]) -> None:
    await asyncio.wait([task])


async def _dispose(use: Any) -> None:
    if hasattr(use, "close"):
        use.close()


async def test_a_defect_of_the_client_reaches_who_waits(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(_: Any) -> str:
        raise RuntimeError("a defect")

    monkeypatch.setattr(TokenSource, "token", fails)
    uses = broken.uses()
    for use in uses.values():
        with pytest.raises(RuntimeError, match="a defect"):
            await asyncio.wait_for(use, 5)
