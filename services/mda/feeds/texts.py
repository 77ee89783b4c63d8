"""Columns of text, as venues send them in JSON: decimals and times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from marketdata.columns import ABSENT
from mda.feeds.source import SourceError

_DECIMAL: Final = pa.decimal128(38, 9)


def prices(texts: Sequence[str | None]) -> NDArray[np.int64]:
    """Return decimals in units of 1e-9; ABSENT for None and for empty ones.

    Raises
    ------
    SourceError
        If one is no decimal with at most nine places, or too large.
    """
    units, fits = _units(texts)
    if not fits.all():
        raise SourceError(f"{texts[int(np.argmin(fits))]!r} is too large for a price")
    return units


def sizes(texts: Sequence[str | None]) -> NDArray[np.int64]:
    """Return decimals as `prices` does; ABSENT for those beyond 9.2e9, of which some coins have many."""
    units, fits = _units(texts)
    return np.where(fits, units, ABSENT)


def times(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return times such as `2014-11-07T08:19:27.028459Z` in nanoseconds since the epoch.

    Raises
    ------
    SourceError
        If one is no such time.
    """
    try:
        moments: Any = pa.array(texts, pa.string()).cast(pa.timestamp("ns", "UTC"))
    except pa.ArrowException as error:
        raise SourceError(f"a time cannot be read: {error}") from error
    return moments.cast(pa.int64()).to_numpy()


def _units(texts: Sequence[str | None]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return decimals as units, and which of them fit: those whose upper half is the sign of the lower one."""
    try:
        values: Any = pa.array([text or None for text in texts], pa.string()).cast(_DECIMAL)
    except pa.ArrowException as error:
        raise SourceError(f"a price or size cannot be read: {error}") from error
    halves = np.frombuffer(values.buffers()[1], np.int64)[: 2 * len(values)].reshape(-1, 2)
    absent = values.is_null().to_numpy(zero_copy_only=False)
    fits = absent | ((halves[:, 1] == halves[:, 0] >> 63) & (halves[:, 0] != ABSENT))
    return np.where(absent, ABSENT, halves[:, 0]), fits
