"""What the tests of the domain share: a directory of three instruments."""

from __future__ import annotations

import pytest

from marketdata.v1.instrument_pb2 import Instrument
from mda.market.instruments import Directory


@pytest.fixture(scope="session")
def directory() -> Directory:
    """ALFA and BRAVO, whose prices are positive, and CHARLIE-SPREAD, whose are not always."""
    made = Directory()
    wanted = [
        Instrument(symbol="ALFA", tick_size_nanos=250_000_000),
        Instrument(symbol="BRAVO"),
        Instrument(symbol="CHARLIE-SPREAD", negative_prices=True),
    ]
    made.apply(made.plan(wanted)[1], 1)
    return made
