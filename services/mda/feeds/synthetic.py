"""The made-up market as a source: as good as one of a venue, but that it never breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from typing import ClassVar

from marketdata.v1.instrument_pb2 import Instrument
from mda.feeds.market import PROFILES, Market, instruments
from mda.feeds.source import Connected, Source, Standings, Update


class Synthetic(Source):
    """Quotes and trades of a made-up market, as time goes by.

    Parameters
    ----------
    seed
        The same seed makes the same moves.
    interval_ms
        How often rows come, in milliseconds.
    """

    name: ClassVar[str] = "sim"
    tells_breaks: ClassVar[bool] = False

    def __init__(self, seed: int = 1, interval_ms: int = 100) -> None:
        self._seed = seed
        self._length_ns = interval_ms * 1_000_000

    async def instruments(self) -> list[Instrument]:
        """Return the instruments of the market."""
        return instruments()

    async def updates(self, ids: Mapping[str, int], standings: Standings) -> AsyncGenerator[Update]:
        """Yield the market from now on, interval by interval."""
        del standings
        market = Market([ids[profile.symbol] for profile in PROFILES], self._seed)
        yield Connected()
        start_ns = time.time_ns()
        while True:
            await asyncio.sleep(max(0.0, (start_ns + self._length_ns - time.time_ns()) / 1e9))
            for batch in market.interval(start_ns, self._length_ns):
                yield batch
            # After a pause of ours the market goes on from now.
            start_ns = max(start_ns + self._length_ns, time.time_ns() - 10 * self._length_ns)
