"""The list of gaps: bounded, and read page by page."""

from __future__ import annotations

import pytest

from marketdata.columns import ABSENT, NANOS, Kind
from marketdata.v1.gap_pb2 import Gap
from mda.market.errors import MarketDataError
from mda.query.gaps import Gaps


def gaps_of(*numbers: int, state: Gap.State = Gap.STATE_OPEN) -> list[Gap]:
    return [Gap(first_sequence=number, state=state) for number in numbers]


def pages(gaps: Gaps, size: int, *, open_only: bool = False) -> list[list[int]]:
    found: list[list[int]] = []
    token = ""
    while True:
        page, token = gaps.page(open_only=open_only, page_size=size, page_token=token)
        found.append([gap.first_sequence for gap in page])
        if not token:
            return found


def test_pages_come_newest_first_and_new_gaps_do_not_shift_them() -> None:
    gaps = Gaps()
    assert pages(gaps, 2) == [[]]
    gaps.add(7, gaps_of(1, 2))
    gaps.add(9, gaps_of(3))
    assert pages(gaps, 2) == [[3, 2], [1]]
    assert pages(gaps, 3) == [[3, 2, 1]]
    _, token = gaps.page(open_only=False, page_size=1, page_token="")
    gaps.add(11, gaps_of(4))
    page, _ = gaps.page(open_only=False, page_size=9, page_token=token)
    assert [gap.first_sequence for gap in page] == [2, 1]


def test_closed_ones_can_be_left_out() -> None:
    gaps = Gaps()
    gaps.add(1, gaps_of(1))
    gaps.add(2, gaps_of(2, state=Gap.STATE_CLOSED))
    gaps.add(3, gaps_of(3))
    assert pages(gaps, 1, open_only=True) == [[3], [1]]


def test_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    gaps = Gaps()
    gaps.add(1, gaps_of(*range(10_001)))
    assert pages(gaps, 10_000)[0][-1] == 1


def test_a_token_that_is_none_is_refused() -> None:
    with pytest.raises(MarketDataError) as caught:
        Gaps().page(open_only=False, page_size=1, page_token="rubbish!")
    assert caught.value.reason_name == "INVALID_FIELD"


def of_rows(state: Gap.State, first: int, producer: str = "p") -> Gap:
    return Gap(producer=producer, cause=Gap.CAUSE_SEQUENCE, state=state, first_sequence=first, last_sequence=first)


OPEN, CLOSED = Gap.STATE_OPEN, Gap.STATE_CLOSED
DAMAGE = Gap(cause=Gap.CAUSE_TAPE_DAMAGED, state=OPEN)


def listed(gaps: Gaps, *, open_only: bool) -> list[tuple[Gap.State, int, str]]:
    page, _ = gaps.page(open_only=open_only, page_size=0, page_token="")
    return [(gap.state, gap.first_sequence, gap.producer) for gap in page]


def test_one_that_has_closed_is_there_twice_and_is_open_no_more() -> None:
    gaps = Gaps()
    gaps.add(1, [of_rows(OPEN, 1), of_rows(OPEN, 1, "q"), of_rows(OPEN, 5), DAMAGE, DAMAGE])
    gaps.add(4, [of_rows(CLOSED, 1)])
    assert listed(gaps, open_only=True) == [(OPEN, 0, ""), (OPEN, 0, ""), (OPEN, 5, "p"), (OPEN, 1, "q")]
    assert listed(gaps, open_only=False) == [(CLOSED, 1, "p"), *listed(gaps, open_only=True), (OPEN, 1, "p")]
    assert gaps.open_count == 4


def test_damage_is_found_by_its_place() -> None:
    gaps = Gaps()
    gaps.add(7, [DAMAGE, of_rows(OPEN, 1)])
    gaps.add(9, [of_rows(OPEN, 2)])
    assert gaps.damage_at(7) == [DAMAGE]
    assert gaps.damage_at(9) == gaps.damage_at(8) == []


