"""A made-up market: quotes and trades of a few instruments, from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import NANOS, Batch, Kind, make_batch
from marketdata.v1.batch_pb2 import Side
from marketdata.v1.instrument_pb2 import Instrument


@dataclass(frozen=True, slots=True)
class Profile:
    """How an instrument behaves.

    Attributes
    ----------
    symbol, description
        Its name.
    price
        Where its price begins.
    tick_nanos
        The price step, in units of 1e-9.
    spread_ticks
        The usual spread, in ticks.
    volatility_ticks
        The standard deviation of the mid's move from one quote to the next, in ticks.
    quotes_per_s
        How many quotes come in a quiet second; a busy one has several times as many.
    trade_share
        How many trades come per quote.
    lot
        The usual size.
    """

    symbol: str
    description: str
    price: float
    tick_nanos: int
    spread_ticks: float
    volatility_ticks: float
    quotes_per_s: float
    trade_share: float
    lot: float


PROFILES: Final = (
    Profile("ALFA", "Synthetic: an index future", 5500.0, 250_000_000, 1.1, 0.4, 60, 0.25, 12),
    Profile("BRAVO", "Synthetic: a large share", 187.5, 10_000_000, 1.4, 0.6, 30, 0.2, 300),
    Profile("CHARLIE", "Synthetic: a small share", 23.1, 10_000_000, 4.0, 0.9, 5, 0.1, 100),
    Profile("DELTA/USD", "Synthetic: a currency pair", 1.0842, 10_000, 3.0, 1.2, 40, 0.05, 1_000_000),
    Profile("ECHO/USD", "Synthetic: a coin", 64_000.0, 10_000_000, 60.0, 90.0, 45, 0.3, 0.4),
    Profile("FOXTROT", "Synthetic: an energy future", 78.4, 10_000_000, 1.3, 0.7, 20, 0.15, 8),
)


def instruments() -> list[Instrument]:
    """Return the instruments of the market, in the order of `PROFILES`."""
    return [
        Instrument(symbol=profile.symbol, tick_size_nanos=profile.tick_nanos, description=profile.description)
        for profile in PROFILES
    ]


class Market:
    """Makes the rows of one interval after the other.

    Arrivals are a Poisson process whose rate reverts to its mean after bursts; mids are
    random walks; spreads and sizes are skewed to the right, as real ones are.

    Parameters
    ----------
    ids
        The instruments' ids, in the order of `PROFILES`.
    seed
        The same seed makes the same market.
    """

    def __init__(self, ids: list[int], seed: int) -> None:
        self._ids = ids
        self._random = np.random.default_rng(seed)
        self._mids = np.array([profile.price * NANOS / profile.tick_nanos for profile in PROFILES])
        self._busyness = np.ones(len(PROFILES))

    def interval(self, start_ns: int, length_ns: int) -> list[Batch]:
        """Return the quotes and the trades of an interval, in order of time; batches without rows are left out.

        Parameters
        ----------
        start_ns
            When it begins, in nanoseconds since the epoch.
        length_ns
            How long it is, in nanoseconds.
        """
        parts = [self._instrument(index, start_ns, length_ns) for index in range(len(PROFILES))]
        quotes = _in_order(Kind.QUOTE, [quotes for quotes, _ in parts])
        trades = _in_order(Kind.TRADE, [trades for _, trades in parts])
        return [batch for batch in (quotes, trades) if batch is not None]

    def _instrument(
        self, index: int, start_ns: int, length_ns: int
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        profile, random = PROFILES[index], self._random
        # Reverts to 1 within seconds; now and then something happens.
        shock = 4.0 if random.random() < 0.01 else 0.0
        self._busyness[index] += 0.05 * (1 - self._busyness[index]) + shock
        count = int(random.poisson(profile.quotes_per_s * self._busyness[index] * length_ns / NANOS))
        times = np.sort(random.integers(start_ns, start_ns + length_ns, count))
        mids = self._mids[index] + np.cumsum(random.normal(0, profile.volatility_ticks, count))
        if count:
            self._mids[index] = max(mids[-1], 100.0)
        spreads = np.maximum(1, np.rint(random.lognormal(np.log(profile.spread_ticks), 0.35, count)))
        bids = np.maximum(1, np.floor(mids - spreads / 2)).astype(np.int64) * profile.tick_nanos
        asks = bids + spreads.astype(np.int64) * profile.tick_nanos
        quotes = {
            "instrument_id": np.full(count, self._ids[index]),
            "ts_event": times,
            "bid_price": bids,
            "bid_size": self._sizes(profile, count),
            "ask_price": asks,
            "ask_size": self._sizes(profile, count),
        }
        traded = np.flatnonzero(random.random(count) < profile.trade_share)
        buys = random.random(len(traded)) < 0.5
        trades = {
            "instrument_id": quotes["instrument_id"][traded],
            "ts_event": times[traded],
            "price": np.where(buys, asks[traded], bids[traded]),
            "size": self._sizes(profile, len(traded)),
            "side": np.where(buys, Side.SIDE_BUY, Side.SIDE_SELL),
        }
        return quotes, trades

    def _sizes(self, profile: Profile, count: int) -> NDArray[np.int64]:
        sizes = self._random.lognormal(np.log(profile.lot), 0.8, count)
        step = 1.0 if profile.lot >= 1 else 0.001
        return np.maximum(np.rint(sizes / step), 1).astype(np.int64) * round(step * NANOS)


def _in_order(kind: Kind, parts: list[dict[str, NDArray[Any]]]) -> Batch | None:
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if len(columns["ts_event"]) == 0:
        return None
    order = np.argsort(columns["ts_event"], kind="stable")
    return make_batch(kind, {name: values[order] for name, values in columns.items()})
