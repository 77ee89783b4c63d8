"""The store and its engine, on a real SQLite file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError, StatementError

from mda.auth.engine import open_engine
from mda.auth.errors import StoreUnavailableError
from mda.auth.models import UtcDateTime
from mda.auth.records import ApiKey, Client, Event
from mda.auth.store import Store
from mda.auth.tiers import Tier
from tests.auth.conftest import NOW, add_api_key, add_client, clients_of


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    opened = open_engine(database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def stored(store: Store, client: Client, key: ApiKey) -> ApiKey:
    add_client(store, client)
    add_api_key(store, key)
    return key


MADE = Event("local", "client.create", "mdc_1", NOW)


def test_a_client_comes_back(store: Store, client: Client) -> None:
    assert store.ensure_client(client, MADE) == client
    assert clients_of(store) == [client]
    assert [entry.event for entry in store.audit()] == [MADE]


def test_a_client_that_is_there_stays_as_it_is(store: Store, client: Client) -> None:
    store.ensure_client(client, MADE)
    other = replace(client, id="mdc_2", tier=Tier.FREE, scopes=("a",), datasets=("SIM",))
    assert store.ensure_client(other, MADE) == client
    assert clients_of(store) == [client]
    assert len(list(store.audit())) == 1


def test_who_loses_the_race_for_a_name_gets_what_the_winner_made(
    store: Store, client: Client, database_url: str
) -> None:
    rival = replace(client, id="mdc_rival", tier=Tier.FREE)
    engine = open_engine(database_url)
    raced: list[str] = []

    def race(*arguments: Any) -> None:
        if arguments[2].startswith("INSERT INTO clients") and not raced:
            raced.append(rival.id)
            raise IntegrityError(arguments[2], None, Exception("UNIQUE"))

    def win(*_: object) -> None:
        if raced:
            store.ensure_client(rival, MADE)

    event.listen(engine, "before_cursor_execute", race)
    event.listen(engine, "checkout", win)  # between the two tries
    assert Store(engine).ensure_client(client, MADE) == rival
    assert raced == ["mdc_rival"]


def test_an_api_key_comes_back(store: Store, stored: ApiKey) -> None:
    assert store.find_api_key(stored.id) == stored
    assert store.find_api_key("mdk_2") is None


def test_a_secret_hash_comes_alone(store: Store, stored: ApiKey) -> None:
    assert store.find_secret_hash(stored.id) == stored.secret_hash
    assert store.find_secret_hash("mdk_2") is None


def test_all_times_of_an_api_key_come_back(store: Store, stored: ApiKey, clock: Callable[[], datetime]) -> None:
    hour = timedelta(hours=1)
    full = replace(stored, id="mdk_full", expires_at=clock() + hour, revoked_at=clock(), last_used_at=clock() - hour)
    add_api_key(store, full)
    assert store.find_api_key("mdk_full") == full


def test_a_key_needs_a_client(store: Store, key: ApiKey) -> None:
    with pytest.raises(IntegrityError):
        add_api_key(store, key)


def test_a_key_id_is_used_once(store: Store, stored: ApiKey) -> None:
    with pytest.raises(IntegrityError):
        add_api_key(store, stored)


def test_the_newest_use_is_kept(store: Store, stored: ApiKey, clock: Callable[[], datetime]) -> None:
    other = replace(stored, id="mdk_other")
    add_api_key(store, other)
    for late_s, noted_s in ((10, 10), (5, 10), (20, 20)):
        store.record_use(stored.id, clock() + timedelta(seconds=late_s))
        found = store.find_api_key(stored.id)
        assert found == replace(stored, last_used_at=clock() + timedelta(seconds=noted_s))
    assert store.find_api_key(other.id) == other


def test_an_unknown_tier_is_refused_by_the_database(engine: Engine) -> None:
    row = (
        "INSERT INTO clients (id, name, tier, scopes, datasets, created_at)"
        " VALUES ('i', 'n', 'gold', '[]', '[]', '2026-01-01 00:00:00.000000')"
    )
    with pytest.raises(IntegrityError, match="ck_clients_tier"), engine.begin() as connection:
        connection.execute(text(row))


def test_times_come_back_in_utc_and_need_a_zone(store: Store, client: Client) -> None:
    abroad = datetime(2026, 3, 2, 9, 30, tzinfo=timezone(timedelta(hours=-5)))
    add_client(store, replace(client, created_at=abroad))
    (listed,) = clients_of(store)
    assert listed.created_at == datetime(2026, 3, 2, 14, 30, tzinfo=UTC)
    assert listed.created_at.tzinfo is UTC
    with pytest.raises(StatementError, match="a time without a zone"):
        add_client(store, replace(client, id="x", name="x", created_at=datetime.fromisoformat("2026-03-02")))


def test_an_aware_time_from_the_database_is_turned_to_utc() -> None:
    # As PostgreSQL gives them: in the session's zone.
    abroad = datetime(2026, 3, 2, 9, 30, tzinfo=timezone(timedelta(hours=-5)))
    read = UtcDateTime().process_result_value(abroad, postgresql.dialect())
    assert read is not None
    assert (read, read.tzinfo) == (abroad, UTC)


def test_writers_wait_for_each_other(database_url: str, client: Client) -> None:
    store = Store(open_engine(database_url))
    clients = [replace(client, id=f"mdc_{number:02}", name=f"n{number}") for number in range(16)]
    threads = [threading.Thread(target=add_client, args=(store, each)) for each in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clients_of(store) == clients


def test_connections_are_bounded(database_url: str) -> None:
    engine = open_engine(database_url, pool_size=1, timeout_s=0.1)
    with engine.connect(), pytest.raises(StoreUnavailableError):
        clients_of(Store(engine))
    assert clients_of(Store(engine)) == []
