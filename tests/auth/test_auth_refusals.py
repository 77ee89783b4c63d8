"""How often refusals are put down."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from mda.auth import refusals as module
from mda.auth.errors import StoreUnavailableError
from mda.auth.records import Event
from mda.auth.refusals import ONCE_IN, Refusals
from tests.auth.conftest import NOW, MemoryCredentials

REFUSAL = Event("unknown", "api_key.use", "unknown", NOW, refused=True, details={"address": "192.0.2.1"})


def test_the_same_refusal_is_put_down_once_a_minute() -> None:
    store = MemoryCredentials()
    refusals = Refusals(store)
    for seconds in range(120):
        refusals.note(replace(REFUSAL, at=NOW + timedelta(seconds=seconds)))
    assert [event.at for event in store.events] == [NOW, NOW + ONCE_IN]


def test_others_are_put_down_too() -> None:
    store = MemoryCredentials()
    refusals = Refusals(store)
    others = [
        replace(REFUSAL, actor="mdk_1"),
        replace(REFUSAL, action="token.issue"),
        replace(REFUSAL, subject="mdk_1"),
        replace(REFUSAL, details={"address": "192.0.2.2"}),
    ]
    for refusal in (REFUSAL, *others, *others):
        refusals.note(refusal)
    assert store.events == [REFUSAL, *others]


def test_what_could_not_be_put_down_is_put_down_next_time() -> None:
    store = MemoryCredentials(broken=True)
    refusals = Refusals(store)
    with pytest.raises(StoreUnavailableError):
        refusals.note(REFUSAL)
    store.broken = False
    refusals.note(REFUSAL)
    assert store.events == [REFUSAL]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 10)
    refusals = Refusals(MemoryCredentials())
    for number in range(100):
        refusals.note(replace(REFUSAL, actor=f"mdk_{number}"))
    assert len(refusals._noted) == 10
