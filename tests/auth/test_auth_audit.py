"""The audit log: whether it shows that somebody has been at it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text

from mda.auth.audit import FIRST_HASH, Entry, Known, Verdict, chained, verify
from mda.auth.engine import WRITES, open_engine
from mda.auth.records import Event
from mda.auth.store import Store

AT = datetime(2026, 3, 2, 14, 30, 0, 123456, tzinfo=UTC)


def event(number: int) -> Event:
    return Event("mdc_1", "client.create", f"mdc_{number}", AT, details={"b": "1", "a": 'é"'})


def chain(length: int) -> list[Entry]:
    entries: list[Entry] = []
    for number in range(1, length + 1):
        entries.append(chained(event(number), number, entries[-1].hash if entries else FIRST_HASH))
    return entries


def test_a_whole_log_is_whole() -> None:
    entries = chain(3)
    assert verify(entries) == Verdict(3, entries[-1].hash)
    assert verify([]) == Verdict(0, FIRST_HASH)
    assert verify(entries, Known(2, entries[1].hash)) == Verdict(3, entries[-1].hash)


def test_the_hash_is_the_same_wherever_it_is_made() -> None:
    (entry,) = chain(1)
    content = (
        r'[1,"2026-03-02T14:30:00.123456+00:00","mdc_1","client.create","mdc_1",false,{"a":"\u00e9\"","b":"1"},"'
        + "0" * 64
        + '"]'
    )
    assert entry.hash == hashlib.sha256(content.encode()).hexdigest()
    abroad = replace(event(1), at=AT.astimezone(timezone(timedelta(hours=-5))), details={"a": 'é"', "b": "1"})
    assert chained(abroad, 1, FIRST_HASH).hash == entry.hash


CHANGES = {
    "another actor": {"actor": "mdc_2"},
    "another action": {"action": "client.update"},
    "another subject": {"subject": "mdc_9"},
    "another time": {"at": AT + timedelta(microseconds=1)},
    "refused": {"refused": True},
    "other details": {"details": {"a": "1", "b": "1"}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_entry_shows(change: str) -> None:
    entries = chain(3)
    entries[1] = replace(entries[1], event=replace(entries[1].event, **CHANGES[change]))
    assert verify(entries) == Verdict(1, entries[0].hash, "entry 2 has been changed")


def test_a_removed_entry_shows() -> None:
    entries = chain(3)
    assert verify([entries[0], entries[2]]).problem == "entry 2 is missing"
    assert verify(entries[1:]).problem == "entry 1 is missing"


def test_entries_put_in_a_new_order_show() -> None:
    first, second, _ = chain(3)
    swapped = replace(chained(second.event, 1, FIRST_HASH)), replace(first, sequence=2)
    assert verify(swapped).problem == "entry 2 does not go on from the entry before it"


def test_a_log_that_was_made_anew_or_cut_off_shows_to_who_has_noted_an_entry() -> None:
    entries = chain(3)
    known = Known(3, entries[2].hash)
    assert verify(entries[:2], known).problem == "entry 3 is missing: the log ends with 2"
    other = [*entries[:2], chained(event(9), 3, entries[1].hash)]
    assert verify(other).problem == ""
    assert verify(other, known).problem == "entry 3 is not the one that is known"


def test_the_database_gives_back_what_was_hashed(store: Store, database_url: str) -> None:
    for number in range(1, 4):
        store.note(event(number))
    assert verify(store.audit()) == Verdict(3, chain(3)[-1].hash)
    assert [entry.sequence for entry in store.page_of_audit(0, 1)] == [3, 2]
    assert [entry.sequence for entry in store.page_of_audit(2, 5)] == [1]
    engine = open_engine(database_url).execution_options(**{WRITES: True})
    with engine.begin() as connection:
        connection.execute(text("UPDATE audit SET actor = 'mdc_9' WHERE sequence = 2"))
    assert verify(store.audit()).problem == "entry 2 has been changed"
    engine.dispose()
