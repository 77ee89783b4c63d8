"""A database engine with bounds and time-outs, from a URL."""

from __future__ import annotations

import os
import sqlite3
import time
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from mda.auth import postgresql

WRITES: Final = "mda_writes"
"""The execution option of connections that are going to write."""

_OWNER_ONLY: Final = 0o600
_WAL_RETRY_S: Final = 0.01


def checked_url(url: str) -> URL:
    """Parse the URL of a database.

    Raises
    ------
    ValueError
        If it is not a URL, names an SQLite database in memory, or neither SQLite nor
        PostgreSQL. The message does not repeat it, as it may hold a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError("not a database URL; an example of one: sqlite:///path/to/auth.db") from None
    if _is_sqlite(parsed) and parsed.database in (None, "", ":memory:"):
        # Every connection would have a database of its own.
        raise ValueError("an SQLite database in memory cannot be shared; name a file: sqlite:///path/to/auth.db")
    return parsed if _is_sqlite(parsed) else postgresql.checked_url(parsed)


def open_engine(url: str, *, pool_size: int = 8, timeout_s: float = 5.0) -> Engine:
    """Return an engine. An SQLite file, and the folder it is in, are made where missing.

    Parameters
    ----------
    url
        The database, as an SQLAlchemy URL.
    pool_size
        The most connections at a time.
    timeout_s
        How long to wait for a connection of the pool, or for a lock, in seconds.

    Raises
    ------
    ValueError
        If the URL is not one that can be used.
    OSError
        If the SQLite file cannot be made, or the file of `sslrootcert` not be read.
    """
    parsed = checked_url(url)
    sqlite = _is_sqlite(parsed)
    engine = create_engine(
        parsed if sqlite else postgresql.server_url(parsed),
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout_s,
        hide_parameters=True,  # in errors, which are logged: some are secrets
        connect_args={"timeout": timeout_s} if sqlite else postgresql.connect_arguments(parsed, timeout_s),
    )
    if sqlite:
        _make_private(Path(str(parsed.database)))
        event.listen(engine, "connect", partial(_set_up_sqlite, timeout_s))
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "checkout", postgresql.check_alive)
        event.listen(engine, "handle_error", postgresql.name_error, retval=True)
    return engine


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _make_private(path: Path) -> None:
    # The file holds private keys. SQLite gives its companion files (-wal, -shm) the same mode.
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, _OWNER_ONLY))


def _set_up_sqlite(timeout_s: float, connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    _use_wal(cursor, timeout_s)
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _use_wal(cursor: DBAPICursor, timeout_s: float) -> None:
    # SQLite does not wait where two processes turn a fresh file into one with a WAL, so we do.
    deadline = time.monotonic() + timeout_s
    while not _turned_to_wal(cursor, deadline):
        time.sleep(_WAL_RETRY_S)


def _turned_to_wal(cursor: DBAPICursor, deadline: float) -> bool:
    try:
        cursor.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
            raise
        return False
    return True


def _begin_sqlite(connection: Connection) -> None:
    # The driver would begin late: not before it reads, and not before DDL, so migrations would not be atomic.
    # And a transaction that reads and then writes fails at once, without waiting for the lock,
    # if another one wrote in between; so who is going to write takes the lock at the beginning.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
