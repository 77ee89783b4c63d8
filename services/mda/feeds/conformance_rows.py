"""The rows that the conformance feed makes its faults of: ordinary quotes and trades, from a seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import MAX_ROWS, NANOS, Batch, Kind, make_batch
from marketdata.v1.batch_pb2 import Side
from marketdata.v1.instrument_pb2 import Instrument

Columns = dict[str, NDArray[Any]]

KINDS: Final = (Kind.QUOTE, Kind.TRADE)
"""The kinds of the feed's rows."""

_LAG_NS: Final = 40_000
"""How long after its event a row is received."""
_STEPS_NS: Final = (2, 20_000)
"""The time from one row to the next. At least 2, so that a second receipt fits in between."""
_MOVES: Final = 40
_SIZES: Final = 500


@dataclass(frozen=True, slots=True)
class Profile:
    """An instrument of the feed.

    Attributes
    ----------
    symbol, description
        Its name.
    middle, tick
        Around which price it moves, and its price step, in units of 1e-9.
    negative
        Whether its prices may be zero and below.
    """

    symbol: str
    description: str
    middle: int
    tick: int
    negative: bool = False

    def instrument(self, symbol: str | None = None) -> Instrument:
        """Return what the server is told of it, under another symbol if one is given."""
        return Instrument(
            symbol=symbol or self.symbol,
            tick_size_nanos=self.tick,
            negative_prices=self.negative,
            description=f"Conformance: {self.description}",
        )


PROFILES: Final = (
    Profile("AMBER", "a share", 100 * NANOS, 10_000_000),
    Profile("BASALT", "a price step of 1e-9", 1_084_200_000, 1),
    Profile("CORAL-DUNE", "a spread, with prices below zero", 0, 50_000_000, negative=True),
    Profile("NEW", "an instrument that comes in mid-stream", 50 * NANOS, 1_000_000),
)
"""Rows name an instrument by its place here, counted from 1, until its id is known."""
AMBER, BASALT, CORAL_DUNE, NEW = range(1, len(PROFILES) + 1)
FIRST: Final = (AMBER, BASALT, CORAL_DUNE)
"""The places of those that are there from the beginning."""

_MIDDLES: Final = np.array([0, *(profile.middle for profile in PROFILES)], np.int64)
_TICKS: Final = np.array([0, *(profile.tick for profile in PROFILES)], np.int64)


class Source:
    """Makes ordinary rows, one after the other.

    Each row has the next number of one sequence, whatever its kind and instrument, and
    later times than the row before.

    Parameters
    ----------
    seed
        The same seed makes the same rows.
    start_ns
        The time of the first row, in nanoseconds since the epoch.

    Attributes
    ----------
    random
        For what steps leave to chance.
    time_ns
        The event time of the newest row.
    """

    def __init__(self, seed: int, start_ns: int) -> None:
        self.random = np.random.default_rng(seed)
        self.time_ns = start_ns
        self._next_sequence = 1

    def rows(self, kind: Kind, count: int, places: Sequence[int] | None = None) -> Columns:
        """Return rows with all columns that a producer sets.

        Parameters
        ----------
        kind
            Of which kind.
        count
            How many.
        places
            The instruments, in turn; by chance where None.
        """
        drawn = self.random.choice(FIRST, count) if places is None else np.resize(places, count)
        times = self.time_ns + np.cumsum(self.random.integers(*_STEPS_NS, count))
        self.time_ns = int(times[-1])
        head = {
            "instrument_id": drawn.astype(np.uint32),
            "ts_event": times,
            "ts_recv": times + _LAG_NS,
            "sequence": self.skip(count) + np.arange(count, dtype=np.uint64),
        }
        middles = _MIDDLES[drawn] + _TICKS[drawn] * self.random.integers(-_MOVES, _MOVES, count)
        if kind is Kind.TRADE:
            sides = self.random.integers(Side.SIDE_BUY, Side.SIDE_SELL + 1, count, np.uint32)
            return head | {"price": middles, "size": self._sizes(count), "side": sides}
        half = _TICKS[drawn] * self.random.integers(1, 4, count)
        return head | {
            "bid_price": middles - half,
            "bid_size": self._sizes(count),
            "ask_price": middles + half,
            "ask_size": self._sizes(count),
        }

    def batch(self, kind: Kind, count: int, places: Sequence[int] | None = None) -> Batch:
        """Return rows as a batch."""
        return make_batch(kind, self.rows(kind, count, places))

    def mixed(self, count: int, size: int) -> Iterator[Batch]:
        """Yield rows of both kinds in turn, in batches of a size."""
        for number, part in enumerate(sizes(count, size)):
            yield self.batch(Kind.TRADE if number % 2 else Kind.QUOTE, part)

    def skip(self, count: int) -> np.uint64:
        """Use up sequence numbers; return the first of them."""
        first = np.uint64(self._next_sequence)
        self._next_sequence += count
        return first

    def receive(self, columns: Columns) -> Columns:
        """Return rows as they are received only now."""
        times = self.time_ns + np.cumsum(self.random.integers(*_STEPS_NS, len(columns["ts_event"])))
        self.time_ns = int(times[-1])
        return columns | {"ts_recv": times + _LAG_NS}

    def _sizes(self, count: int) -> NDArray[np.int64]:
        return self.random.integers(1, _SIZES, count) * NANOS


def sizes(count: int, size: int = MAX_ROWS) -> list[int]:
    """Return the sizes of the batches that so many rows are cut into: all of one size, but the last."""
    whole, rest = divmod(count, size)
    return [size] * whole + [rest] * (rest > 0)


def pick(columns: Columns, rows: slice | NDArray[Any]) -> Columns:
    """Return some rows."""
    return {name: values[rows] for name, values in columns.items()}


def cut(kind: Kind, columns: Columns, parts: Iterable[int]) -> Iterator[Batch]:
    """Yield rows as batches of these sizes."""
    start = 0
    for size in parts:
        yield make_batch(kind, pick(columns, slice(start, start + size)))
        start += size
