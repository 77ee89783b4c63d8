"""What SQLAlchemy has to be told of PostgreSQL and its driver, pg8000."""

from __future__ import annotations

import ssl
from typing import Any, Final

import pg8000
from sqlalchemy import URL
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError, IntegrityError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

MODES: Final = ("disable", "prefer", "require", "verify-ca", "verify-full")
"""What the parameter `sslmode` of a URL may say; libpq's words, meanings and default: `prefer`."""

_DRIVER: Final = "postgresql+pg8000"
_TLS_PARAMETERS: Final = ("sslmode", "sslrootcert")
_INTEGRITY: Final = "23"
_UNAVAILABLE: Final = ("08", "25", "28", "3D", "40", "53", "55", "57", "58")
"""Classes of SQLSTATE: connection, transaction (read-only server, idle too long), login, no such database,
deadlock, resources, lock, shutdown or time-out, system."""


def checked_url(url: URL) -> URL:
    """Return the URL of a PostgreSQL database, with its driver named.

    Raises
    ------
    ValueError
        If it names another driver, or an `sslmode` that there is not.
    """
    if url.drivername not in ("postgresql", _DRIVER):
        raise ValueError("a database URL begins with sqlite:/// or postgresql://")
    if _mode(url) not in MODES:
        raise ValueError(f"sslmode must be one of {', '.join(MODES)}")
    return url.set(drivername=_DRIVER)


def server_url(url: URL) -> URL:
    """Return the URL without what `connect_arguments` has taken from it."""
    return url.difference_update_query(_TLS_PARAMETERS)


def connect_arguments(url: URL, timeout_s: float) -> dict[str, Any]:
    """Return the driver's arguments: time-outs, in seconds, and TLS as the URL says.

    Raises
    ------
    OSError
        If the file of `sslrootcert` cannot be read.
    """
    return {
        "timeout": 3 * timeout_s,  # finds out a server that has gone without a word, after its own time-outs
        "startup_params": {
            "lock_timeout": _ms(timeout_s),
            "statement_timeout": _ms(2 * timeout_s),
            # A process that stands still would hold its locks as long.
            "idle_in_transaction_session_timeout": _ms(2 * timeout_s),
            # What waited for the audit log's lock is to see what the one before it wrote.
            "default_transaction_isolation": "read committed",
        },
        "ssl_context": _ssl_context(url),
    }


def check_alive(connection: DBAPIConnection, _entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
    """See that a connection of the pool still is one; as the pool's own check does not, where the driver says OSError.

    Raises
    ------
    DisconnectionError
        If it is none any more: the pool makes another one.
    """
    cursor = connection.cursor()
    try:
        cursor.execute("SELECT 1")
        connection.rollback()
    except (pg8000.Error, OSError) as error:
        raise DisconnectionError from error


def name_error(context: ExceptionContext) -> DBAPIError | None:
    """Return an error by what it means: the driver has one class for all that a server says."""
    error = context.original_exception
    if isinstance(error, pg8000.InterfaceError):  # of the connection
        return OperationalError(context.statement, None, error, hide_parameters=True)
    if not isinstance(error, pg8000.DatabaseError):
        return None
    state = str(error.args[0].get("C", "")) if isinstance(error.args[0], dict) else ""
    if state.startswith(_INTEGRITY):
        return IntegrityError(context.statement, None, error, hide_parameters=True)
    if state.startswith(_UNAVAILABLE):
        return OperationalError(context.statement, None, error, hide_parameters=True)
    return None


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))


def _mode(url: URL) -> str:
    return str(url.query.get("sslmode", "prefer"))


def _ssl_context(url: URL) -> ssl.SSLContext | bool | None:
    mode = _mode(url)
    if mode == "disable":
        return False
    if mode == "prefer":
        return None
    authorities = url.query.get("sslrootcert")
    context = ssl.create_default_context(cafile=None if authorities is None else str(authorities))
    context.check_hostname = mode == "verify-full"
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return context
