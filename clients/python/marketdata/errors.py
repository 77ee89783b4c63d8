"""What a call to the API may raise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import grpc
from google.rpc import error_details_pb2, status_pb2

_RETRIED: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,  # how a connection that breaks off in mid-stream may show
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
    }
)


class ApiError(Exception):
    """A call that failed, with what the server said of it.

    Attributes
    ----------
    code
        The gRPC status code.
    message
        What is wrong and what to do, for people.
    reason
        A name of `marketdata.v1.ErrorReason` without its prefix; empty where something
        on the way failed, not a service.
    metadata
        The facts of the reason, `field` among them where a field is at fault.
    """

    def __init__(self, code: grpc.StatusCode, message: str, reason: str, metadata: Mapping[str, str]) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata)

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed a little later."""
        if self.reason == "TOKEN_EXPIRED":
            return True
        return self.code in _RETRIED and self.reason != "INTERNAL"


def api_error(error: grpc.aio.AioRpcError) -> ApiError:
    """Return a failed call as an `ApiError`."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            return _with_details(error.code(), status_pb2.Status.FromString(value))
    return ApiError(error.code(), error.details() or error.code().name, "", {})


def _with_details(code: grpc.StatusCode, status: status_pb2.Status) -> ApiError:
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        detail.Unpack(info)  # does nothing where the detail is of another type
    return ApiError(code, status.message, info.reason, info.metadata)
