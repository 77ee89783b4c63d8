"""What clients use: counted in one process, and in several that tell each other."""

from __future__ import annotations

import math
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mda.market.errors import MarketDataError
from mda.market.quotas import Quotas
from mda.runtime.usage.account import Account, Usage
from mda.runtime.usage.bucket import Bucket
from mda.runtime.usage.meter import Meter, Used

NOON = 1_782_907_200.0
"""2026-07-01 12:00 UTC."""
CLIENT = "mdc_1"


class Clock:
    def __init__(self) -> None:
        self.now_s = NOON

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def refusal(caught: pytest.ExceptionInfo[MarketDataError]) -> tuple[str, float | None]:
    return caught.value.reason_name, caught.value.retry_after_s


def test_calls_are_taken_from_a_bucket_that_fills(clock: Clock) -> None:
    meter, quotas = Meter(clock), Quotas(requests_per_second=10)
    left = [meter.take_call(CLIENT, quotas) for _ in range(20)]
    assert [each.remaining for each in left if each] == list(range(19, -1, -1))
    assert left[-1] is not None
    assert (left[-1].limit, left[-1].reset_s) == (10, 2)
    with pytest.raises(MarketDataError) as caught:
        meter.take_call(CLIENT, quotas)
    assert refusal(caught) == ("RATE_LIMITED", pytest.approx(0.1))
    assert meter.take_call("mdc_2", quotas) is not None  # others have their own
    clock.now_s += 0.1
    assert meter.take_call(CLIENT, quotas) is not None
    clock.now_s += 3600
    assert meter.calls_left(CLIENT, quotas) == meter.calls_left("mdc_3", quotas)


def test_without_a_rate_nothing_limits_calls(clock: Clock) -> None:
    meter = Meter(clock)
    assert [meter.take_call(CLIENT, Quotas()) for _ in range(1_000)] == [None] * 1_000
    assert meter.calls_left(CLIENT, Quotas()) is None


def test_a_rate_that_changes_counts_at_once(clock: Clock) -> None:
    meter = Meter(clock)
    for _ in range(10):
        meter.take_call(CLIENT, Quotas(requests_per_second=10))
    left = meter.take_call(CLIENT, Quotas(requests_per_second=2))
    assert left is not None
    assert (left.limit, left.remaining) == (2, 3)


@given(st.integers(1, 50), st.lists(st.tuples(st.integers(0, 80), st.integers(0, 3000)), max_size=30))
def test_nobody_gets_more_calls_than_time_gives(rate: int, visits: list[tuple[int, int]]) -> None:
    clock = Clock()
    meter, quotas = Meter(clock), Quotas(requests_per_second=rate)
    made = 0
    for wanted, wait_ms in visits:
        for _ in range(wanted):
            try:
                meter.take_call(CLIENT, quotas)
            except MarketDataError:
                break
            made += 1
        clock.now_s += wait_ms / 1e3
    assert made <= 2 * rate + rate * (clock.now_s - NOON) + 1e-3


