"""What auth knows, in a database. Synchronous; every method is one transaction and may be called from any thread."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import ColumnElement, Engine, and_, delete, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute

from mda.auth.actor import Actor, check_actor
from mda.auth.audit import Entry
from mda.auth.change import Change, unknown_client
from mda.auth.database import Database
from mda.auth.models import ApiKeyRow, AuditRow, ClientRow, RevocationRow, SigningKeyRow
from mda.auth.paging import Place
from mda.auth.records import ApiKey, Client, Event, SigningKey
from mda.auth.rows import (
    api_key_of,
    client_of,
    entry_of,
    new_client_row,
    new_signing_key_row,
    revocation_of,
    signing_key_of,
)
from mda.runtime.revocation import Revocation, Revoked

_AUDIT_CHUNK = 1000
_REVOCATIONS = 1000


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
        self._database = Database(engine)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    @contextmanager
    def change(self) -> Generator[Change]:
        """Give a transaction: what is done with it is done at the end, whole, or not at all."""
        with self._database.writing() as session:
            yield Change(session)

    def check(self, actor: Actor) -> None:
        """Check that a token still stands. Errors as in `check_actor`."""
        with self._database.reading() as session:
            check_actor(session, actor)

    def ensure_client(self, client: Client, event: Event) -> Client:
        """Return the client of a name as it stands; make it where there is none.

        Parameters
        ----------
        client
            What is to be made.
        event
            What the audit log is to say if it is made.
        """
        try:
            return self._ensure_client(client, event)
        except IntegrityError:
            # Somebody else has just made a client of this name.
            return self._ensure_client(client, event)

    def client(self, client_id: str) -> Client:
        """Return a client.

        Raises
        ------
        MarketDataError
            UNKNOWN_CLIENT.
        """
        with self._database.reading() as session:
            row = session.get(ClientRow, client_id)
            if row is None:
                raise unknown_client(client_id)
            return client_of(row)

    def page_of_clients(self, after: Place | None, size: int) -> list[Client]:
        """Return the clients after a place, the oldest first, and one more than a page has, where there is one."""
        order = ClientRow.created_at, ClientRow.id
        query = select(ClientRow).where(_after(*order, after)).order_by(*order).limit(size + 1)
        with self._database.reading() as session:
            return [client_of(row) for row in session.scalars(query)]

    def page_of_api_keys(self, client_id: str | None, after: Place | None, size: int) -> list[ApiKey]:
        """Return the API keys of a client, or of all, after a place; otherwise as `page_of_clients`.

        Raises
        ------
        MarketDataError
            UNKNOWN_CLIENT.
        """
        order = ApiKeyRow.created_at, ApiKeyRow.id
        query = select(ApiKeyRow).where(_after(*order, after)).order_by(*order).limit(size + 1)
        if client_id is not None:
            self.client(client_id)
            query = query.where(ApiKeyRow.client_id == client_id)
        with self._database.reading() as session:
            return [api_key_of(row) for row in session.scalars(query)]

    def find_secret_hash(self, key_id: str) -> str | None:
        """Return the hash of an API key's secret, or None if there is no such key; both take as long."""
        # As a subquery: one row comes back either way.
        found = select(ApiKeyRow.secret_hash).where(ApiKeyRow.id == key_id).scalar_subquery()
        with self._database.reading() as session:
            return session.scalar(select(found))

    def find_api_key(self, key_id: str) -> ApiKey | None:
        """Return the API key of an id, or None."""
        with self._database.reading() as session:
            row = session.get(ApiKeyRow, key_id)
            return None if row is None else api_key_of(row)

    def record_use(self, key_id: str, at: datetime) -> None:
        """Note when an API key was last used; an earlier time than the one noted changes nothing."""
        earlier = or_(ApiKeyRow.last_used_at.is_(None), ApiKeyRow.last_used_at < at)
        with self._database.writing() as session:
            session.execute(update(ApiKeyRow).where(ApiKeyRow.id == key_id, earlier).values(last_used_at=at))

    def list_signing_keys(self) -> list[SigningKey]:
        """Return all signing keys, in the order in which they sign."""
        query = select(SigningKeyRow).order_by(SigningKeyRow.generation)
        with self._database.reading() as session:
            return [signing_key_of(row) for row in session.scalars(query)]

    def add_signing_key(self, key: SigningKey, event: Event) -> bool:
        """Add a key, if there is none of its generation yet.

        Returns
        -------
        bool
            Whether it was added; the database sees to it that of many callers one wins.
        """
        try:
            with self._database.writing() as session:
                session.add(new_signing_key_row(key))
                session.flush()
                Change(session).note(event)
        except IntegrityError:
            return False
        return True

    def seal_signing_key(self, kid: str, sealed: str) -> None:
        """Keep a key sealed in another way."""
        with self._database.writing() as session:
            session.execute(update(SigningKeyRow).where(SigningKeyRow.kid == kid).values(sealed=sealed))

    def remove_signing_key(self, kid: str, event: Event) -> None:
        """Remove a key; one that is gone already changes nothing."""
        with self._database.writing() as session:
            row = session.scalar(select(SigningKeyRow).where(SigningKeyRow.kid == kid).with_for_update())
            if row is not None:
                session.delete(row)
                Change(session).note(event)

    def note(self, event: Event) -> None:
        """Add an event to the audit log."""
        with self.change() as change:
            change.note(event)

    def page_of_audit(self, before: int, size: int) -> list[Entry]:
        """Return the audit log's entries before a place (0: the end), the newest first, and one more than a page."""
        query = select(AuditRow).order_by(AuditRow.sequence.desc()).limit(size + 1)
        if before:
            query = query.where(AuditRow.sequence < before)
        with self._database.reading() as session:
            return [entry_of(row) for row in session.scalars(query)]

    def audit(self, first: int = 1) -> Iterator[Entry]:
        """Yield the audit log from an entry on, in order; what is added meanwhile may or may not be in it."""
        while True:
            query = select(AuditRow).where(AuditRow.sequence >= first).order_by(AuditRow.sequence).limit(_AUDIT_CHUNK)
            with self._database.reading() as session:
                entries = [entry_of(row) for row in session.scalars(query)]
            if not entries:
                return
            yield from entries
            first = entries[-1].sequence + 1

    def is_revoked(self, token_id: str) -> bool:
        """Return whether a token was revoked by itself."""
        query = select(RevocationRow.number).where(
            RevocationRow.what == Revoked.TOKEN.value, RevocationRow.subject == token_id
        )
        with self._database.reading() as session:
            return session.scalar(query.limit(1)) is not None

    def unsent_revocations(self) -> list[tuple[int, Revocation]]:
        """Return the next revocations, up to 1,000, that are to be sent to the services, with their numbers."""
        unsent = select(RevocationRow).where(RevocationRow.sent.is_(False))
        query = unsent.order_by(RevocationRow.number).limit(_REVOCATIONS)
        with self._database.reading() as session:
            return [(row.number, revocation_of(row)) for row in session.scalars(query)]

    def revocations_sent(self, numbers: Iterable[int]) -> None:
        """Note that revocations have been sent."""
        with self._database.writing() as session:
            session.execute(update(RevocationRow).where(RevocationRow.number.in_(numbers)).values(sent=True))

    def send_revocations_again(self) -> None:
        """Note that none has been sent."""
        with self._database.writing() as session:
            session.execute(update(RevocationRow).values(sent=False))

    def forget_revocations(self, before: datetime) -> None:
        """Remove the revocations whose tokens have all ended by a time."""
        with self._database.writing() as session:
            session.execute(delete(RevocationRow).where(RevocationRow.sent.is_(True), RevocationRow.until < before))

    def _ensure_client(self, client: Client, event: Event) -> Client:
        with self._database.writing() as session:
            row = session.scalar(select(ClientRow).where(ClientRow.name == client.name))
            if row is not None:
                return client_of(row)
            session.add(new_client_row(client))
            session.flush()
            Change(session).note(event)
            return client


def _after(
    at: InstrumentedAttribute[datetime], id_: InstrumentedAttribute[str], place: Place | None
) -> ColumnElement[bool]:
    """Return what is true of rows after a place, in order of time and id."""
    if place is None:
        return id_.is_not(None)
    return or_(at > place.at, and_(at == place.at, id_ > place.id))
