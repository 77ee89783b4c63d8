"""How long to wait before another try."""

from __future__ import annotations

import random
from typing import Final

_RANDOM: Final = random.SystemRandom()
_FIRST_S: Final = 0.1
_MOST_S: Final = 1.0


class Backoff:
    """Grows from 0.1 s to 1 s by doubling, with jitter, so that clients do not come back in step."""

    def __init__(self) -> None:
        self._next_s = _FIRST_S

    def reset(self) -> None:
        """Begin anew: something succeeded."""
        self._next_s = _FIRST_S

    def next_s(self) -> float:
        """Return how long to wait now, in seconds."""
        wait_s = self._next_s * _RANDOM.uniform(0.5, 1.0)
        self._next_s = min(self._next_s * 2, _MOST_S)
        return wait_s
