"""Counts what clients use in this process and, as far as it is told, in the others. Without I/O."""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from marketdata.v1 import error_reason_pb2 as reasons
from mda.market.errors import MarketDataError
from mda.market.quotas import Quotas
from mda.runtime.usage.bucket import Bucket

_REMEMBERED: Final = 10_000
"""The calls of so many clients are remembered; who falls out has made none for the longest time."""

_SILENT_S: Final = 6.0
"""A process that tells nothing for so long, in seconds, has no streams any more."""

_FRESH_S: Final = 2.0
"""A total of rows that was heard of so long ago, in seconds, is asked for again."""


@dataclass(frozen=True, slots=True)
class CallsLeft:
    """How many calls a client has left, as `x-ratelimit-*` headers tell it.

    Attributes
    ----------
    limit
        Calls a second.
    remaining
        Calls that could be made now.
    reset_s
        In how many seconds all of them are there again, rounded up.
    """

    limit: int
    remaining: int
    reset_s: int


@dataclass(frozen=True, slots=True)
class Used:
    """What a process has seen of a client.

    Attributes
    ----------
    streams
        Streams that are open.
    calls
        Calls since it told the last time.
    """

    streams: int
    calls: int


@dataclass(slots=True)
class _Other:
    heard_s: float
    streams: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class _Total:
    day: str
    rows: int
    heard_s: float


