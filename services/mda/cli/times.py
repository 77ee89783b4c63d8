"""Times and intervals as people type them."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from marketdata.columns import ABSENT
from mda.market.intervals import Interval


def parse_time(text: str) -> int:
    """Return a time in nanoseconds since the epoch.

    Parameters
    ----------
    text
        RFC 3339 with up to nine places, or a date, which is its midnight UTC.

    Raises
    ------
    typer.BadParameter
        If it is neither, or not between 1970 and 2262.
    """
    moment = Timestamp()
    try:
        moment.FromJsonString(f"{date.fromisoformat(text)}T00:00:00Z" if len(text) == 10 else text.upper())
        time_ns = moment.ToNanoseconds()
    except ValueError:
        wanted = "Give one such as 2026-07-01, 2026-07-01T13:30:00Z or 2026-07-01T09:30:00.25-04:00."
        raise typer.BadParameter(f"{text[:40]!r} is not a date, and not a time with its zone. {wanted}") from None
    if not 0 <= time_ns < ABSENT:
        raise typer.BadParameter(f"{text} is not between 1970 and 2262.")
    return time_ns


def parse_interval(text: str) -> int:
    """Return the length of a bar in seconds.

    Raises
    ------
    typer.BadParameter
        If it is none.
    """
    try:
        return Interval.parse(text).ns // 1_000_000_000
    except ValueError as error:
        raise typer.BadParameter(str(error).removeprefix("interval: "), param_hint="--interval") from None


SymbolOption = Annotated[
    list[str] | None, typer.Option("--symbol", help="A symbol; may be given again. All where none is.")
]
EndOption = Annotated[
    int | None,
    typer.Option("--end", parser=parse_time, metavar="TIME", help="Up to, and without, this time."),
]


def check_range(start_ns: int | None, end_ns: int | None) -> None:
    """See that a range has its end after its start.

    Raises
    ------
    typer.BadParameter
    """
    if start_ns is not None and end_ns is not None and end_ns <= start_ns:
        raise typer.BadParameter("it is not after --start.", param_hint="--end")
