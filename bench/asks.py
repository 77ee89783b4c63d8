"""What is asked of the lake, and of others over the same rows, who ask in processes without anything of ours."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

NANOS: Final = 1_000_000_000
DATASET: Final = "BENCH"
INSTRUMENTS: Final = 500
START_NS: Final = 1_782_912_600 * NANOS
"""2026-07-01, 13:30 UTC."""
DAY_NS: Final = 23_400 * NANOS
"""Six and a half hours: a day at the exchange."""
MINUTE_NS: Final = 60 * NANOS
HOUR_NS: Final = 3_600 * NANOS
LOOK_BACK_NS: Final = 10 * MINUTE_NS
"""Who has no way to ask for the newest row before a time is told that it is no older than this."""
ALL: Final = np.arange(1, INSTRUMENTS + 1, dtype=np.uint32)

Query = Callable[[int], int]
"""One of many like it, by its number; returns how many rows it found."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The queries of an engine.

    Attributes
    ----------
    hour
        One symbol's rows of an hour.
    as_of
        The last row of every symbol at a time.
    bars_one, bars_all
        One-minute bars of the middles, of the day: of one symbol, and of all.
    """

    hour: Query
    as_of: Query
    bars_one: Query
    bars_all: Query


TIMES: Final = {"hour": 30, "as_of": 20, "bars_one": 20, "bars_all": 5}
"""How often each is asked, after once to warm up."""


def taken_ms(ask: Ask, name: str, number: int) -> float:
    """Ask once; return how long it took, in milliseconds."""
    began = time.perf_counter()
    getattr(ask, name)(number)
    return (time.perf_counter() - began) * 1e3


def instrument_of(number: int) -> int:
    """Return the instrument of a query."""
    return 1 + number * 7 % INSTRUMENTS


def time_of(number: int) -> int:
    """Return the time of a query."""
    return START_NS + DAY_NS * (1 + number % 20) // 21


def hour_of(number: int) -> int:
    """Return when the hour of a query begins."""
    return START_NS + (DAY_NS - HOUR_NS) * (number % 30) // 30
