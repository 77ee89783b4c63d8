"""Reasons, their codes and their examples; what a status says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1.error_reason_pb2 import ErrorReason
from mda.market.errors import MarketDataError, draining, invalid_field, unknown_symbol
from mda.runtime.errors import CATALOG, DOMAIN, status_code, status_of

PROTO = Path(__file__).parents[2] / "protos/marketdata/v1/error_reason.proto"
REASONS = [name for name, value in ErrorReason.items() if value]
TEXTS = {
    name: comment
    for comment, name in re.findall(r"((?:  //[^\n]*\n)+)  (ERROR_REASON_\w+) =", PROTO.read_text(encoding="utf-8"))
}


def test_the_catalog_holds_every_reason() -> None:
    assert set(CATALOG) == {ErrorReason.Value(name) for name in REASONS}


@pytest.mark.parametrize("name", REASONS)
def test_a_reason_has_an_example_and_its_code_in_the_contract(name: str) -> None:
    text = TEXTS[name]
    example = json.loads(re.search(r"Example: (\{.*\})", text)[1])  # type: ignore[index]
    assert example["reason"] == name.removeprefix("ERROR_REASON_")
    assert all(isinstance(value, str) for value in example["metadata"].values())
    assert re.search(rf"\b{CATALOG[ErrorReason.Value(name)].name}\b", text)


def details(status: status_pb2.Status) -> dict[str, Message]:
    found: dict[str, Message] = {}
    for packed in status.details:
        message = {
            "google.rpc.ErrorInfo": error_details_pb2.ErrorInfo,
            "google.rpc.BadRequest": error_details_pb2.BadRequest,
            "google.rpc.RetryInfo": error_details_pb2.RetryInfo,
        }[packed.TypeName()]()
        assert packed.Unpack(message)
        found[packed.TypeName().removeprefix("google.rpc.")] = message
    return found


@pytest.mark.parametrize("name", REASONS)
def test_a_status_has_code_reason_and_domain(name: str) -> None:
    reason = ErrorReason.Value(name)
    status = status_of(MarketDataError(reason, "what is wrong", number=12))
    assert (status.code, status.message) == (CATALOG[reason].value[0], "what is wrong")
    assert details(status) == {
        "ErrorInfo": error_details_pb2.ErrorInfo(
            reason=name.removeprefix("ERROR_REASON_"), domain=DOMAIN, metadata={"number": "12"}
        )
    }


def test_a_field_at_fault_is_a_field_violation() -> None:
    found = details(status_of(invalid_field("symbols[0]", "string.max_len", "too long")))
    violation = error_details_pb2.BadRequest.FieldViolation(field="symbols[0]", description="too long")
    assert found["BadRequest"] == error_details_pb2.BadRequest(field_violations=[violation])
    assert found["ErrorInfo"].metadata == {"field": "symbols[0]", "rule": "string.max_len"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("retry_after_s", "nanos"), [(0.5, 500_000_000), (0, 0), (2, 2_000_000_000)])
def test_what_may_succeed_later_tells_when(retry_after_s: float, nanos: int) -> None:
    error = MarketDataError(reasons.ERROR_REASON_TAPE_FULL, "full", retry_after_s=retry_after_s)
    retry = details(status_of(error))["RetryInfo"]
    assert retry.retry_delay.ToNanoseconds() == nanos  # type: ignore[attr-defined]


def test_draining_asks_for_another_try() -> None:
    assert status_code(draining()) is grpc.StatusCode.UNAVAILABLE
    assert set(details(status_of(draining()))) == {"ErrorInfo", "RetryInfo"}


def test_an_unknown_instrument_is_not_found_by_symbol_and_invalid_by_id() -> None:
    by_id = MarketDataError(reasons.ERROR_REASON_UNKNOWN_INSTRUMENT_ID, "no", field="batch.x", row=0, value=9)
    assert status_code(unknown_symbol("SIM", "X", "symbols[0]")) is grpc.StatusCode.NOT_FOUND
    assert status_code(by_id) is grpc.StatusCode.INVALID_ARGUMENT
