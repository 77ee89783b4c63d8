"""How guessing is slowed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mda.auth import throttle as module
from mda.auth.throttle import FREE_BY_KEY, FREE_BY_PLACE, TRUSTED_FOR, Throttle
from tests.auth.conftest import NOW

ZERO = timedelta()
LONG = timedelta(minutes=2)
"""Longer than the longest wait, and too short to be forgiven."""


def fail(throttle: Throttle, times: int, place: str = "a", key: str = "k") -> timedelta:
    """Make wrong attempts, each as soon as it may be made; return when the last one was."""
    after = ZERO
    for _ in range(times):
        attempt = throttle.begin(place, key, NOW + after)
        if attempt.wait > ZERO:
            after += attempt.wait
            attempt = throttle.begin(place, key, NOW + after)
        throttle.failed(attempt, NOW + after)
    return after


def waits(throttle: Throttle, place: str = "a", key: str = "k", after: timedelta = ZERO) -> float:
    """Return how long an attempt has to wait, without making it."""
    attempt = throttle.begin(place, key, NOW + after)
    if attempt.wait <= ZERO:
        throttle.take_back(attempt)
    return attempt.wait.total_seconds()


def succeed(throttle: Throttle, place: str = "a", key: str = "k", after: timedelta = ZERO) -> None:
    attempt = throttle.begin(place, key, NOW + after)
    assert attempt.wait <= ZERO
    throttle.succeeded(attempt, NOW + after)


def test_mistakes_cost_nothing() -> None:
    throttle = Throttle()
    for _ in range(FREE_BY_KEY):
        assert throttle.begin("a", "k", NOW).wait <= ZERO


def test_each_try_waits_twice_as_long_up_to_a_minute() -> None:
    throttle = Throttle()
    for _ in range(FREE_BY_KEY):
        throttle.begin("a", "k", NOW)
    now, seen = NOW, list[float]()
    for _ in range(1100):
        wait = throttle.begin("a", "k", now).wait
        seen.append(wait.total_seconds())
        now += wait
        throttle.begin("a", "k", now)
    assert seen[:9] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert set(seen[9:]) == {60}


def test_who_does_not_wait_gains_nothing() -> None:
    throttle = Throttle()
    fail(throttle, FREE_BY_KEY)
    for tenths in range(10):
        assert throttle.begin("a", "k", NOW + timedelta(seconds=tenths / 10)).wait > ZERO
    assert throttle.begin("a", "k", NOW + timedelta(seconds=1)).wait <= ZERO


def test_many_at_a_time_gain_nothing() -> None:
    """Attempts count before their secrets are looked at."""
    throttle = Throttle()
    begun = [throttle.begin("a", "k", NOW) for _ in range(50)]
    assert sum(attempt.wait <= ZERO for attempt in begun) == FREE_BY_KEY


def test_many_at_a_time_of_a_key_that_was_right_are_let_in() -> None:
    throttle = Throttle()
    succeed(throttle)
    begun = [throttle.begin("a", "k", NOW) for _ in range(50)]
    assert {attempt.wait <= ZERO for attempt in begun} == {True}
    for attempt in begun:
        throttle.failed(attempt, NOW)
    assert waits(throttle) > 0


def test_who_guesses_elsewhere_shuts_nobody_out() -> None:
    throttle = Throttle()
    fail(throttle, 7, place="attacker")
    assert waits(throttle, place="attacker") > 0
    assert waits(throttle, place="owner") <= 0
    assert waits(throttle, place="attacker", key="another") <= 0


def test_many_keys_from_one_place_are_slowed_together() -> None:
    throttle = Throttle()
    for number in range(FREE_BY_PLACE):
        throttle.begin("a", f"k{number}", NOW)
    assert waits(throttle, key="new") == 1
    assert waits(throttle, place="b", key="new") <= 0


def test_a_neighbour_does_not_shut_out_a_key_that_was_right_there() -> None:
    throttle = Throttle()
    succeed(throttle, key="good")
    for number in range(3 * FREE_BY_PLACE):
        throttle.begin("a", f"k{number}", NOW)
    for _ in range(3 * FREE_BY_PLACE):
        succeed(throttle, key="good")
    assert waits(throttle, key="new") > 0
    assert waits(throttle, place="b", key="good") <= 0
    for number in range(FREE_BY_PLACE):
        throttle.begin("b", f"k{number}", NOW)
    assert waits(throttle, place="b", key="good") > 0, "it was right elsewhere"


def test_a_key_that_was_right_can_be_guessed_no_faster() -> None:
    throttle = Throttle()
    succeed(throttle)
    fail(throttle, FREE_BY_KEY)
    assert waits(throttle) == 1


def test_a_right_secret_is_held_to_its_neighbours_again_after_a_day() -> None:
    throttle = Throttle()
    succeed(throttle)
    later = TRUSTED_FOR - timedelta(seconds=1)
    for number in range(FREE_BY_PLACE):
        throttle.begin("a", f"k{number}", NOW + later)
    assert waits(throttle, after=later) <= 0
    assert waits(throttle, after=TRUSTED_FOR) == 0
    for number in range(FREE_BY_PLACE):
        throttle.begin("a", f"n{number}", NOW + TRUSTED_FOR)
    assert waits(throttle, after=TRUSTED_FOR) > 0


def test_a_right_secret_forgives_its_key_and_not_its_place() -> None:
    throttle = Throttle()
    after = fail(throttle, FREE_BY_KEY + 1)
    for number in range(FREE_BY_PLACE):
        throttle.begin("a", f"k{number}", NOW + after)
    succeed(throttle, after=after + LONG)
    for _ in range(FREE_BY_KEY):
        assert throttle.begin("a", "k", NOW + after + LONG).wait <= ZERO
    assert waits(throttle, key="new", after=after + LONG) > 0


def test_what_is_taken_back_does_not_count() -> None:
    throttle = Throttle()
    for _ in range(3 * FREE_BY_PLACE):
        throttle.take_back(throttle.begin("a", "k", NOW))
    assert waits(throttle) <= 0


def test_old_failures_are_forgotten() -> None:
    throttle = Throttle()
    after = fail(throttle, 12) + timedelta(minutes=16)
    for _ in range(FREE_BY_KEY):
        assert throttle.begin("a", "k", NOW + after).wait <= ZERO


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 10)
    throttle = Throttle()
    for number in range(100):
        throttle.begin(f"a{number}", "k", NOW)
        succeed(throttle, place=f"b{number}")
    assert 0 < len(throttle._failures) <= 10
    assert len(throttle._trusted) == 10
