"""How long a bar lasts, and which bar a time is in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import NANOS
from mda.market.sessions import DAY_NS, Session

_TEXT: Final = re.compile(r"(\d{1,5})(s|m|h|d)", re.ASCII)
_UNITS: Final = {"s": NANOS, "m": 60 * NANOS, "h": 3_600 * NANOS, "d": DAY_NS}

Times = NDArray[np.int64]


class Periods(Protocol):
    """What time is cut into, for bars: an `Interval`, or a session's `TradingDays`.

    Periods are numbered, in the order of time. A time that is in none has the number `ABSENT`.
    """

    def numbers(self, times: Times) -> Times:
        """Return the number of the period that each time is in; `ABSENT` where it is in none."""
        ...

    def starts_of(self, numbers: Times) -> Times:
        """Return when periods start, in nanoseconds UTC."""
        ...

    def ends_of(self, numbers: Times) -> Times:
        """Return the first nanosecond after each period."""
        ...

    def between(self, start_ns: int, end_ns: int) -> range:
        """Return the numbers of the periods that have a part in [start_ns, end_ns)."""
        ...


@dataclass(frozen=True, slots=True)
class Interval:
    """The length of a bar: whole seconds that divide a day. Bars are aligned to the epoch.

    Attributes
    ----------
    ns
        Nanoseconds: from one second to one day.

    Raises
    ------
    ValueError
        If it is no such length. The message tells what to do.
    """

    ns: int

    def __post_init__(self) -> None:
        if not NANOS <= self.ns <= DAY_NS or self.ns % NANOS or DAY_NS % self.ns:
            raise ValueError(
                f"interval: {self.ns / NANOS:.12g} s is not from 1 s to 1 d in whole seconds that divide a day."
                " Send one that does, such as 1s, 30s, 1m, 15m, 1h, 4h or 1d."
            )

    @classmethod
    def parse(cls, text: str) -> Interval:
        """Read a number with a unit: `30s`, `1m`, `4h`, `1d`.

        Raises
        ------
        ValueError
            If it is none, or no interval.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(
                f"interval: {text[:40]!r} is not a number and one of s, m, h, d. Send one that is, such as 30s or 1m."
            )
        return cls(int(match[1]) * _UNITS[match[2]])

    @property
    def daily(self) -> bool:
        """Whether its bars are those of days."""
        return self.ns == DAY_NS

    def periods(self, session: Session, start_ns: int, end_ns: int) -> Periods:
        """Return what bars of [start_ns, end_ns) are of: the trading days of a session if it is a day, else itself."""
        return session.days(start_ns, end_ns) if self.daily else self

    def numbers(self, times: Times) -> Times:
        """Return the number of the bar that each time is in, counted from the epoch."""
        return times // self.ns

    def starts_of(self, numbers: Times) -> Times:
        """Return when bars start, in nanoseconds UTC."""
        return numbers * self.ns

    def ends_of(self, numbers: Times) -> Times:
        """Return the first nanosecond after each bar."""
        return numbers * self.ns + self.ns

    def between(self, start_ns: int, end_ns: int) -> range:
        """Return the numbers of the bars that have a part in [start_ns, end_ns)."""
        if start_ns >= end_ns:
            return range(0)
        return range(start_ns // self.ns, -(-end_ns // self.ns))
