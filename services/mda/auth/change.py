"""Changes that are made together or not at all: to records, with what is said of them in the audit log."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from marketdata.v1 import error_reason_pb2 as reasons
from mda.auth.actor import Actor, check_actor
from mda.auth.audit import FIRST_HASH, chained
from mda.auth.models import ApiKeyRow, AuditRow, ClientRow
from mda.auth.records import ApiKey, Client, Event
from mda.auth.roles import ADMIN
from mda.auth.rows import (
    api_key_of,
    client_of,
    fill_client,
    new_api_key_row,
    new_audit_row,
    new_client_row,
    new_revocation_row,
)
from mda.market.errors import MarketDataError
from mda.runtime.revocation import Revocation

# Any number, so long as nobody else who uses the same database takes it.
_AUDIT_LOCK: Final = 0x6D64615F61756469


class Change:
    """One transaction. What it reads stays as it is until the end.

    Parameters
    ----------
    session
        From `mda.auth.database.Database.writing`.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def check(self, actor: Actor) -> None:
        """Check that the token of who makes the change still stands. Errors as in `check_actor`."""
        check_actor(self._session, actor)

    def client(self, client_id: str) -> Client:
        """Return a client.

        Raises
        ------
        MarketDataError
            UNKNOWN_CLIENT.
        """
        return client_of(self._client_row(client_id))

    def add_client(self, client: Client) -> None:
        """Add a client.

        Raises
        ------
        MarketDataError
            CLIENT_EXISTS.
        """
        self._session.add(new_client_row(client))
        try:
            self._session.flush()
        except IntegrityError:
            raise MarketDataError(
                reasons.ERROR_REASON_CLIENT_EXISTS,
                f"There is a client of the name {client.name!r}. Choose another name, or update that one.",
                field="name",
                name=client.name,
            ) from None

    def save_client(self, client: Client) -> None:
        """Give a client that exists what is said of it here. Errors as in `client`."""
        fill_client(self._client_row(client.id), client)

    def has_admin_besides(self, client_id: str) -> bool:
        """Return whether a client other than this one may make clients, and gets in. Those stay as they are."""
        # Shared locks: of two admins that go at the same time, one has to see that the other has gone.
        query = select(ClientRow).where(ClientRow.id != client_id, ClientRow.disabled_at.is_(None))
        rows = self._session.scalars(query.with_for_update(read=True))
        return any(ADMIN in client_of(row).granted for row in rows)

    def api_key(self, key_id: str) -> ApiKey:
        """Return an API key.

        Raises
        ------
        MarketDataError
            UNKNOWN_API_KEY.
        """
        return api_key_of(self._api_key_row(key_id))

    def add_api_key(self, key: ApiKey) -> None:
        """Add an API key to a client that exists.

        Raises
        ------
        sqlalchemy.exc.IntegrityError
            If there is no such client, or a key of this id exists.
        """
        self._session.add(new_api_key_row(key))
        self._session.flush()

    def end_api_key(self, key: ApiKey) -> None:
        """Set when an API key expires and when it was revoked. Errors as in `api_key`."""
        row = self._api_key_row(key.id)
        row.expires_at, row.revoked_at = key.expires_at, key.revoked_at

    def revoke(self, revocation: Revocation) -> None:
        """Put down a revocation to be sent to the services."""
        self._session.add(new_revocation_row(revocation))

    def note(self, event: Event) -> None:
        """Add an event to the audit log. Comes last: from here on others who have something to note wait."""
        if self._session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time
            self._session.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _AUDIT_LOCK})
        last = self._session.scalar(select(AuditRow).order_by(AuditRow.sequence.desc()).limit(1))
        entry = chained(event, 1, FIRST_HASH) if last is None else chained(event, last.sequence + 1, last.hash)
        self._session.add(new_audit_row(entry))
        self._session.flush()

    def _client_row(self, client_id: str) -> ClientRow:
        row = self._session.get(ClientRow, client_id, with_for_update=True)
        if row is None:
            raise unknown_client(client_id)
        return row

    def _api_key_row(self, key_id: str) -> ApiKeyRow:
        row = self._session.get(ApiKeyRow, key_id, with_for_update={"of": ApiKeyRow})
        if row is None:
            raise MarketDataError(
                reasons.ERROR_REASON_UNKNOWN_API_KEY,
                f"There is no API key {key_id}. ListApiKeys tells which there are.",
                field="key_id",
                key_id=key_id,
            )
        return row


def unknown_client(client_id: str) -> MarketDataError:
    """Return the error for a client that is not there."""
    return MarketDataError(
        reasons.ERROR_REASON_UNKNOWN_CLIENT,
        f"There is no client {client_id}. ListClients tells which there are.",
        field="client_id",
        client_id=client_id,
    )
