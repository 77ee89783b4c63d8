"""The middle of bid and ask over time, drawn in the terminal."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from uniplot import plot_to_string

from marketdata.columns import NANOS

MOST_LINES: Final = 6
"""How many symbols are drawn: more cannot be told apart."""

_SHOWN_S: Final = 300.0
_MOST_POINTS: Final = 2_400
_PER_BASIS_POINT: Final = 1e4
_MARGIN: Final = 14
"""What the labels of an axis take, in columns."""


class Plot:
    """What is drawn: one symbol by its price, several by how far each has gone since its first point.

    Parameters
    ----------
    started_s
        The monotonic time that is drawn as 0, in seconds.
    """

    def __init__(self, started_s: float | None = None) -> None:
        self._started_s = time.monotonic() if started_s is None else started_s
        self._points: dict[str, deque[tuple[float, float]]] = {}

    def note(self, middles: Mapping[str, float], now_s: float) -> None:
        """Take a point of each symbol; those beyond the first six are left out, and points older than five minutes.

        Parameters
        ----------
        middles
            The middle of bid and ask by symbol, in nanos of the price.
        now_s
            The monotonic time, in seconds.
        """
        for symbol, middle in middles.items():
            # A price of 0 is no start: a move from it has no basis points.
            if symbol in self._points or (middle and len(self._points) < MOST_LINES):
                points = self._points.setdefault(symbol, deque(maxlen=_MOST_POINTS))
                points.append((now_s - self._started_s, middle / NANOS))
        for points in self._points.values():
            while points and points[0][0] < now_s - self._started_s - _SHOWN_S:
                points.popleft()

    def text(self, title: str, width: int, height: int) -> str:
        """Return the drawing, for a terminal of so many columns and lines; a sentence while there is none."""
        drawn = {symbol: np.array(points) for symbol, points in sorted(self._points.items()) if len(points) > 1}
        if not drawn:
            return f"{title}: no bid and ask yet"
        alone = len(drawn) == 1
        name = (
            f"{title} {next(iter(drawn))}, middle of bid and ask" if alone else f"{title}, basis points since the start"
        )
        return plot_to_string(
            xs=[points[:, 0] for points in drawn.values()],
            ys=[points[:, 1] if alone else _moved(points[:, 1]) for points in drawn.values()],
            lines=True,
            color=True,
            title=name,
            legend_labels=list(drawn),
            x_unit=" s",
            y_gridlines=[] if alone else [0.0],
            width=max(width - _MARGIN, 20),
            height=max(height - 8, 5),
        )


def _moved(prices: NDArray[np.float64]) -> NDArray[np.float64]:
    return (prices / prices[0] - 1) * _PER_BASIS_POINT
