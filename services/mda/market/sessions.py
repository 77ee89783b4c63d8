"""Trading sessions: which hours of a market's local time make up a trading day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import ABSENT, NANOS
from mda.market.bits import Mask

DAY_NS: Final = 86_400 * NANOS
"""A day without a change of clocks, in nanoseconds."""

EVERY_DAY: Final = frozenset(range(1, 8))
"""All days of the week, by ISO number: Monday is 1."""

_MIDNIGHT: Final = time()
_EPOCH: Final = datetime(1970, 1, 1)
_EPOCH_DAY: Final = _EPOCH.toordinal()
_ONE_DAY: Final = timedelta(days=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_MARGIN_DAYS: Final = 3  # a trading day begins up to a day before its date, and local dates differ by one from UTC's
_EARLIEST_DATE: Final = np.iinfo(np.int64).min // DAY_NS + _MARGIN_DAYS + 1
_LATEST_DATE: Final = ABSENT // DAY_NS - _MARGIN_DAYS - 1

Times = NDArray[np.int64]
Dates = NDArray[np.datetime64]


@dataclass(frozen=True, slots=True)
class TradingDays:
    """Some trading days in their order, none of which overlap.

    Attributes
    ----------
    dates
        datetime64[D]; the date that each is called by.
    starts, ends
        int64, nanoseconds UTC; a day lasts from its start to just before its end.
    """

    dates: Dates
    starts: Times
    ends: Times

    def __len__(self) -> int:
        return len(self.starts)

    def numbers(self, times: Times) -> Times:
        """Return the place of the day that each time is in; `ABSENT` where it is in none."""
        if len(self) == 0 or len(times) == 0:
            return np.full(len(times), ABSENT, dtype=np.int64)
        least, most = times.min(), times.max()
        first, last = np.searchsorted(self.starts, np.array([least, most]), side="right").tolist()
        if first == last and first > 0 and most < self.ends[first - 1]:
            return np.full(len(times), first - 1, dtype=np.int64)
        places = np.searchsorted(self.starts[first:last], times, side="right") + (first - 1)
        # Before the first day the place is -1: that is the last day, which ends later.
        outside = (times >= self.ends[places]) | (places < 0)
        return np.where(outside, ABSENT, places)

    def starts_of(self, numbers: Times) -> Times:
        """Return when days start, by place."""
        return self.starts[numbers]

    def ends_of(self, numbers: Times) -> Times:
        """Return when days end, by place."""
        return self.ends[numbers]

    def between(self, start_ns: int, end_ns: int) -> range:
        """Return the places of the days that have a part in [start_ns, end_ns)."""
        if start_ns >= end_ns:
            return range(0)
        first = int(np.searchsorted(self.ends, start_ns, side="right"))
        return range(first, int(np.searchsorted(self.starts, end_ns, side="left")))

    def overlap(self, starts: Times, ends: Times) -> Mask:
        """Return whether any instant of each [start, end) is within a session.

        Parameters
        ----------
        starts, ends
            int64, nanoseconds UTC, from the range that the days were asked for.
        """
        begun = np.searchsorted(self.starts, ends, side="left")
        over = np.searchsorted(self.ends, starts, side="right")
        return begun > over


@dataclass(frozen=True, slots=True)
class Session:
    """The hours of a market's trading days. Round the clock in UTC unless told otherwise.

    A session that opens later than it closes, or at the same time, belongs to the day on
    which it ends: with 17:00 to 16:00 in Chicago, Monday's begins on Sunday at 17:00.
    Closing at 00:00 means the end of the day.

    Attributes
    ----------
    time_zone
        The IANA name of the time zone of the hours.
    opens, closes
        When trading starts and ends, by local time.
    weekdays
        The days of the week that are trading days, by ISO number: Monday is 1.

    Raises
    ------
    ValueError
        If there is no such time zone, a time has a zone of its own, or a weekday is none.
        The message begins with the attribute's name and tells what to do.
    """

    time_zone: str = "UTC"
    opens: time = _MIDNIGHT
    closes: time = _MIDNIGHT
    weekdays: frozenset[int] = EVERY_DAY

    def __post_init__(self) -> None:
        _zone(self.time_zone)
        for name, value in (("opens", self.opens), ("closes", self.closes)):
            if value.tzinfo is not None:
                raise ValueError(f"{name}: {value} has a time zone. Send a plain time of day; `time_zone` tells where.")
        if not self.weekdays or not self.weekdays <= EVERY_DAY:
            raise ValueError(f"weekdays: {sorted(self.weekdays)} are not. Send some of 1 (Monday) to 7 (Sunday).")

    def days(self, start_ns: int, end_ns: int) -> TradingDays:
        """Return the trading days that have a part in [start_ns, end_ns).

        Where clocks change, a day round the clock lasts 23 or 25 hours. An hour that is
        skipped or comes twice counts as `datetime` counts it with `fold=0`: a time that
        is skipped as if clocks had not been changed yet, one that comes twice as the first.

        Parameters
        ----------
        start_ns, end_ns
            Nanoseconds UTC.
        """
        found = list(self._dated(start_ns, end_ns))
        dates = np.array([day.toordinal() - _EPOCH_DAY for day, _, _ in found], dtype="datetime64[D]")
        starts = np.array([start for _, start, _ in found], dtype=np.int64)
        ends = np.array([end for _, _, end in found], dtype=np.int64)
        # Where clocks change between closing and opening, a day may seem to begin before the one before it ends.
        starts[1:] = np.maximum(starts[1:], np.maximum.accumulate(ends)[:-1])
        # A zone may leave a date out, which leaves a day without length.
        there = np.maximum(starts, start_ns) < np.minimum(ends, end_ns)
        return TradingDays(dates[there], starts[there], ends[there])

    def _dated(self, start_ns: int, end_ns: int) -> Iterator[tuple[date, int, int]]:
        zone = ZoneInfo(self.time_zone)
        until_midnight = self.closes == _MIDNIGHT
        overnight = self.opens >= self.closes and not until_midnight
        first = max(start_ns // DAY_NS - _MARGIN_DAYS, _EARLIEST_DATE)
        last = min(end_ns // DAY_NS + _MARGIN_DAYS, _LATEST_DATE)
        for number in range(first, last + 1):
            day = date.fromordinal(_EPOCH_DAY + number)
            if day.isoweekday() in self.weekdays:
                opens = datetime.combine(day - _ONE_DAY if overnight else day, self.opens)
                closes = datetime.combine(day + _ONE_DAY if until_midnight else day, self.closes)
                yield day, _instant(opens, zone), _instant(closes, zone)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones, such as `America`
        raise ValueError(f"time_zone: there is no {name[:64]!r}. Send an IANA name, such as America/Chicago.") from None


def _instant(local: datetime, zone: ZoneInfo) -> int:
    offset = local.replace(tzinfo=zone).utcoffset() or timedelta()
    return (local - offset - _EPOCH) // _MICROSECOND * 1_000
