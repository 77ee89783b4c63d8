"""The one way from a domain error to a gRPC status."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1.error_reason_pb2 import ErrorReason
from mda.market.errors import MarketDataError

DOMAIN: Final = "marketdata"

_C = grpc.StatusCode
CATALOG: Final[Mapping[ErrorReason, grpc.StatusCode]] = {
    reasons.ERROR_REASON_INVALID_FIELD: _C.INVALID_ARGUMENT,
    reasons.ERROR_REASON_MALFORMED_MESSAGE: _C.INVALID_ARGUMENT,
    reasons.ERROR_REASON_RAGGED_COLUMN: _C.INVALID_ARGUMENT,
    reasons.ERROR_REASON_EMPTY_BATCH: _C.INVALID_ARGUMENT,
    reasons.ERROR_REASON_BATCH_TOO_LARGE: _C.INVALID_ARGUMENT,
    reasons.ERROR_REASON_TIME_OUT_OF_RANGE: _C.INVALID_ARGUMENT,
    reasons.ERROR_REASON_NOT_A_PRICE: _C.INVALID_ARGUMENT,
    reasons.ERROR_REASON_UNKNOWN_DATASET: _C.NOT_FOUND,
    reasons.ERROR_REASON_UNKNOWN_INSTRUMENT: _C.NOT_FOUND,
    reasons.ERROR_REASON_INVALID_TOKEN: _C.UNAUTHENTICATED,
    reasons.ERROR_REASON_MISSING_SCOPE: _C.PERMISSION_DENIED,
    reasons.ERROR_REASON_BATCH_OUT_OF_SEQUENCE: _C.FAILED_PRECONDITION,
    reasons.ERROR_REASON_FENCED: _C.ABORTED,
    reasons.ERROR_REASON_OUT_OF_TURN: _C.INVALID_ARGUMENT,
    reasons.ERROR_REASON_TAPE_FULL: _C.RESOURCE_EXHAUSTED,
    reasons.ERROR_REASON_TAPE_UNAVAILABLE: _C.UNAVAILABLE,
    reasons.ERROR_REASON_DRAINING: _C.UNAVAILABLE,
    reasons.ERROR_REASON_INTERNAL: _C.INTERNAL,
    reasons.ERROR_REASON_TOKEN_EXPIRED: _C.UNAUTHENTICATED,
    reasons.ERROR_REASON_INVALID_CURSOR: _C.INVALID_ARGUMENT,
    reasons.ERROR_REASON_CURSOR_OUT_OF_RANGE: _C.OUT_OF_RANGE,
    reasons.ERROR_REASON_ISSUER_UNAVAILABLE: _C.UNAVAILABLE,
    reasons.ERROR_REASON_UNKNOWN_INSTRUMENT_ID: _C.INVALID_ARGUMENT,
    reasons.ERROR_REASON_ROW_REFUSED: _C.INVALID_ARGUMENT,
    reasons.ERROR_REASON_BAD_CORRECTION: _C.INVALID_ARGUMENT,
    reasons.ERROR_REASON_BAD_BAR: _C.INVALID_ARGUMENT,
    reasons.ERROR_REASON_ARCHIVE_UNAVAILABLE: _C.UNAVAILABLE,
    reasons.ERROR_REASON_OVERLOADED: _C.RESOURCE_EXHAUSTED,
    reasons.ERROR_REASON_RANGE_TOO_LARGE: _C.INVALID_ARGUMENT,
    reasons.ERROR_REASON_DATASET_NOT_ENTITLED: _C.PERMISSION_DENIED,
    reasons.ERROR_REASON_TOKEN_REVOKED: _C.UNAUTHENTICATED,
    reasons.ERROR_REASON_UNKNOWN_CLIENT: _C.NOT_FOUND,
    reasons.ERROR_REASON_CLIENT_EXISTS: _C.ALREADY_EXISTS,
    reasons.ERROR_REASON_UNKNOWN_API_KEY: _C.NOT_FOUND,
    reasons.ERROR_REASON_API_KEY_ENDED: _C.FAILED_PRECONDITION,
    reasons.ERROR_REASON_AUTH_UNAVAILABLE: _C.UNAVAILABLE,
    reasons.ERROR_REASON_RATE_LIMITED: _C.RESOURCE_EXHAUSTED,
    reasons.ERROR_REASON_TOO_MANY_STREAMS: _C.RESOURCE_EXHAUSTED,
    reasons.ERROR_REASON_TOO_MANY_SYMBOLS: _C.RESOURCE_EXHAUSTED,
    reasons.ERROR_REASON_ROW_QUOTA_SPENT: _C.RESOURCE_EXHAUSTED,
}
"""The status code of each reason, as documented in `marketdata/v1/error_reason.proto`."""


def status_code(error: MarketDataError) -> grpc.StatusCode:
    """Return the gRPC status code of an error."""
    return CATALOG[error.reason]


def status_of(error: MarketDataError) -> status_pb2.Status:
    """Return an error as a `google.rpc.Status`.

    Its details are an `ErrorInfo`; a `BadRequest` where a field is at fault; a
    `RetryInfo` where the same call may succeed later.
    """
    number: int = status_code(error).value[0]
    status = status_pb2.Status(code=number, message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason_name, domain=DOMAIN, metadata=error.metadata)
    _add_detail(status, info)
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        _add_detail(status, error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        _add_detail(status, retry)
    return status


def _add_detail(
    status: status_pb2.Status,
    detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)


async def abort(
    context: grpc.aio.ServicerContext[Any, Any], error: MarketDataError, headers: Sequence[tuple[str, str]] = ()
) -> None:
    """End a call with an error. Does not return: raises grpc's own abort error.

    Parameters
    ----------
    context
        The call.
    error
        The error.
    headers
        More to say among the trailers, which are REST's headers where nothing was sent before.
    """
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status_of(error).SerializeToString())]
    if error.retry_after_s is not None:
        trailers.append(("retry-after", str(math.ceil(error.retry_after_s))))
    await context.abort(status_code(error), error.message, (*trailers, *headers))
