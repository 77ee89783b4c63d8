"""Bars of a venue's making: whether they can be, and when they are over."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import ABSENT, NANOS, Batch, Kind
from mda.market.bits import some
from mda.market.refusals import bad_bar, bad_interval, bad_volume

PRICES: Final = ("open", "high", "low", "close")
_LONGEST_NS: Final = 366 * 86_400 * NANOS


def check_bars(batch: Batch) -> None:
    """See that each bar is some time long, and has no price beyond its high and its low, nor a volume below zero.

    Raises
    ------
    MarketDataError
        BAD_BAR for the first row of which that is not true.
    """
    if batch.kind is not Kind.BAR:
        return
    intervals = batch["interval_ns"]
    if some(bad := (intervals < 1) | (intervals > _LONGEST_NS)):
        raise bad_interval(batch, int(bad.argmax()))
    first, high, low, last = (batch[name] for name in PRICES)
    if some(bad := high < np.maximum(np.maximum(first, last), low)):
        raise bad_bar(batch, int(bad.argmax()), "high")
    if some(bad := low > np.minimum(first, last)):
        raise bad_bar(batch, int(bad.argmax()), "low")
    if "volume" in batch.columns and some(bad := batch["volume"] < 0):
        raise bad_volume(batch, int(bad.argmax()))


def moments(batch: Batch) -> NDArray[np.int64]:
    """Return when each row was known: the end of a bar, the event time of others; int64, in nanoseconds."""
    times: NDArray[Any] = batch["ts_event"]
    # What is no time, or no interval, is refused elsewhere: here it only must not wrap.
    return times if batch.kind is not Kind.BAR else np.minimum(times, ABSENT - _LONGEST_NS) + batch["interval_ns"]
