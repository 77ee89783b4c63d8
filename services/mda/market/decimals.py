"""Decimal strings to int64 in units of 1e-9, and back."""

from __future__ import annotations

import re
from typing import Final

from marketdata.columns import ABSENT, NANOS
from mda.market.errors import invalid_field

_DECIMAL: Final = re.compile(r"([+-]?)(\d{1,10})(?:\.(\d{1,9}))?", re.ASCII)


def parse_decimal(text: str, field: str) -> int:
    """Return a decimal as a count of 1e-9.

    Parameters
    ----------
    text
        A plain decimal with at most nine places: `5495.25`, `-0.5`. No exponent.
    field
        The path of the field that it came in, for the error.

    Raises
    ------
    MarketDataError
        If it is not such a decimal, or does not fit an int64 (about ±9.22 billion).
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise invalid_field(
            field,
            "decimal",
            f"{field}: {text[:40]!r} is not a decimal. Send digits with at most nine places, such as 5495.25.",
        )
    sign, whole, places = match.groups()
    value = int(whole) * NANOS + int((places or "").ljust(9, "0"))
    if sign == "-":
        value = -value
    if not -ABSENT <= value < ABSENT:
        raise invalid_field(
            field, "decimal.range", f"{field}: {text} is too large. The largest value is 9223372036.854775806."
        )
    return value


def format_decimal(value: int) -> str:
    """Return a count of 1e-9 as the shortest exact decimal: `5495.25`, `-0.5`, `7`."""
    whole, places = divmod(abs(value), NANOS)
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}.{places:09d}".rstrip("0").rstrip(".")