def test_what_is_open_stays_however_much_comes_after_it() -> None:
    gaps = Gaps()
    gaps.add(1, [of_rows(OPEN, 1)])
    for number in range(2, 7_000):
        gaps.add(number, [of_rows(OPEN, number), of_rows(CLOSED, number)])
    assert listed(gaps, open_only=True) == [(OPEN, 1, "p")]
    last, _ = gaps.page(open_only=False, page_size=20_000, page_token="")
    assert (len(last), last[-1].first_sequence) == (10_001, 1)
    gaps.add(9_000, [of_rows(OPEN, number) for number in range(20_000, 40_000)])
    assert gaps.open_count == 10_000


def test_what_is_kept_is_bounded_and_can_be_restored() -> None:
    gaps = Gaps()
    gaps.add(1, [of_rows(OPEN, 1), DAMAGE, of_rows(OPEN, 2), of_rows(CLOSED, 2)])
    gaps.add(2, [of_rows(state, number) for number in range(3, 2_000) for state in (OPEN, CLOSED)])
    again = Gaps()
    again.restore(2, gaps.kept())
    assert len(gaps.kept()) == 1_002
    assert listed(again, open_only=True) == listed(gaps, open_only=True) == [(OPEN, 0, ""), (OPEN, 1, "p")]
    assert listed(again, open_only=False)[:1_000] == listed(gaps, open_only=False)[:1_000]
    assert again.damage_at(2) == again.damage_at(1) == []
    gaps.add(3, [of_rows(OPEN, number) for number in range(5_000, 8_000)])
    assert len(gaps.kept()) == 1_000


def test_what_a_tape_has_lost_is_not_noted_any_more_but_for_damage() -> None:
    gaps = Gaps()
    gaps.add(1, [of_rows(OPEN, 1), of_rows(OPEN, 2)])
    gaps.add(2, [of_rows(CLOSED, 1), of_rows(OPEN, 3), DAMAGE])
    gaps.go_back(1)
    assert listed(gaps, open_only=False) == [(OPEN, 0, ""), (OPEN, 2, "p"), (OPEN, 1, "p")]
    assert gaps.open_count == 3


def lost(state: Gap.State, opened_s: int, closed_s: int = 0, instrument_id: int = 0) -> Gap:
    gap = Gap(producer="p", cause=Gap.CAUSE_DISCONNECTED, state=state, instrument_id=instrument_id)
    gap.open_time.FromSeconds(opened_s)
    if closed_s:
        gap.close_time.FromSeconds(closed_s)
    return gap


def test_the_time_without_a_source_is_a_gap_while_it_lasts_and_after() -> None:
    gaps = Gaps()
    gaps.add(1, [lost(OPEN, 5), lost(OPEN, 7, instrument_id=2)])
    assert gaps.open_count == 2
    times = gaps.times(Kind.TRADE)
    assert times.instrument_id.tolist() == [0, 2]
    assert (times.start.tolist(), times.end.tolist()) == ([5 * NANOS, 7 * NANOS], [ABSENT, ABSENT])
    gaps.add(2, [lost(CLOSED, 5, 6)])
    times = gaps.times(Kind.TRADE)
    assert times.instrument_id.tolist() == [2, 0]
    assert (times.start.tolist(), times.end.tolist()) == ([7 * NANOS, 5 * NANOS], [ABSENT, 6 * NANOS])
    assert gaps.open_count == 1


def test_rows_of_one_kind_are_missing_in_bars_of_that_kind_alone() -> None:
    gaps = Gaps()
    trades_lost = lost(OPEN, 5, instrument_id=2)
    trades_lost.kind = Kind.TRADE
    gaps.add(1, [trades_lost, lost(OPEN, 7)])
    found = {kind: gaps.times(kind).instrument_id.tolist() for kind in Kind}
    assert found == {Kind.QUOTE: [0], Kind.TRADE: [2, 0], Kind.BAR: [0]}


def test_holes_of_two_instruments_are_two_gaps() -> None:
    gaps = Gaps()
    one, two = (of_rows(OPEN, 1), of_rows(OPEN, 1))
    two.instrument_id = 2
    gaps.add(1, [one, two])
    assert gaps.open_count == 2
