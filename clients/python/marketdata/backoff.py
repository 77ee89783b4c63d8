"""How long to wait before another try."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

_RANDOM: Final = random.SystemRandom()
_LEAST_S: Final = 0.1
_MOST_S: Final = 5.0
_SHARE: Final = 0.2


class Backoff:
    """Waits in proportion to how long it has failed: a fifth of that, from 0.1 s to 5 s.

    What comes back after a moment is found within a moment, and what is away for long is
    left alone. Jitter keeps clients from coming back in step.

    Parameters
    ----------
    clock_s
        A monotonic clock, in seconds.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._failing_since_s: float | None = None

    def reset(self) -> None:
        """Begin anew: something succeeded."""
        self._failing_since_s = None

    @property
    def failing_s(self) -> float:
        """For how long it has failed, in seconds."""
        return 0.0 if self._failing_since_s is None else self._clock_s() - self._failing_since_s

    def next_s(self) -> float:
        """Return how long to wait now, after a failure, in seconds."""
        now_s = self._clock_s()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        wait_s = min(max(_LEAST_S, _SHARE * (now_s - self._failing_since_s)), _MOST_S)
        return wait_s * _RANDOM.uniform(0.5, 1.0)
