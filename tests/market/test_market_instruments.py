"""The directory of a dataset's instruments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.v1.instrument_pb2 import Instrument
from mda.market.errors import MarketDataError
from mda.market.instruments import Directory

INSTRUMENTS = st.builds(
    Instrument,
    symbol=st.sampled_from(["A", "B", "C", "D", "E"]),
    instrument_id=st.integers(0, 9),
    tick_size_nanos=st.integers(0, 3),
    negative_prices=st.booleans(),
    description=st.sampled_from(["", "x"]),
)
PUTS = st.lists(st.lists(INSTRUMENTS, max_size=5, unique_by=lambda i: i.symbol), max_size=5)


def without_id(instrument: Instrument) -> Instrument:
    copy = Instrument()
    copy.CopyFrom(instrument)
    copy.ClearField("instrument_id")
    return copy


@given(PUTS)
def test_puts_give_stable_ids_without_holes_and_the_newest_facts(puts: list[list[Instrument]]) -> None:
    directory = Directory()
    ids: dict[str, int] = {}
    newest: dict[str, Instrument] = {}
    for version, wanted in enumerate(puts, 1):
        resulting, changed = directory.plan(wanted)
        assert [without_id(i) for i in resulting] == [without_id(i) for i in wanted]
        assert changed == [i for i in resulting if newest.get(i.symbol) != without_id(i)]
        directory.apply(changed, version)
        newest |= {instrument.symbol: without_id(instrument) for instrument in wanted}
        for instrument in resulting:
            assert ids.setdefault(instrument.symbol, len(ids) + 1) == instrument.instrument_id
        assert directory.plan(wanted) == (resulting, [])
        assert directory.version == version
    assert len(directory) == len(ids)
    for symbol, number in ids.items():
        found = directory.find(symbol)
        assert found is not None
        assert (found.instrument_id, without_id(found)) == (number, newest[symbol])
        assert directory.symbol(number) == symbol
        assert directory.takes_negative_prices(np.array([number], dtype=np.uint32)) == [found.negative_prices]


@given(PUTS)
def test_a_directory_from_the_log_is_the_same(puts: list[list[Instrument]]) -> None:
    directory, replica = Directory(), Directory()
    for version, wanted in enumerate(puts, 1):
        _, changed = directory.plan(wanted)
        directory.apply(changed, version)
        replica.apply([Instrument.FromString(i.SerializeToString()) for i in changed], version)
    assert replica.page(0, 99) == directory.page(0, 99)
    assert replica.version == directory.version


def test_planning_changes_nothing(directory: Directory) -> None:
    wanted = [Instrument(symbol="NEW"), Instrument(symbol="ALFA", description="changed")]
    before = directory.page(0, 99)
    resulting, changed = directory.plan(wanted)
    assert [i.instrument_id for i in resulting] == [4, 1]
    assert changed == resulting
    assert directory.page(0, 99) == before
    assert [i.instrument_id for i in wanted] == [0, 0]
    assert directory.find("NEW") is None


def test_a_symbol_that_is_there_twice_is_refused_by_position(directory: Directory) -> None:
    with pytest.raises(MarketDataError) as caught:
        directory.plan([Instrument(symbol="X"), Instrument(symbol="Y"), Instrument(symbol="X")])
    assert caught.value.metadata == {"field": "instruments[2].symbol", "rule": "unique"}


@pytest.mark.parametrize(
    ("after_id", "size", "symbols"),
    [
        (0, 2, ["ALFA", "BRAVO"]),
        (2, 2, ["CHARLIE-SPREAD"]),
        (3, 2, []),
        ((1 << 64) - 1, 2, []),
        (0, 99, ["ALFA", "BRAVO", "CHARLIE-SPREAD"]),
    ],
)
def test_pages_go_by_id(directory: Directory, after_id: int, size: int, symbols: list[str]) -> None:
    assert [instrument.symbol for instrument in directory.page(after_id, size)] == symbols


def test_an_empty_directory_knows_nothing() -> None:
    directory = Directory()
    assert len(directory) == 0
    assert directory.find("ALFA") is None
    assert directory.page(0, 9) == []
    assert directory.version == 0
