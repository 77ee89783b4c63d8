"""Times as the API takes them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from marketdata.columns import NANOS
from marketdata.times import ago_ns, to_ns


def test_moments_are_nanoseconds() -> None:
    moment = datetime(2026, 7, 1, 9, 30, 0, 1, tzinfo=timezone(timedelta(hours=-4)))
    assert to_ns(moment) == to_ns("2026-07-01T13:30:00.000001Z") == to_ns(moment.astimezone(UTC))
    assert abs(time.time_ns() - 3600 * NANOS - ago_ns(hours=1)) < 60 * NANOS


@pytest.mark.parametrize("wrong", [datetime(2026, 7, 1), "2026-07-01T00:00:00", "yesterday"])
def test_what_has_no_time_zone_is_refused(wrong: str | datetime) -> None:
    with pytest.raises(ValueError, match=r"."):
        to_ns(wrong)
