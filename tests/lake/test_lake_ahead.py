"""Files read ahead of who takes their rows."""

from __future__ import annotations

import threading

import pytest

from mda.lake.ahead import Ahead


def test_results_come_in_order_whatever_takes_long() -> None:
    first = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert first.wait(10)  # for its neighbour, which is worked on meanwhile
        first.set()
        return number * number

    assert list(Ahead().map(work, range(20))) == [number * number for number in range(20)]


def test_no_more_than_the_next_two_are_worked_on() -> None:
    begun: list[int] = []
    results = Ahead().map(lambda number: begun.append(number) or number, range(100))
    for taken in range(50):
        assert next(results) == taken
        assert len(begun) <= taken + 3


def test_an_error_comes_in_the_place_of_the_result() -> None:
    def work(number: int) -> int:
        if number == 2:
            raise LookupError
        return number

    results = Ahead().map(work, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(LookupError):
        next(results)


def test_one_alone_is_worked_on_where_it_is_asked_for() -> None:
    assert list(Ahead().map(lambda _: threading.current_thread(), [0])) == [threading.current_thread()]
    assert list(Ahead().map(str, [])) == []
