"""A dataset's instruments: symbols, ids, and what validation needs to know of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from marketdata.v1.instrument_pb2 import Instrument
from marketdata.v1.policy_pb2 import Policy
from mda.market.errors import invalid_field
from mda.market.policy import DEFAULT_RULES, make_rules


class Directory:
    """The instruments of one dataset.

    Ids are given from 1 up without holes, so an id is known if it is at most the
    number of instruments.

    Attributes
    ----------
    version
        The sequence number of the last entry of the instrument log that is in here;
        0 if none is.
    policy
        The dataset's policy, as it was put.
    rules
        What it means for validation; another object after each change.
    """

    def __init__(self) -> None:
        self.version = 0
        self.policy = Policy()
        self.rules = DEFAULT_RULES
        self._by_id: list[Instrument] = []
        self._ids: dict[str, int] = {}
        self._negative_prices = np.zeros(1, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self._by_id)

    def apply(self, instruments: Iterable[Instrument], version: int, policy: Policy | None = None) -> None:
        """Take in an entry of the instrument log: new instruments, or changed ones; or a new policy."""
        if policy is not None:
            self.policy, self.rules = policy, make_rules(policy)
        for instrument in instruments:
            index = instrument.instrument_id - 1
            if index == len(self._by_id):
                self._by_id.append(instrument)
                self._ids[instrument.symbol] = instrument.instrument_id
            else:
                self._by_id[index] = instrument
        # One longer than the ids, so that an id is an index.
        self._negative_prices = np.array([False] + [i.negative_prices for i in self._by_id], dtype=np.bool_)
        self.version = version

    def plan(self, wanted: Sequence[Instrument]) -> tuple[list[Instrument], list[Instrument]]:
        """Say what putting instruments would do.

        Parameters
        ----------
        wanted
            Instruments by symbol; their ids are ignored.

        Returns
        -------
        resulting, changed
            Every wanted instrument with its id, in order; and those of them that are
            new or different, which must be written to the log.

        Raises
        ------
        MarketDataError
            If a symbol is there twice.
        """
        resulting: list[Instrument] = []
        changed: list[Instrument] = []
        seen: set[str] = set()
        next_id = len(self) + 1
        for position, instrument in enumerate(wanted):
            field = f"instruments[{position}].symbol"
            if instrument.symbol in seen:
                raise invalid_field(field, "unique", f"{field}: {instrument.symbol} is there twice. Send it once.")
            seen.add(instrument.symbol)
            known = self._ids.get(instrument.symbol)
            result = Instrument()
            result.CopyFrom(instrument)
            result.instrument_id = known or next_id
            resulting.append(result)
            if known is None:
                next_id += 1
            if known is None or self._by_id[known - 1] != result:
                changed.append(result)
        return resulting, changed

    def find(self, symbol: str) -> Instrument | None:
        """Return the instrument of a symbol, or None."""
        found = self._ids.get(symbol)
        return None if found is None else self._by_id[found - 1]

    def symbol(self, instrument_id: int) -> str:
        """Return the symbol of an id; empty if the id is not known."""
        return self._by_id[instrument_id - 1].symbol if 0 < instrument_id <= len(self._by_id) else ""

    def page(self, after_id: int, size: int) -> list[Instrument]:
        """Return up to `size` instruments in order of id, from the one after `after_id`."""
        return self._by_id[after_id : after_id + size]

    def takes_negative_prices(self, instrument_ids: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Return, for each known id, whether zero and negative prices are prices."""
        return self._negative_prices[instrument_ids]
