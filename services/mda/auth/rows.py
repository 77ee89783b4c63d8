"""Rows of the tables as the records that they hold, and back."""

from __future__ import annotations

from datetime import UTC, datetime

from mda.auth.audit import Entry
from mda.auth.models import ApiKeyRow, AuditRow, ClientRow, RevocationRow, SigningKeyRow
from mda.auth.records import ApiKey, Client, Event, SigningKey
from mda.market.quotas import Quotas
from mda.runtime.revocation import Revocation, Revoked


def client_of(row: ClientRow) -> Client:
    """Return the client of a row."""
    return Client(
        id=row.id,
        name=row.name,
        tier=row.tier,
        scopes=tuple(row.scopes),
        datasets=tuple(row.datasets),
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        roles=tuple(row.roles),
        quotas=Quotas(**row.quotas),
        version=row.version,
    )


def fill_client(row: ClientRow, client: Client) -> None:
    """Give a row what may change of a client."""
    row.tier = client.tier
    row.scopes = list(client.scopes)
    row.datasets = list(client.datasets)
    row.disabled_at = client.disabled_at
    row.roles = list(client.roles)
    row.quotas = client.quotas.claim()
    row.version = client.version


def new_client_row(client: Client) -> ClientRow:
    """Return the row of a client that is new."""
    row = ClientRow(id=client.id, name=client.name, created_at=client.created_at)
    fill_client(row, client)
    return row


def api_key_of(row: ApiKeyRow) -> ApiKey:
    """Return the API key of a row."""
    return ApiKey(
        id=row.id,
        client=client_of(row.client),
        secret_hash=row.secret_hash,
        hint=row.hint,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def new_api_key_row(key: ApiKey) -> ApiKeyRow:
    """Return the row of an API key that is new."""
    return ApiKeyRow(
        id=key.id,
        client_id=key.client.id,
        secret_hash=key.secret_hash,
        hint=key.hint,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
    )


def signing_key_of(row: SigningKeyRow) -> SigningKey:
    """Return the signing key of a row."""
    return SigningKey(row.generation, row.kid, row.sealed, row.created_at, row.signs_from)


def new_signing_key_row(key: SigningKey) -> SigningKeyRow:
    """Return the row of a signing key that is new."""
    return SigningKeyRow(
        generation=key.generation,
        kid=key.kid,
        sealed=key.sealed,
        created_at=key.created_at,
        signs_from=key.signs_from,
    )


def entry_of(row: AuditRow) -> Entry:
    """Return the audit log's entry of a row."""
    event = Event(row.actor, row.action, row.subject, row.at, row.refused, row.details)
    return Entry(row.sequence, event, row.previous_hash, row.hash)


def new_audit_row(entry: Entry) -> AuditRow:
    """Return the row of an entry of the audit log."""
    event = entry.event
    return AuditRow(
        sequence=entry.sequence,
        at=event.at,
        actor=event.actor,
        action=event.action,
        subject=event.subject,
        refused=event.refused,
        details=dict(event.details),
        previous_hash=entry.previous_hash,
        hash=entry.hash,
    )


def revocation_of(row: RevocationRow) -> Revocation:
    """Return the revocation of a row."""
    return Revocation(Revoked(row.what), row.subject, row.version, row.until.timestamp())


def new_revocation_row(revocation: Revocation) -> RevocationRow:
    """Return the row of a revocation that is yet to be sent."""
    until = datetime.fromtimestamp(revocation.until_s, UTC)
    return RevocationRow(
        what=revocation.what.value, subject=revocation.id, version=revocation.version, until=until, sent=False
    )
