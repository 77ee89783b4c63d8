"""A token bucket: so many calls a second, and twice as many at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_BURST_S: Final = 2
"""A client that was quiet may make the calls of so many seconds at once."""

_ROUNDING: Final = 1e-6
"""Who waits exactly as long as it was told gets its call."""


@dataclass(slots=True)
class Bucket:
    """The calls that a client has left.

    Attributes
    ----------
    rate
        Calls a second.
    level
        Calls left at `at_s`; below 0 where other processes took more than there were.
    at_s
        When, in seconds.
    """

    rate: int
    level: float
    at_s: float

    @classmethod
    def full(cls, rate: int, now_s: float) -> Bucket:
        """Return the bucket of a client that was quiet."""
        return cls(rate, rate * _BURST_S, now_s)

    @property
    def size(self) -> int:
        """How many calls there can be at once."""
        return self.rate * _BURST_S

    @property
    def until_next_s(self) -> float:
        """In how many seconds there is another call."""
        return max(1 - self.level, 0) / self.rate

    @property
    def until_full_s(self) -> float:
        """In how many seconds all of them are there again."""
        return (self.size - self.level) / self.rate

    def refill(self, rate: int, now_s: float) -> None:
        """Add what came since the last time, at the rate that counts now."""
        self.level = min(self.level + max(now_s - self.at_s, 0) * rate, rate * _BURST_S)
        self.rate, self.at_s = rate, now_s

    def take(self) -> bool:
        """Take a call; return whether there was one."""
        if self.level < 1 - _ROUNDING:
            return False
        self.level -= 1
        return True

    def take_elsewhere(self, calls: int) -> None:
        """Take calls that were made already, by way of another process."""
        self.level = max(self.level - calls, -self.size)
