"""Times and intervals as people type them."""

from __future__ import annotations

import pytest
import typer

from mda.cli.times import check_range, parse_interval, parse_time


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1970-01-01", 0),
        ("2026-01-01", 1_767_225_600_000_000_000),
        ("2026-01-01T00:00:00Z", 1_767_225_600_000_000_000),
        ("2026-01-01t00:00:00.000000001z", 1_767_225_600_000_000_001),
        ("2025-12-31T19:00:00.5-05:00", 1_767_225_600_500_000_000),
    ],
)
def test_times_are_read(text: str, time_ns: int) -> None:
    assert parse_time(text) == time_ns


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00.0000000001Z", "20260101"]
)
def test_what_is_no_time_is_told_with_an_example(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="such as 2026-07-01, "):
        parse_time(text)


@pytest.mark.parametrize("text", ["1969-12-31", "2300-01-01T00:00:00Z"])
def test_times_that_do_not_fit_are_told(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="not between 1970 and 2262"):
        parse_time(text)


def test_intervals_are_read() -> None:
    assert [parse_interval(text) for text in ("1s", "5m", "4h", "1d")] == [1, 300, 14_400, 86_400]
    for text in ("7x", "7s", "2d", ""):
        with pytest.raises(typer.BadParameter, match="Send one"):
            parse_interval(text)


def test_a_range_ends_after_it_starts() -> None:
    check_range(None, 1)
    check_range(1, 2)
    with pytest.raises(typer.BadParameter, match="not after --start"):
        check_range(1, 1)
