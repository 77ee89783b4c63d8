"""The schema's versions, and bringing a database to the newest one. Needs no files but this package."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from mda.auth.engine import WRITES, open_engine

# Any number, so long as nobody else who uses the same database takes it.
_LOCK_ID = 0x6D64615F61757468


def migrate(url: str, *, timeout_s: float = 60.0) -> None:
    """Bring a database to the newest schema, in one transaction. Safe to call from many processes at once.

    Parameters
    ----------
    url
        The database, as an SQLAlchemy URL.
    timeout_s
        How long to wait for another process that does the same, in seconds.

    Raises
    ------
    ValueError
        If the URL is not one that can be used.
    alembic.util.CommandError
        If the database has a newer schema than this package knows.
    sqlalchemy.exc.SQLAlchemyError
        If the database does not answer or refuses.
    """
    engine = open_engine(url, pool_size=1, timeout_s=timeout_s)
    try:
        with engine.execution_options(**{WRITES: True}).begin() as connection:
            lock_schema(connection)
            command.upgrade(alembic_config(connection), "head")
    finally:
        engine.dispose()


def alembic_config(connection: Connection) -> Config:
    """Return the configuration for Alembic's commands to work on a connection, in its transaction."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def lock_schema(connection: Connection) -> None:
    """Keep all others that call this from the schema until the transaction ends."""
    # SQLite's transaction has held the only lock there is from its beginning.
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _LOCK_ID})
