"""Domain errors: reason, field, facts."""

from __future__ import annotations

import pytest

from marketdata.v1 import error_reason_pb2 as reasons
from mda.market.errors import MarketDataError, draining, invalid_field, unknown_dataset, unknown_symbol


@pytest.mark.parametrize(
    ("error", "reason", "field", "metadata", "retry_after_s"),
    [
        (unknown_dataset("GLBX"), "UNKNOWN_DATASET", "dataset", {"field": "dataset", "dataset": "GLBX"}, None),
        (
            unknown_symbol("SIM", "ESZ9", "symbols[1]"),
            "UNKNOWN_INSTRUMENT",
            "symbols[1]",
            {"field": "symbols[1]", "symbol": "ESZ9", "dataset": "SIM"},
            None,
        ),
        (invalid_field("a.b", "rule", "no"), "INVALID_FIELD", "a.b", {"field": "a.b", "rule": "rule"}, None),
        (draining(), "DRAINING", None, {}, 0.5),
        (MarketDataError(reasons.ERROR_REASON_FENCED, "no", row=3), "FENCED", None, {"row": "3"}, None),
    ],
)
def test_an_error_tells_reason_field_and_facts(
    error: MarketDataError, reason: str, field: str | None, metadata: dict[str, str], retry_after_s: float | None
) -> None:
    assert error.reason_name == reason
    assert error.field == field
    assert error.metadata == metadata
    assert error.retry_after_s == retry_after_s
    assert str(error) == error.message
