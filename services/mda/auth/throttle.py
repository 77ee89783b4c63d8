"""Slows down who guesses secrets."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

FREE_BY_KEY: Final = 5
"""So many wrong secrets for one API key from one place cost nothing but themselves: people mistype."""
FREE_BY_PLACE: Final = 20
"""So many wrong secrets for any API keys from one place."""
LONGEST_WAIT: Final = timedelta(minutes=1)
TRUSTED_FOR: Final = timedelta(days=1)
"""So long after a right secret its key is not held to what others at its place do."""
_FORGET: Final = timedelta(minutes=15)
_MOST: Final = 20_000

_Who = tuple[str, ...]


@dataclass(slots=True)
class _Failures:
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """A secret that is about to be looked at.

    Attributes
    ----------
    pair
        The place that it came from and the API key.
    counted
        What it counts against.
    early
        Whether it counts already.
    wait
        How long is still to be waited before it; zero or less if it may be made.
    """

    pair: _Who
    counted: tuple[_Who, ...]
    early: bool
    wait: timedelta


class Throttle:
    """Counts wrong secrets; after a few, each next attempt has to wait twice as long as the one before.

    Wrong secrets count by place, and by place and API key. They do not count by API key
    alone: then whoever knows the id of a key, which is no secret, could shut its owner out.
    For the same reason what others do at a place does not count against a key whose secret
    was right there within a day.
    """

    def __init__(self) -> None:
        self._failures: OrderedDict[_Who, _Failures] = OrderedDict()
        self._trusted: OrderedDict[_Who, datetime] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, place: str, key_id: str, now: datetime) -> Attempt:
        """Begin an attempt. If it may be made it counts as a wrong one at once, so that many at a time gain nothing.

        That of a key whose secret was right at the place does not: its owner may well come
        with many at a time.

        Parameters
        ----------
        place
            Where it comes from, from `mda.auth.addresses.network_of`.
        key_id
            The API key; empty for what cannot be one.
        now
            The present time.
        """
        pair = place, key_id
        with self._lock:
            early = not self._trusts(pair, now)
            counted = ((place,), pair) if early else (pair,)
            wait = max(self._left(who, now) for who in counted)
            if early and wait <= timedelta():
                self._count(counted, now)
            return Attempt(pair, counted, early, wait)

    def failed(self, attempt: Attempt, now: datetime) -> None:
        """Note that the secret was wrong."""
        with self._lock:
            if not attempt.early:
                self._count(attempt.counted, now)

    def take_back(self, attempt: Attempt) -> None:
        """Count an attempt no longer: nobody can tell whether its secret was right."""
        with self._lock:
            self._uncount(attempt)

    def succeeded(self, attempt: Attempt, now: datetime) -> None:
        """Note that the secret was right: those before it were mistakes."""
        with self._lock:
            self._uncount(attempt)
            self._failures.pop(attempt.pair, None)
            self._trusted[attempt.pair] = now
            self._trusted.move_to_end(attempt.pair)
            if len(self._trusted) > _MOST:
                self._trusted.popitem(last=False)

    def _trusts(self, pair: _Who, now: datetime) -> bool:
        right_at = self._trusted.get(pair)
        return right_at is not None and now - right_at < TRUSTED_FOR

    def _left(self, who: _Who, now: datetime) -> timedelta:
        failures = self._failures.get(who)
        beyond = 0 if failures is None else failures.count - _free(who)
        return timedelta() if failures is None or beyond < 0 else failures.last_at + _pause(beyond) - now

    def _count(self, counted: tuple[_Who, ...], now: datetime) -> None:
        for who in counted:
            failures = self._failures.pop(who, None)
            before = 0 if failures is None or now - failures.last_at > _FORGET else failures.count
            self._failures[who] = _Failures(before + 1, now)
        while len(self._failures) > _MOST:
            self._failures.popitem(last=False)

    def _uncount(self, attempt: Attempt) -> None:
        for who in attempt.counted if attempt.early else ():
            failures = self._failures.get(who)
            if failures is not None:
                failures.count -= 1


def _free(who: _Who) -> int:
    return FREE_BY_PLACE if len(who) == 1 else FREE_BY_KEY


def _pause(beyond: int) -> timedelta:
    # No more doublings than it takes to reach the longest wait: the numbers would grow without end.
    return min(timedelta(seconds=2 ** min(beyond, 10)), LONGEST_WAIT)
