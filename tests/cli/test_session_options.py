"""When a market is open, as people type it."""

from __future__ import annotations

import pytest
import typer

from marketdata.query.v1.query_service_pb2 import Session
from mda.cli.session_options import parse_session


@pytest.mark.parametrize(
    ("options", "session"),
    [
        (("", "", ""), None),
        (("Europe/Berlin", "", ""), Session(time_zone="Europe/Berlin")),
        (("", "17:00-16:00", ""), Session(opens="17:00", closes="16:00")),
        (("", "", "1-5"), Session(weekdays=[1, 2, 3, 4, 5])),
        (("", "", "7,1-3,2"), Session(weekdays=[1, 2, 3, 7])),
    ],
)
def test_sessions_are_read(options: tuple[str, str, str], session: Session | None) -> None:
    assert parse_session(*options) == session


@pytest.mark.parametrize(
    ("hours", "weekdays", "hint"),
    [
        ("9-16", "", "--hours"),
        ("09:30", "", "--hours"),
        ("", "0", "--weekdays"),
        ("", "5-1", "--weekdays"),
        ("", "mo-fr", "--weekdays"),
    ],
)
def test_what_is_none_is_told_with_an_example(hours: str, weekdays: str, hint: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not such as") as caught:
        parse_session("UTC", hours, weekdays)
    assert caught.value.param_hint == hint