class Meter:
    """What each client uses.

    Calls and streams of other processes are known a moment later (`mda.runtime.usage.sharing`),
    so that a client that uses several at the same instant may get a little more than its
    limit. Rows of a day are counted for good; those of other processes are known with the
    next total.

    Parameters
    ----------
    clock
        Seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._streams: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._changed: set[str] = set()
        self._others: dict[str, _Other] = {}
        self._pending: Counter[tuple[str, str]] = Counter()
        self._totals: dict[str, _Total] = {}

    @property
    def day(self) -> str:
        """Today in UTC, as `20260701`."""
        return f"{datetime.fromtimestamp(self._clock(), UTC):%Y%m%d}"

    @property
    def day_ends(self) -> datetime:
        """When the rows of the next day begin to count, in UTC."""
        today = datetime.fromtimestamp(self._clock(), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return today + timedelta(days=1)

    def take_call(self, client: str, quotas: Quotas) -> CallsLeft | None:
        """Count a call; return what is left, None where there is no limit.

        Raises
        ------
        MarketDataError
            RATE_LIMITED if there is none left.
        """
        if quotas.requests_per_second is None:
            return None
        bucket = self._bucket(client, quotas.requests_per_second)
        if not bucket.take():
            raise MarketDataError(
                reasons.ERROR_REASON_RATE_LIMITED,
                f"The client may make {bucket.rate} calls a second. Come again in {bucket.until_next_s:.2g} s.",
                retry_after_s=bucket.until_next_s,
                limit=bucket.rate,
            )
        self._calls[client] += 1
        return _left(bucket)

    def calls_left(self, client: str, quotas: Quotas) -> CallsLeft | None:
        """Return how many calls a client has left; None where there is no limit."""
        if quotas.requests_per_second is None:
            return None
        return _left(self._bucket(client, quotas.requests_per_second))

    @contextmanager
    def stream(self, client: str, quotas: Quotas) -> Generator[None]:
        """Count a stream while the body runs.

        Raises
        ------
        MarketDataError
            TOO_MANY_STREAMS if the client has as many as it may.
        """
        if quotas.streams is not None and self.streams(client) >= quotas.streams:
            raise MarketDataError(
                reasons.ERROR_REASON_TOO_MANY_STREAMS,
                f"The client has {quotas.streams} streams open, which is as many as it may. Close one first.",
                retry_after_s=1,
                limit=quotas.streams,
            )
        self._streams[client] += 1
        self._changed.add(client)
        try:
            yield
        finally:
            self._streams[client] -= 1
            if not self._streams[client]:
                del self._streams[client]
            self._changed.add(client)

    def streams(self, client: str) -> int:
        """Return how many streams a client has open, in all processes."""
        since = self._clock() - _SILENT_S
        others = [other.streams.get(client, 0) for other in self._others.values() if other.heard_s >= since]
        return self._streams[client] + sum(others)

    def count_rows(self, client: str, rows: int) -> None:
        """Count rows delivered to a client, or published by it."""
        if rows:
            self._pending[client, self.day] += rows

    def rows_today(self, client: str) -> int:
        """Return a client's rows of today, as far as they are known here."""
        day = self.day
        total = self._totals.get(client)
        return (total.rows if total is not None and total.day == day else 0) + self._pending[client, day]

    def require_rows(self, client: str, quotas: Quotas) -> None:
        """Check that a client has rows left today.

        Raises
        ------
        MarketDataError
            ROW_QUOTA_SPENT if not.
        """
        if quotas.rows_per_day is None or self.rows_today(client) < quotas.rows_per_day:
            return
        ends = self.day_ends
        raise MarketDataError(
            reasons.ERROR_REASON_ROW_QUOTA_SPENT,
            f"The client's {quotas.rows_per_day:,} rows of today are used up. It goes on at {ends:%Y-%m-%d %H:%M} UTC.",
            retry_after_s=max(math.ceil(ends.timestamp() - self._clock()), 1),
            limit=quotas.rows_per_day,
        )

    # For who shares it.

    def knows_rows(self, client: str) -> bool:
        """Return whether the total of a client's rows of today was heard of just now."""
        total = self._totals.get(client)
        return total is not None and total.day == self.day and self._clock() - total.heard_s < _FRESH_S

    def note_total(self, client: str, day: str, total: int, counted: int = 0) -> None:
        """Take the total of a client's rows of a day, with what of it was counted here and not in it before."""
        self._pending[client, day] -= counted
        if not self._pending[client, day]:
            del self._pending[client, day]
        known = self._totals.get(client)
        if day == self.day:
            most = total if known is None or known.day != day else max(known.rows, total)
            self._totals[client] = _Total(day, most, self._clock())

    def uncounted(self) -> Mapping[tuple[str, str], int]:
        """Return the rows, by client and day, that are in no total yet."""
        return {key: rows for key, rows in self._pending.items() if rows > 0}

    def news(self, *, whole: bool) -> Mapping[str, Used]:
        """Return what was used since the last time, by client; where `whole`, of all who have streams."""
        clients = self._changed | self._calls.keys() | (self._streams.keys() if whole else set())
        found = {client: Used(self._streams[client], self._calls[client]) for client in clients}
        self._changed.clear()
        self._calls.clear()
        return found

    def hear(self, process: str, news: Mapping[str, Used], *, whole: bool) -> None:
        """Take what another process has told; where `whole`, it has no other streams."""
        now_s = self._clock()
        other = self._others.setdefault(process, _Other(now_s))
        other.heard_s = now_s
        if whole:
            other.streams.clear()
        for client, used in news.items():
            other.streams[client] = used.streams
            bucket = self._buckets.get(client)
            if bucket is not None:
                bucket.refill(bucket.rate, now_s)
                bucket.take_elsewhere(used.calls)
        self._forget(now_s)

    def _bucket(self, client: str, rate: int) -> Bucket:
        now_s = self._clock()
        bucket = self._buckets.get(client)
        if bucket is None:
            bucket = self._buckets[client] = Bucket.full(rate, now_s)
        bucket.refill(rate, now_s)
        self._buckets.move_to_end(client)
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        return bucket

    def _forget(self, now_s: float) -> None:
        self._others = {name: other for name, other in self._others.items() if other.heard_s >= now_s - _SILENT_S}
        self._totals = {client: total for client, total in self._totals.items() if total.day == self.day}


def _left(bucket: Bucket) -> CallsLeft:
    return CallsLeft(bucket.rate, max(int(bucket.level), 0), math.ceil(bucket.until_full_s))
