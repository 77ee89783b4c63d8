"""Bars that rows still come for: what they are by now, and which have changed since they were told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from marketdata.columns import ABSENT, NANOS
from mda.market.bar_sums import BarSums, merge, sum_rows
from mda.market.intervals import Interval, Periods
from mda.market.sessions import DAY_NS, Session
from mda.market.ticks import Int64s, Ticks

SETTLE_NS: Final = NANOS // 4
"""A bar is told so long after its end, as rows take a while to come."""
_PACE_NS: Final = NANOS // 2
"""Bars that late rows have changed are told this often."""
_MOST_PARTS: Final = 16
_AROUND_NS: Final = 16 * DAY_NS
_WEEK_NS: Final = 7 * DAY_NS

Key = tuple[int, int]
"""An instrument and when one of its bars begins."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """What bars are of.

    Attributes
    ----------
    interval
        How long a bar is.
    session
        The trading day, for bars of a day.
    """

    interval: Interval
    session: Session

    def around(self, first_ns: int, last_ns: int) -> Periods:
        """Return the periods of some times, and more of them to both sides."""
        return self.interval.periods(self.session, first_ns - _AROUND_NS, last_ns + _AROUND_NS)

    def start_before(self, time_ns: int, bars: int = 0) -> int:
        """Return when the bar begins that a time is in, or the last one that began before it, or one some bars back."""
        if not self.interval.daily:
            return (time_ns // self.interval.ns - bars) * self.interval.ns
        margin = (bars + 3) * _WEEK_NS  # a session may be open on one day a week
        starts = self.session.days(time_ns - margin, time_ns + DAY_NS).starts
        begun = int(np.searchsorted(starts, time_ns, side="right"))
        return int(starts[max(0, begun - 1 - bars)]) if begun else time_ns - margin


class OpenBars:
    """The bars of a stream.

    Those that begin at `floor_ns` or later are known whole; of those before it no more
    than that rows have come for them.

    Parameters
    ----------
    calendar
        What they are of.
    updates_ns
        How often bars that go on are told; 0 for not at all.

    Attributes
    ----------
    floor_ns
        From when on bars are known whole, in nanoseconds UTC.
    changed
        Those of them that are to be told.
    late
        Those before them that are to be told.
    """

    def __init__(self, calendar: Calendar, updates_ns: int) -> None:
        self._calendar = calendar
        self._updates_ns = updates_ns
        self._periods: Periods = calendar.interval
        self._covered = (1, 0)
        self._parts: list[BarSums] = []
        self._first_end = ABSENT
        self._told_ns = 0
        self._told_ended_ns = 0
        self._told_early: set[Key] = set()
        self.floor_ns = 0
        self.changed: set[Key] = set()
        self.late: set[Key] = set()

    def load(self, sums: BarSums, floor_ns: int) -> None:
        """Begin again with what all rows up to now come to, from a time on."""
        self.floor_ns = floor_ns
        self._parts = [sums]

    def add(self, ticks: Ticks, *, loaded: bool) -> None:
        """Take rows in; with `loaded` they are in what was loaded already, and only tell which bars have changed."""
        if not len(ticks):
            return
        part = sum_rows(ticks, self.periods(int(ticks.ts_event.min()), int(ticks.ts_event.max())))
        self.change(part)
        if not loaded:
            self._parts.append(part[part.start >= self.floor_ns])
            if len(self._parts) > _MOST_PARTS:
                self._parts = [merge(self._parts)]

    def change(self, sums: BarSums) -> None:
        """Note that bars are to be told."""
        if len(sums):
            self._note(keys_of(sums), sums.start)

    @property
    def sums(self) -> BarSums:
        """What is known of the bars from the floor on, by instrument and start."""
        self._parts = [merge(self._parts)]
        return self._parts[0]

    def periods(self, first_ns: int, last_ns: int) -> Periods:
        """Return the periods of some times."""
        if not self._covered[0] <= first_ns <= last_ns <= self._covered[1]:
            self._periods = self._calendar.around(first_ns, last_ns)
            self._covered = (first_ns - DAY_NS, last_ns + DAY_NS) if self._calendar.interval.daily else (0, ABSENT)
        return self._periods

    def ends_of(self, starts: Int64s) -> Int64s:
        """Return when bars end, by when they begin."""
        periods = self.periods(int(starts.min()), int(starts.max()))
        return periods.ends_of(periods.numbers(starts))

    def has_ended(self, now_ns: int) -> bool:
        """Return whether a bar that is to be told is over."""
        return self._first_end + SETTLE_NS <= now_ns

    def due_ns(self) -> int:
        """Return when bars are to be told next; `ABSENT` while there is nothing to tell."""
        if self._first_end == ABSENT:
            return ABSENT
        ended = max(self._first_end + SETTLE_NS, self._told_ended_ns + _PACE_NS)
        updates = self._updates_ns and (self.changed or self.late)
        return min(ended, self._told_ns + self._updates_ns) if updates else ended

    def take(self, now_ns: int) -> set[Key]:
        """Return the bars that are to be told now, and forget that they are.

        Those that were told while they went on are to be told again when they are over.
        """
        keys = list(self.changed | self.late | self._told_early)
        starts = np.array([start for _, start in keys], dtype=np.int64)
        over = self.ends_of(starts) + SETTLE_NS <= now_ns
        updates = bool(self._updates_ns) and now_ns >= self._told_ns + self._updates_ns
        told = {
            key
            for key, is_over in zip(keys, over.tolist(), strict=True)
            if is_over or (updates and key in self.changed)
        }
        going = np.flatnonzero(~over)
        self._told_early = {keys[place] for place in going.tolist()} & (self._told_early | told)
        self.changed -= told
        self.late -= told
        self._first_end = int(self.ends_of(starts[going]).min()) if len(going) else ABSENT
        self._told_ended_ns = now_ns
        self._told_ns = now_ns if updates else self._told_ns
        return told

    def forget_before(self, floor_ns: int) -> None:
        """Know bars before a time no more."""
        if floor_ns > self.floor_ns:
            sums = self.sums
            self._parts = [sums[sums.start >= floor_ns]]
            self.floor_ns = floor_ns
            self.late |= {key for key in self.changed if key[1] < floor_ns}
            self.changed -= self.late

    def _note(self, keys: Sequence[Key], starts: Int64s) -> None:
        for key in keys:
            (self.changed if key[1] >= self.floor_ns else self.late).add(key)
        self._first_end = min(self._first_end, int(self.ends_of(starts).min()))


def keys_of(sums: BarSums) -> list[Key]:
    """Return which bars sums are of."""
    return list(zip(sums.instrument_id.tolist(), sums.start.tolist(), strict=True))
