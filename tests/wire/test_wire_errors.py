"""What the client makes of a call that fails, and how long it waits before another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from marketdata.errors import ApiError, api_error

C = grpc.StatusCode


def packed(*details: Any) -> bytes:
    status = status_pb2.Status(code=3, message="what is wrong")
    for detail in details:
        message = AnyMessage()
        message.Pack(detail)
        status.details.append(message)
    return status.SerializeToString()


INFO = error_details_pb2.ErrorInfo(reason="INVALID_FIELD", domain="marketdata", metadata={"field": "symbols[0]"})
BAD = error_details_pb2.BadRequest()
DETAILS = "grpc-status-details-bin"
CASES: dict[str, tuple[C, str, tuple[tuple[str, str | bytes], ...]]] = {
    "reason": (C.INVALID_ARGUMENT, "short", ((DETAILS, packed(INFO)),)),
    "other details before": (C.INVALID_ARGUMENT, "short", (("x-a", "b"), (DETAILS, packed(BAD, INFO)))),
    "other details after": (C.INVALID_ARGUMENT, "short", ((DETAILS, packed(INFO, BAD)),)),
    "no info": (C.NOT_FOUND, "short", ((DETAILS, packed(BAD)),)),
    "no details": (C.UNAVAILABLE, "no healthy upstream", ()),
    "no words": (C.UNAVAILABLE, "", ()),
}


@pytest_asyncio.fixture
async def call() -> AsyncIterator[Any]:
    """Make a real call that fails as a case says."""

    async def fail(request: bytes, context: Any) -> bytes:
        code, details, trailers = CASES[request.decode()]
        await context.abort(code, details, trailers)
        return b""

    server = grpc.aio.server()
    handlers = {"Fail": grpc.unary_unary_rpc_method_handler(fail)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel.unary_unary("/t.T/Fail")
    await server.stop(None)


@pytest.mark.parametrize(
    ("case", "message", "reason", "metadata"),
    [
        ("reason", "what is wrong", "INVALID_FIELD", {"field": "symbols[0]"}),
        ("other details before", "what is wrong", "INVALID_FIELD", {"field": "symbols[0]"}),
        ("other details after", "what is wrong", "INVALID_FIELD", {"field": "symbols[0]"}),
        ("no info", "what is wrong", "", {}),
        ("no details", "no healthy upstream", "", {}),
        ("no words", "UNAVAILABLE", "", {}),
    ],
)
async def test_a_failed_call_becomes_an_api_error(
    call: Any, case: str, message: str, reason: str, metadata: dict[str, str]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(case.encode())
    error = api_error(caught.value)
    assert error.code is CASES[case][0]
    assert (error.message, error.reason, error.metadata) == (message, reason, metadata)
    told = f"{error.code.name}: {message}"  # what did not come from a service has no advice in it yet
    assert str(error) == (told if reason else f"{told} ({error.advice})")


@pytest.mark.parametrize(
    ("code", "reason", "transient"),
    [
        (C.UNAVAILABLE, "", True),
        (C.UNAVAILABLE, "DRAINING", True),
        (C.RESOURCE_EXHAUSTED, "TAPE_FULL", True),
        (C.DEADLINE_EXCEEDED, "", True),
        (C.INTERNAL, "", True),
        (C.INTERNAL, "INTERNAL", False),
        (C.UNKNOWN, "", True),
        (C.CANCELLED, "", True),
        (C.UNAUTHENTICATED, "TOKEN_EXPIRED", True),
        (C.UNAUTHENTICATED, "INVALID_TOKEN", False),
        (C.PERMISSION_DENIED, "MISSING_SCOPE", False),
        (C.INVALID_ARGUMENT, "INVALID_FIELD", False),
        (C.NOT_FOUND, "UNKNOWN_DATASET", False),
        (C.ABORTED, "FENCED", False),
        (C.FAILED_PRECONDITION, "BATCH_OUT_OF_SEQUENCE", False),
        (C.OUT_OF_RANGE, "CURSOR_OUT_OF_RANGE", False),
    ],
)
def test_what_may_succeed_later_is_transient(code: C, reason: str, transient: bool) -> None:
    assert ApiError(code, "m", reason, {}).transient is transient
