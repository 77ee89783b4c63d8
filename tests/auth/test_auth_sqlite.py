"""What is SQLite's alone: its locks, its files, its write-ahead log."""

from __future__ import annotations

import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mda.auth.engine import checked_url, open_engine
from mda.auth.errors import StoreUnavailableError
from mda.auth.records import ApiKey, Client
from mda.auth.store import Store
from tests.auth.conftest import add_api_key, add_client, clients_of


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url


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


def test_a_database_that_is_locked_is_told_in_time(store: Store, client: Client, engine: Engine) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA user_version = 1")
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            add_client(store, client)
        assert 0.15 < time.monotonic() - began < 3


def test_readers_do_not_wait_for_a_writer(store: Store, stored: ApiKey, engine: Engine) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_keys")
        assert store.find_api_key(stored.id) == stored


def test_a_missing_schema_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError):
        clients_of(Store(open_engine(f"sqlite:///{tmp_path / 'empty.db'}")))


def test_sqlite_is_set_up(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 5000


def test_only_the_owner_reads_the_file(store: Store, client: Client, tmp_path: Path) -> None:
    add_client(store, client)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
    assert modes == dict.fromkeys(("auth.db", "auth.db-wal", "auth.db-shm"), 0o600)


@pytest.fixture
def held_file(tmp_path: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """A file without a WAL, with a lock on it for which SQLite does not wait when it makes the WAL."""
    path = tmp_path / "held.db"
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("CREATE TABLE t (a)")
    holder.execute("BEGIN IMMEDIATE")
    yield path, holder
    holder.close()


def test_turning_to_a_wal_waits_for_who_holds_the_file(held_file: tuple[Path, sqlite3.Connection]) -> None:
    path, holder = held_file
    timer = threading.Timer(0.2, holder.execute, ["COMMIT"])
    timer.start()
    with open_engine(f"sqlite:///{path}").connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    timer.join()


def test_turning_to_a_wal_does_not_wait_for_ever(held_file: tuple[Path, sqlite3.Connection]) -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        clients_of(Store(open_engine(f"sqlite:///{held_file[0]}", timeout_s=0.1)))
    assert 0.1 <= time.monotonic() - began < 3


@pytest.mark.parametrize("url", ["", "hush", "://hush", "postgresql://u:hush@host:port/db"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not a database URL") as caught:
        checked_url(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite+pysqlite://"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="in memory cannot be shared"):
        open_engine(url)
