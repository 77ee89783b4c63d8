"""Transactions on auth's database."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from mda.auth.engine import WRITES
from mda.auth.errors import StoreUnavailableError


class Database:
    """Gives transactions, for reading or for writing.

    Parameters
    ----------
    engine
        From `mda.auth.engine.open_engine`; its database has the newest schema.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writing_engine = engine.execution_options(**{WRITES: True})

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Generator[Session]:
        """Give a session that reads.

        Raises
        ------
        StoreUnavailableError
            If the database does not answer, or a lock or a connection cannot be had in time.
        """
        with _translated_errors(), Session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Generator[Session]:
        """Give a session whose changes are made together at the end, or not at all. Errors as in `reading`."""
        with _translated_errors(), Session(self._writing_engine) as session, session.begin():
            yield session


@contextmanager
def _translated_errors() -> Generator[None]:
    try:
        yield
    except (OperationalError, PoolTimeoutError, OSError) as error:  # OSError: of TLS, before there is a connection
        raise StoreUnavailableError("the auth database does not answer") from error
