"""Every method with good tokens, tokens for something else, and bad ones: by gRPC, gRPC-Web and REST."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from mda.runtime.access import access_rules
from mda.runtime.server import API_FILES
from tests.stack import grpc_web
from tests.stack.conftest import Stack

METHODS = {
    f"/{service.full_name}/{method.name}": method
    for file in API_FILES
    for service in file.services_by_name.values()
    for method in service.methods
}
RULES = access_rules(*API_FILES)
BAD = ("none", "garbage", "expired", "forged", "alg_none", "wrong_audience")
REST = {
    path: rule
    for path, method in METHODS.items()
    if (rule := method.GetOptions().Extensions[annotations_pb2.http]).WhichOneof("pattern")  # type: ignore[index]
}
OK, UNAUTHENTICATED, DENIED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
REFUSED = (UNAUTHENTICATED, DENIED)


def opens(path: str, scopes: set[str]) -> bool:
    """Return whether tokens with some scopes open a method."""
    rule = RULES[path]
    return rule.public or rule.any_client or rule.scope in scopes


def expected(path: str, name: str) -> tuple[grpc.StatusCode, ...]:
    """Return how a refusal looks; nothing where the method is opened."""
    if RULES[path].public:
        return ()
    if name in BAD:
        # Envoy's JWT filter answers a foreign audience with 403, and gRPC callers see just that.
        return (UNAUTHENTICATED, DENIED) if name == "wrong_audience" else (UNAUTHENTICATED,)
    scopes = {"reader": {"quotes:read"}, "publisher": {"quotes:publish"}}[name]
    return () if opens(path, scopes) else (DENIED,)


def headers(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def empty(method: MethodDescriptor) -> bytes:
    """Return a request of no dataset there is: what is let in is told so by the service."""
    request: Any = GetMessageClass(method.input_type)()
    if "dataset" in method.input_type.fields_by_name:
        request.dataset = "NOWHERE"
    return request.SerializeToString()


@pytest_asyncio.fixture
async def channel(stack: Stack) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(stack.target) as made:
        yield made


async def by_grpc(channel: grpc.aio.Channel, path: str, token: str | None) -> grpc.StatusCode:
    """Return the status of a call; OK as soon as something is answered."""
    method = METHODS[path]
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    request = empty(method)
    call = getattr(channel, kind)(path)(
        iter([request]) if method.client_streaming else request, metadata=tuple(headers(token).items()), timeout=10
    )
    try:
        await (call.read() if method.server_streaming else call)
    except grpc.aio.AioRpcError as error:
        if error.details() == "Internal error from Core":  # grpc.aio's, where a refusal comes before its write
            return await by_grpc(channel, path, token)
        return error.code()
    return OK


@pytest.mark.parametrize("name", [*BAD, "reader", "publisher"])
async def test_grpc(stack: Stack, channel: grpc.aio.Channel, tokens: dict[str, str | None], name: str) -> None:
    for path in METHODS:
        found, refusals = await by_grpc(channel, path, tokens[name]), expected(path, name)
        assert found in refusals if refusals else found not in REFUSED, (path, found)


@pytest.mark.parametrize("name", [*BAD, "reader", "publisher"])
def test_grpc_web(stack: Stack, tokens: dict[str, str | None], name: str) -> None:
    for path, method in METHODS.items():
        found = grpc_web.call(stack.url, path, empty(method), headers(tokens[name])).code
        refusals = expected(path, name)
        assert found in refusals if refusals else found not in REFUSED, (path, found)


@pytest.mark.parametrize("name", [*BAD, "reader", "publisher"])
def test_rest(stack: Stack, tokens: dict[str, str | None], name: str) -> None:
    for path, rule in REST.items():
        verb = rule.WhichOneof("pattern")
        place = re.sub(r"\{dataset\}", "NOWHERE", getattr(rule, verb))
        place = re.sub(r"\{client_id\}", "mdc_nobody", re.sub(r"\{key_id\}", "mdk_nothing", place))
        content = {"json": {}} if verb == "post" else {}
        answer = httpx.request(verb.upper(), stack.url + place, headers=headers(tokens[name]), timeout=10, **content)
        refusals = expected(path, name)
        statuses = {401 if code is UNAUTHENTICATED else 403 for code in refusals} if refusals else set(range(200, 600))
        assert answer.status_code in statuses, (path, answer.text)
        if refusals:
            assert answer.json()["details"][0]["reason"] in {"INVALID_TOKEN", "MISSING_SCOPE"}
        else:
            assert answer.status_code not in {401, 403, 500, 502} or RULES[path].public, (path, answer.text)
