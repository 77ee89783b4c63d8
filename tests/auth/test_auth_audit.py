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


class Ticks:
    """A clock that goes on by a second each time that it is looked at."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_a_long_log_is_checked_bit_by_bit() -> None:
    entries = chain(10)
    known, after, ends = Known(5, entries[4].hash), None, list[int]()
    while True:
        verdict = verify(entries[after.sequence - 1 :] if after else entries, known, after, Ticks())
        assert verdict.problem == ""
        ends.append(verdict.entries)
        if verdict.complete:
            break
        after = Known(verdict.entries, verdict.head_hash)
    assert ends == [3, 6, 9, 10]
    assert verdict == verify(entries)


def test_what_is_wrong_in_a_later_bit_shows() -> None:
    entries = chain(6)
    after = Known(4, entries[3].hash)
    assert verify(entries[3:], None, after) == verify(entries)
    assert verify(entries[3:4], None, after) == Verdict(4, entries[3].hash)
    assert verify([], None, after) == Verdict(problem="entry 4 is missing")
    assert verify(entries[4:], None, after) == Verdict(problem="entry 4 is missing")
    other = [chained(event(9), 4, entries[2].hash)]
    assert verify(other, None, after) == Verdict(problem="entry 4 is not the one that is known")
    assert verify(entries[3:], Known(4, "0" * 64), after).problem == "entry 4 is not the one that is known"
    changed = replace(entries[4], event=event(9))
    assert verify([entries[3], changed], None, after).problem == "entry 5 has been changed"
    assert verify(entries[3:], Known(9, "0" * 64), after).problem == "entry 9 is missing: the log ends with 6"
    longer = chain(8)
    assert verify(longer[3:], Known(9, "0" * 64), after, Ticks()) == Verdict(7, longer[6].hash, "", complete=False)


def test_the_database_gives_back_what_was_hashed(store: Store, database_url: str) -> None:
    for number in range(1, 4):
        store.note(event(number))
    assert verify(store.audit()) == Verdict(3, chain(3)[-1].hash)
    assert [entry.sequence for entry in store.audit(2)] == [2, 3]
    assert [entry.sequence for entry in store.page_of_audit(0, 1)] == [3, 2]
    assert [entry.sequence for entry in store.page_of_audit(2, 5)] == [1]
    engine = open_engine(database_url).execution_options(**{WRITES: True})
    with engine.begin() as connection:
        connection.execute(text("UPDATE audit SET actor = 'mdc_9' WHERE sequence = 2"))
    assert verify(store.audit()).problem == "entry 2 has been changed"
    engine.dispose()
