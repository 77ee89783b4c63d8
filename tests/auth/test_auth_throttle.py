"""How guessing is slowed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mda.auth import throttle as module
from mda.auth.throttle import FREE_BY_ADDRESS, FREE_BY_KEY, Throttle
from tests.auth.conftest import NOW

ZERO = timedelta()


def fail(throttle: Throttle, times: int, address: str = "a", key: str = "k") -> None:
    for _ in range(times):
        throttle.failed(address, key, NOW)


def waits(throttle: Throttle, address: str = "a", key: str = "k", after: timedelta = ZERO) -> float:
    return throttle.wait(address, key, NOW + after).total_seconds()


def test_mistakes_cost_nothing() -> None:
    throttle = Throttle()
    fail(throttle, FREE_BY_KEY - 1)
    assert waits(throttle) <= 0


def test_each_try_waits_twice_as_long_up_to_a_minute() -> None:
    throttle = Throttle()
    fail(throttle, FREE_BY_KEY - 1)
    seen: list[float] = []
    for _ in range(9):
        fail(throttle, 1)
        seen.append(waits(throttle))
    assert seen == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    fail(throttle, 5000)
    assert waits(throttle) == 60


def test_waiting_helps() -> None:
    throttle = Throttle()
    fail(throttle, FREE_BY_KEY + 1)
    assert waits(throttle, after=timedelta(seconds=1)) == 1
    assert waits(throttle, after=timedelta(seconds=2)) <= 0


def test_who_guesses_elsewhere_shuts_nobody_out() -> None:
    throttle = Throttle()
    fail(throttle, 12, address="attacker")
    assert waits(throttle, address="attacker") > 0
    assert waits(throttle, address="owner") <= 0
    assert waits(throttle, address="attacker", key="another") <= 0


def test_many_keys_from_one_address_are_slowed_together() -> None:
    throttle = Throttle()
    for number in range(FREE_BY_ADDRESS):
        throttle.failed("a", f"k{number}", NOW)
    assert waits(throttle, key="new") == 1
    assert waits(throttle, address="b", key="new") <= 0


def test_a_right_secret_forgives_its_key_and_not_its_address() -> None:
    throttle = Throttle()
    fail(throttle, FREE_BY_ADDRESS)
    throttle.succeeded("a", "k")
    assert waits(throttle) == 1
    assert waits(throttle, after=timedelta(seconds=1)) <= 0


def test_old_failures_are_forgotten() -> None:
    throttle = Throttle()
    fail(throttle, 30)
    later = NOW + timedelta(minutes=16)
    throttle.failed("a", "k", later)
    assert throttle.wait("a", "k", later) <= ZERO


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 10)
    throttle = Throttle()
    for number in range(100):
        throttle.failed(f"a{number}", "k", NOW)
    assert len(throttle._failures) == 10
