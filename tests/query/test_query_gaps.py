"""The list of gaps: bounded, and read page by page."""

from __future__ import annotations

import pytest

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
    assert [gap.first_sequence for gap in gaps.at(7)] == [1, 2]
    assert gaps.at(8) == []


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