def test_streams_are_counted_while_they_are_open(clock: Clock) -> None:
    meter, quotas = Meter(clock), Quotas(streams=2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(meter.stream(CLIENT, quotas))
        with pytest.raises(MarketDataError) as caught:
            stack.enter_context(meter.stream(CLIENT, quotas))
        assert refusal(caught) == ("TOO_MANY_STREAMS", 1)
        assert meter.streams(CLIENT) == 2
    assert meter.streams(CLIENT) == 0
    with meter.stream(CLIENT, quotas):
        assert meter.streams(CLIENT) == 1


def test_symbols_of_a_stream_have_a_limit() -> None:
    account = Account(Usage(), CLIENT, Quotas(symbols_per_subscription=3))
    account.require_symbols(3, "symbols")
    with pytest.raises(MarketDataError) as caught:
        account.require_symbols(4, "subscribe.symbols")
    assert caught.value.reason_name == "TOO_MANY_SYMBOLS"
    assert caught.value.metadata == {"field": "subscribe.symbols", "limit": "3"}


def test_rows_of_a_day_are_used_up_until_midnight(clock: Clock) -> None:
    account = Account(Usage(Meter(clock)), CLIENT, Quotas(rows_per_day=100))
    account.count_rows(99)
    account.require_rows()
    assert account.rows_left == 1
    account.count_rows(50)
    assert account.rows_left == 0
    with pytest.raises(MarketDataError, match="2026-07-02 00:00 UTC") as caught:
        account.require_rows()
    assert refusal(caught) == ("ROW_QUOTA_SPENT", 12 * 3600)
    clock.now_s += 12 * 3600
    account.require_rows()
    assert account.rows_left == 100


def test_rows_are_in_the_total_or_still_to_be_added(clock: Clock) -> None:
    meter = Meter(clock)
    meter.count_rows(CLIENT, 30)
    assert meter.uncounted() == {(CLIENT, "20260701"): 30}
    meter.count_rows(CLIENT, 5)  # while the 30 are on their way
    meter.note_total(CLIENT, "20260701", 1_030, counted=30)
    assert meter.uncounted() == {(CLIENT, "20260701"): 5}
    assert meter.rows_today(CLIENT) == 1_035
    meter.note_total(CLIENT, "20260701", 900)  # an answer that was overtaken
    assert meter.rows_today(CLIENT) == 1_035
    assert meter.knows_rows(CLIENT)
    clock.now_s += 2  # others may have counted more meanwhile
    assert not meter.knows_rows(CLIENT)
    assert meter.rows_today(CLIENT) == 1_035
    clock.now_s += 86_400
    assert not meter.knows_rows(CLIENT)
    assert meter.rows_today(CLIENT) == 0


def tell(teller: Meter, hearer: Meter, *, whole: bool = False) -> None:
    hearer.hear("other", teller.news(whole=whole), whole=whole)


def test_what_others_tell_counts(clock: Clock) -> None:
    here, there, quotas = Meter(clock), Meter(clock), Quotas(requests_per_second=10, streams=2)
    here.take_call(CLIENT, quotas)
    for _ in range(7):
        there.take_call(CLIENT, quotas)
    with there.stream(CLIENT, quotas), here.stream(CLIENT, quotas):
        tell(there, here)
        assert here.calls_left(CLIENT, quotas) == here.calls_left(CLIENT, quotas)
        left = here.calls_left(CLIENT, quotas)
        assert left is not None
        assert left.remaining == 20 - 8
        with pytest.raises(MarketDataError, match="streams"), here.stream(CLIENT, quotas):
            pass
    tell(there, here)
    assert here.streams(CLIENT) == 0
    left = here.calls_left(CLIENT, quotas)  # what was told once does not count twice
    assert left is not None
    assert left.remaining == 20 - 8


def test_who_has_missed_something_hears_of_it_with_the_whole(clock: Clock) -> None:
    here, there = Meter(clock), Meter(clock)
    with there.stream(CLIENT, Quotas()), there.stream("mdc_2", Quotas()):
        there.news(whole=False)  # lost
        assert here.streams(CLIENT) == 0
        tell(there, here, whole=True)
        assert (here.streams(CLIENT), here.streams("mdc_2")) == (1, 1)
    there.news(whole=False)  # lost
    tell(there, here, whole=True)
    assert (here.streams(CLIENT), here.streams("mdc_2")) == (0, 0)


def test_a_process_that_is_silent_has_no_streams(clock: Clock) -> None:
    here = Meter(clock)
    here.hear("gone", {CLIENT: Used(3, 0)}, whole=False)
    assert here.streams(CLIENT) == 3
    clock.now_s += 5
    here.hear("other", {}, whole=True)
    assert here.streams(CLIENT) == 3
    clock.now_s += 2
    assert here.streams(CLIENT) == 0


def test_calls_made_elsewhere_are_owed_up_to_a_bucket(clock: Clock) -> None:
    bucket = Bucket.full(10, clock())
    bucket.take_elsewhere(1_000)
    assert bucket.level == -20
    assert not bucket.take()
    assert bucket.until_next_s == pytest.approx(2.1)
    assert math.ceil(bucket.until_full_s) == 4


def test_quotas_are_told_in_tokens() -> None:
    quotas = Quotas(requests_per_second=5, rows_per_day=7)
    assert quotas.claim() == {"requests_per_second": 5, "rows_per_day": 7}
    assert Quotas.of_claim(quotas.claim() | {"of_next_year": 1}) == quotas
    assert Quotas.of_claim({}) == Quotas()
    with pytest.raises(ValueError, match="invalid literal"):
        Quotas.of_claim({"streams": "many"})
