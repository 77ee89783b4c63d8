"""What auth knows, in a database. Synchronous; every method is one transaction and may be called from any thread."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Engine, or_, select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from mda.auth.engine import WRITES
from mda.auth.errors import StoreUnavailableError
from mda.auth.models import ApiKeyRow, ClientRow, SigningKeyRow
from mda.auth.records import ApiKey, Client, SigningKey


class Store:
    """Reads and writes what auth knows.

    Every method raises `StoreUnavailableError` if the database does not answer, or a
    lock or a connection cannot be had in time.

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

    def put_client(self, client: Client, *, keep_datasets: bool = False) -> Client:
        """Make a client, or give the one that has its name its tier, scopes and datasets.

        Parameters
        ----------
        client
            The client, as it should be.
        keep_datasets
            Whether one that exists keeps its datasets.

        Returns
        -------
        Client
            The client as stored: of one that existed, the id and times stay.
        """
        try:
            return self._put_client(client, keep_datasets)
        except IntegrityError:
            # Somebody else has just made a client of this name: now there is one to change.
            return self._put_client(client, keep_datasets)

    def list_clients(self) -> list[Client]:
        """Return all clients, by name."""
        with self._reading() as session:
            return [_client(row) for row in session.scalars(select(ClientRow).order_by(ClientRow.name))]

    def add_api_key(self, key: ApiKey) -> None:
        """Add a key to a client that exists.

        Raises
        ------
        sqlalchemy.exc.IntegrityError
            If there is no such client, or a key of this id exists.
        """
        with self._writing() as session:
            session.add(
                ApiKeyRow(
                    id=key.id,
                    client_id=key.client.id,
                    secret_hash=key.secret_hash,
                    hint=key.hint,
                    created_at=key.created_at,
                    expires_at=key.expires_at,
                    revoked_at=key.revoked_at,
                    last_used_at=key.last_used_at,
                )
            )

    def find_secret_hash(self, key_id: str) -> str | None:
        """Return the hash of an API key's secret, or None if there is no such key; both take as long."""
        # As a subquery: one row comes back either way.
        found = select(ApiKeyRow.secret_hash).where(ApiKeyRow.id == key_id).scalar_subquery()
        with self._reading() as session:
            return session.scalar(select(found))

    def find_api_key(self, key_id: str) -> ApiKey | None:
        """Return the API key of an id, or None."""
        with self._reading() as session:
            row = session.get(ApiKeyRow, key_id)
            return None if row is None else _api_key(row)

    def list_api_keys(self) -> list[ApiKey]:
        """Return the API keys of all clients, by the client's name, then the key's age."""
        query = select(ApiKeyRow).join(ClientRow).order_by(ClientRow.name, ApiKeyRow.created_at, ApiKeyRow.id)
        with self._reading() as session:
            return [_api_key(row) for row in session.scalars(query)]

    def record_use(self, key_id: str, at: datetime) -> None:
        """Note when an API key was last used; an earlier time than the one noted changes nothing."""
        earlier = or_(ApiKeyRow.last_used_at.is_(None), ApiKeyRow.last_used_at < at)
        with self._writing() as session:
            session.execute(update(ApiKeyRow).where(ApiKeyRow.id == key_id, earlier).values(last_used_at=at))

    def add_active_signing_key(self, key: SigningKey) -> bool:
        """Add a key that signs tokens, if no key does yet.

        Returns
        -------
        bool
            Whether it was added; the database sees to it that of many callers one wins.
        """
        try:
            with self._writing() as session:
                session.add(
                    SigningKeyRow(kid=key.kid, private_pem=key.private_pem, created_at=key.created_at, active=True)
                )
        except IntegrityError:
            return False
        return True

    def list_signing_keys(self) -> list[SigningKey]:
        """Return all signing keys, the oldest first."""
        query = select(SigningKeyRow).order_by(SigningKeyRow.created_at, SigningKeyRow.kid)
        with self._reading() as session:
            return [_signing_key(row) for row in session.scalars(query)]

    def _put_client(self, client: Client, keep_datasets: bool) -> Client:
        with self._writing() as session:
            row = session.scalar(select(ClientRow).where(ClientRow.name == client.name).with_for_update())
            if row is None:
                row = ClientRow(
                    id=client.id, name=client.name, datasets=list(client.datasets), created_at=client.created_at
                )
                session.add(row)
            row.tier = client.tier
            row.scopes = list(client.scopes)
            if not keep_datasets:
                row.datasets = list(client.datasets)
            session.flush()
            return _client(row)

    @contextmanager
    def _reading(self) -> Generator[Session]:
        with _translated_errors(), Session(self._engine) as session:
            yield session

    @contextmanager
    def _writing(self) -> Generator[Session]:
        with _translated_errors(), Session(self._writing_engine) as session, session.begin():
            yield session


@contextmanager
def _translated_errors() -> Generator[None]:
    try:
        yield
    except (OperationalError, PoolTimeoutError) as error:
        raise StoreUnavailableError("the auth database does not answer") from error


def _client(row: ClientRow) -> Client:
    return Client(
        id=row.id,
        name=row.name,
        tier=row.tier,
        scopes=tuple(row.scopes),
        datasets=tuple(row.datasets),
        created_at=row.created_at,
        disabled_at=row.disabled_at,
    )


def _api_key(row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        id=row.id,
        client=_client(row.client),
        secret_hash=row.secret_hash,
        hint=row.hint,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def _signing_key(row: SigningKeyRow) -> SigningKey:
    return SigningKey(kid=row.kid, private_pem=row.private_pem, created_at=row.created_at, active=row.active)
