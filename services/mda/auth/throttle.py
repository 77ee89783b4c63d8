"""Slows down who guesses secrets."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

FREE_BY_KEY: Final = 5
"""So many wrong secrets for one API key from one address cost nothing but themselves: people mistype."""
FREE_BY_ADDRESS: Final = 20
"""So many wrong secrets for any API keys from one address."""
LONGEST_WAIT: Final = timedelta(minutes=1)
_FORGET: Final = timedelta(minutes=15)
_MOST: Final = 20_000


@dataclass(slots=True)
class _Failures:
    count: int
    last_at: datetime


class Throttle:
    """Counts wrong secrets; after a few, each next try has to wait twice as long as the one before.

    Failures count by address, and by address and API key. They do not count by API key
    alone: then whoever knows the id of a key, which is no secret, could shut its owner out.
    """

    def __init__(self) -> None:
        self._failures: OrderedDict[tuple[str, ...], _Failures] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, address: str, key_id: str, now: datetime) -> timedelta:
        """Return how long is still to be waited before a try; zero or less if it may be made."""
        with self._lock:
            return max(
                self._left((address,), FREE_BY_ADDRESS, now),
                self._left((address, key_id), FREE_BY_KEY, now),
            )

    def failed(self, address: str, key_id: str, now: datetime) -> None:
        """Note a wrong secret."""
        with self._lock:
            self._count((address,), now)
            self._count((address, key_id), now)
            while len(self._failures) > _MOST:
                self._failures.popitem(last=False)

    def succeeded(self, address: str, key_id: str) -> None:
        """Note a right secret: the wrong ones before it were mistakes."""
        with self._lock:
            self._failures.pop((address, key_id), None)

    def _left(self, who: tuple[str, ...], free: int, now: datetime) -> timedelta:
        failures = self._failures.get(who)
        if failures is None or failures.count < free:
            return timedelta()
        return failures.last_at + _pause(failures.count - free) - now

    def _count(self, who: tuple[str, ...], now: datetime) -> None:
        failures = self._failures.pop(who, None)
        before = 0 if failures is None or now - failures.last_at > _FORGET else failures.count
        self._failures[who] = _Failures(before + 1, now)


def _pause(beyond: int) -> timedelta:
    # No more doublings than it takes to reach the longest wait: the numbers would grow without end.
    return min(timedelta(seconds=2 ** min(beyond, 10)), LONGEST_WAIT)
