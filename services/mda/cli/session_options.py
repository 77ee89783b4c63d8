"""When a market is open, as people type it."""

from __future__ import annotations

import re
from typing import Annotated, Final

import typer

from marketdata.query.v1.query_service_pb2 import Session

ZoneOption = Annotated[
    str,
    typer.Option("--time-zone", metavar="ZONE", help="Of the trading day: such as America/Chicago; UTC if not set."),
]
HoursOption = Annotated[
    str,
    typer.Option(
        "--hours",
        metavar="OPENS-CLOSES",
        help="When the market is open: such as 09:30-16:00, or 17:00-16:00 of the day before; all day if not set.",
    ),
]
WeekdaysOption = Annotated[
    str, typer.Option("--weekdays", metavar="DAYS", help="1 is Monday: such as 1-5, or 1,2,4; all if not set.")
]

_HOURS: Final = re.compile(r"(\d\d:\d\d)-(\d\d:\d\d)", re.ASCII)
_DAYS: Final = re.compile(r"([1-7])(?:-([1-7]))?")


def parse_session(time_zone: str, hours: str, weekdays: str) -> Session | None:
    """Return the session that options tell of; None where none is set. The server checks zone and hours.

    Raises
    ------
    typer.BadParameter
        If hours or weekdays are not of the form that they must have.
    """
    if not (time_zone or hours or weekdays):
        return None
    session = Session(time_zone=time_zone, weekdays=_parse_weekdays(weekdays))
    if hours:
        found = _HOURS.fullmatch(hours)
        if found is None:
            raise typer.BadParameter(f"{hours[:40]!r} is not such as 09:30-16:00.", param_hint="--hours")
        session.opens, session.closes = found[1], found[2]
    return session


def _parse_weekdays(text: str) -> list[int]:
    days: set[int] = set()
    for part in filter(None, text.split(",")):
        found = _DAYS.fullmatch(part)
        if found is None or int(found[2] or found[1]) < int(found[1]):
            raise typer.BadParameter(f"{text[:40]!r} is not such as 1-5 or 1,2,4.", param_hint="--weekdays")
        days.update(range(int(found[1]), int(found[2] or found[1]) + 1))
    return sorted(days)
