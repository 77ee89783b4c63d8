"""What a call to the API may raise.

Every error is an `ApiError`. Those that call for different things are of classes of
their own, each with what to do about it:

>>> error = error_of(grpc.StatusCode.PERMISSION_DENIED, "no", "MISSING_SCOPE", {"scope": "quotes:publish"})
>>> type(error).__name__, error.metadata["scope"], error.transient
('NotAllowedError', 'quotes:publish', False)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

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
_FINAL: Final = frozenset({"INTERNAL", "TOO_MANY_SYMBOLS", "ROW_QUOTA_SPENT"})
"""Reasons for which the same call fails again, at least for today."""


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
    retry_after_s
        How long to wait before the same call, in seconds, where the server says so.
    advice
        What to do about errors of this class.
    """

    advice: ClassVar[str] = "Read the message: it says what is wrong."

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        reason: str,
        metadata: Mapping[str, str],
        retry_after_s: float | None = None,
    ) -> None:
        # What a service says has its advice in it; what failed on the way does not.
        super().__init__(f"{code.name}: {message}" if reason else f"{code.name}: {message} ({self.advice})")
        self.code = code
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata)
        self.retry_after_s = retry_after_s

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed a little later."""
        if self.reason == "TOKEN_EXPIRED":
            return True
        return self.code in _RETRIED and self.reason not in _FINAL


class InvalidRequestError(ApiError):
    """The request is not one that the API takes."""

    advice = "Change the request: `metadata` names the field. The same call fails again."


class NotFoundError(ApiError):
    """There is no such dataset, instrument, client or key."""

    advice = "Check the spelling; `list_datasets` and `list_instruments` tell what there is."


class CursorError(ApiError):
    """A cursor that is of another dataset, or of a place that is no longer there."""

    advice = "Begin anew, from a time or from now, and mind that rows between may be missing."


class CredentialsError(ApiError):
    """The API key is wrong, revoked or expired, or the token was refused."""

    advice = "Check the API key; `mda keys` makes another one."


class NotAllowedError(ApiError):
    """The client may not do this, or not with this dataset."""

    advice = "Ask for the scope or dataset that `metadata` names: `mda clients` grants it."


class FencedError(ApiError):
    """Another connection publishes under the same producer name."""

    advice = "Stop the other one, or choose another name: each producer is for one process at a time."


class LimitError(ApiError):
    """Too much at once: of calls, of rows that wait, or the tape is full."""

    advice = "Wait, at least `retry_after_s`, and send less at once. Nothing is lost."


class UnavailableError(ApiError):
    """The server does not answer, or something on the way."""

    advice = "Try again later. Does the gateway run, and is its address right?"


class DataLossError(ApiError):
    """The tape has lost what it had acknowledged."""

    advice = "Publish it again from its source, and tell whoever runs the server."


class ServerError(ApiError):
    """A defect of the server."""

    advice = "Report it, with the request id in `metadata`."


_BY_REASON: Final[Mapping[str, type[ApiError]]] = {
    "INVALID_CURSOR": CursorError,
    "CURSOR_OUT_OF_RANGE": CursorError,
    "FENCED": FencedError,
    "INTERNAL": ServerError,
}
_BY_CODE: Final[Mapping[grpc.StatusCode, type[ApiError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.ALREADY_EXISTS: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAUTHENTICATED: CredentialsError,
    grpc.StatusCode.PERMISSION_DENIED: NotAllowedError,
    grpc.StatusCode.ABORTED: FencedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: UnavailableError,
    grpc.StatusCode.CANCELLED: UnavailableError,
    grpc.StatusCode.DATA_LOSS: DataLossError,
}


def error_of(
    code: grpc.StatusCode,
    message: str,
    reason: str = "",
    metadata: Mapping[str, str] | None = None,
    retry_after_s: float | None = None,
) -> ApiError:
    """Return an error of the class that its reason, or else its code, calls for."""
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, ApiError)
    return kind(code, message, reason, metadata or {}, retry_after_s)


def api_error(error: grpc.aio.AioRpcError) -> ApiError:
    """Return a failed call as an `ApiError`."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            return _with_details(error.code(), status_pb2.Status.FromString(value))
    return error_of(error.code(), error.details() or error.code().name)


def _with_details(code: grpc.StatusCode, status: status_pb2.Status) -> ApiError:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    retry_after_s = None
    for detail in status.details:
        detail.Unpack(info)  # does nothing where the detail is of another type
        if detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    return error_of(code, status.message, info.reason, info.metadata, retry_after_s)
