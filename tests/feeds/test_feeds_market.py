"""The synthetic market: the same for a seed, in order, and plausible."""

from __future__ import annotations

import numpy as np
import pytest

from marketdata.codec import to_bytes
from marketdata.columns import ABSENT, NANOS, Batch, Kind, concatenate
from marketdata.v1.batch_pb2 import Side
from mda.feeds.market import PROFILES, Market, instruments
from mda.market.history import History
from mda.market.instruments import Directory
from mda.market.verdicts import check, flag
from mda.runtime.validation import validate_request

START = 1_800_000_000 * NANOS
STEP = NANOS // 10
IDS = [11, 12, 13, 14, 15, 16]


def run(seed: int, intervals: int = 300, ids: list[int] = IDS) -> list[Batch]:
    market = Market(ids, seed)
    return [batch for number in range(intervals) for batch in market.interval(START + number * STEP, STEP)]


@pytest.fixture(scope="module")
def rows() -> dict[Kind, Batch]:
    batches = run(seed=1)
    return {kind: concatenate([batch for batch in batches if batch.kind is kind]) for kind in (Kind.QUOTE, Kind.TRADE)}


def test_the_same_seed_makes_the_same_market() -> None:
    first, second, other = (b"".join(map(to_bytes, run(seed, 20))) for seed in (7, 7, 8))
    assert first == second
    assert first != other


def test_instruments_are_good_and_say_that_they_are_made_up() -> None:
    assert [instrument.symbol for instrument in instruments()] == [profile.symbol for profile in PROFILES]
    for instrument in instruments():
        validate_request(instrument)
        assert instrument.description.startswith("Synthetic")


def test_an_interval_gives_quotes_then_trades_of_its_time() -> None:
    market = Market(IDS, 1)
    batches = market.interval(START, NANOS)
    assert [batch.kind for batch in batches] == [Kind.QUOTE, Kind.TRADE]
    for batch in batches:
        times = batch["ts_event"]
        assert (np.diff(times) >= 0).all()
        assert times.min() >= START
        assert times.max() < START + NANOS


def test_a_moment_too_short_for_rows_gives_no_batch() -> None:
    assert Market(IDS, 1).interval(START, 1) == []


def test_the_rows_pass_validation_without_a_verdict() -> None:
    directory = Directory()
    directory.apply(directory.plan(instruments())[1], 1)
    history = History()
    for batch in run(seed=3, intervals=50, ids=[1, 2, 3, 4, 5, 6]):
        checked = check(batch, directory, START + 60 * NANOS)
        assert flag(checked, history, directory).flagged is None


@pytest.mark.parametrize("index", range(len(PROFILES)), ids=[profile.symbol for profile in PROFILES])
def test_an_instrument_is_plausible(rows: dict[Kind, Batch], index: int) -> None:
    made = PROFILES[index]
    quotes = rows[Kind.QUOTE].take(rows[Kind.QUOTE]["instrument_id"] == IDS[index])
    trades = rows[Kind.TRADE].take(rows[Kind.TRADE]["instrument_id"] == IDS[index])
    assert made.quotes_per_s * 30 * 0.5 < quotes.rows < made.quotes_per_s * 30 * 6
    assert 0.3 < trades.rows / quotes.rows / made.trade_share < 2
    bids, asks = quotes["bid_price"], quotes["ask_price"]
    assert (bids > 0).all()
    assert (bids < asks).all()
    assert (asks < ABSENT).all()
    for prices in (bids, asks, trades["price"]):
        assert (prices % made.tick_nanos == 0).all()
        assert (np.abs(prices / NANOS / made.price - 1) < 0.2).all()
    spread = float(np.median(asks - bids)) / made.tick_nanos
    assert 0.5 < spread / made.spread_ticks < 2
    for sizes in (quotes["bid_size"], quotes["ask_size"], trades["size"]):
        assert (sizes > 0).all()
        assert 0.5 < float(np.median(sizes)) / NANOS / made.lot < 2


def test_trades_are_at_the_quote_of_their_moment(rows: dict[Kind, Batch]) -> None:
    quotes, trades = rows[Kind.QUOTE], rows[Kind.TRADE]
    columns = ("instrument_id", "ts_event", "bid_price", "ask_price")
    sides = {
        (*key, Side.SIDE_SELL, bid) for *key, bid, _ in zip(*(quotes[name].tolist() for name in columns), strict=True)
    } | {(*key, Side.SIDE_BUY, ask) for *key, _, ask in zip(*(quotes[name].tolist() for name in columns), strict=True)}
    names = ("instrument_id", "ts_event", "side", "price")
    found = set(zip(*(trades[name].tolist() for name in names), strict=True))
    assert found <= sides
    assert {side for _, _, side, _ in found} == {Side.SIDE_BUY, Side.SIDE_SELL}
