"""How much a client may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Quotas:
    """Limits of a client; None stands for what its tier says, and in a tier or a token for no limit.

    Attributes
    ----------
    requests_per_second
        Calls a second, over time; twice as many may come at once.
    streams
        Streams open at a time, publishing ones too.
    symbols_per_subscription
        Symbols in one stream.
    rows_per_day
        Rows delivered or published a day, in UTC.
    """

    requests_per_second: int | None = None
    streams: int | None = None
    symbols_per_subscription: int | None = None
    rows_per_day: int | None = None

    def claim(self) -> dict[str, int]:
        """Return it as a token says it: what has no limit is absent."""
        named = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in named.items() if value is not None}

    @classmethod
    def of_claim(cls, claim: Mapping[str, Any]) -> Quotas:
        """Return what a token says; names of a newer release pass.

        Raises
        ------
        ValueError, TypeError
            If a limit is not a number.
        """
        known = {item.name for item in fields(cls)}
        return cls(**{name: int(value) for name, value in claim.items() if name in known})
