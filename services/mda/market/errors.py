"""What can go wrong, in the words of the contract.

Every failure that a caller may see is a `MarketDataError` with a reason of
`marketdata.v1.ErrorReason`; `mda.runtime.errors` turns it into a gRPC status.
"""

from __future__ import annotations

from typing import Final

from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1.error_reason_pb2 import ErrorReason

_PREFIX: Final = "ERROR_REASON_"


class MarketDataError(Exception):
    """A failure with a reason, the field at fault, and what to do.

    Parameters
    ----------
    reason
        Why.
    message
        A sentence for people: what is wrong and what to do about it.
    field
        The path of the request field at fault, if there is one.
    retry_after_s
        After how many seconds the same call may succeed; None if it will not.
    metadata
        The facts that `ErrorReason` documents for the reason.
    """

    def __init__(
        self,
        reason: ErrorReason,
        message: str,
        *,
        field: str | None = None,
        retry_after_s: float | None = None,
        **metadata: object,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s
        self.metadata = {key: str(value) for key, value in metadata.items()}
        if field is not None:
            self.metadata["field"] = field

    @property
    def reason_name(self) -> str:
        """The reason as it stands in `google.rpc.ErrorInfo`, for example `UNKNOWN_DATASET`."""
        return ErrorReason.Name(self.reason).removeprefix(_PREFIX)


def unknown_dataset(dataset: str) -> MarketDataError:
    """Return the error for a dataset that is not there."""
    return MarketDataError(
        reasons.ERROR_REASON_UNKNOWN_DATASET,
        f"There is no dataset {dataset!r}. Check the name; PutInstruments makes a dataset.",
        field="dataset",
        dataset=dataset,
    )


def unknown_symbol(dataset: str, symbol: str, field: str) -> MarketDataError:
    """Return the error for a symbol that its dataset does not have."""
    return MarketDataError(
        reasons.ERROR_REASON_UNKNOWN_INSTRUMENT,
        f"{dataset} has no instrument {symbol!r}. ListInstruments tells which there are; PutInstruments adds one.",
        field=field,
        symbol=symbol,
        dataset=dataset,
    )


def invalid_field(field: str, rule: str, message: str) -> MarketDataError:
    """Return the error for a field that breaks a rule of the contract."""
    return MarketDataError(reasons.ERROR_REASON_INVALID_FIELD, message, field=field, rule=rule)


def still_reading(dataset: str) -> MarketDataError:
    """Return the error for a tape that was not read to its end yet."""
    return MarketDataError(
        reasons.ERROR_REASON_TAPE_UNAVAILABLE,
        f"The tape of {dataset} is still being read. Try again in a second.",
        retry_after_s=1,
        dataset=dataset,
    )


def archive_unavailable(dataset: str, problem: str) -> MarketDataError:
    """Return the error for an archive that does not go on, or a lake that does not answer."""
    return MarketDataError(reasons.ERROR_REASON_ARCHIVE_UNAVAILABLE, problem, retry_after_s=5, dataset=dataset)


def draining() -> MarketDataError:
    """Return the error that ends the streams of a service that is about to stop."""
    return MarketDataError(
        reasons.ERROR_REASON_DRAINING,
        "The service is shutting down. Connect again: another replica, or the next one, goes on.",
        retry_after_s=0.5,
    )
