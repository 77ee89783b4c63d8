"""Who makes a change, and whether its token still stands: asked of the database, which knows first."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from mda.auth.models import ApiKeyRow, RevocationRow
from mda.runtime.identity import invalid_token
from mda.runtime.revocation import Revoked


@dataclass(frozen=True, slots=True)
class Actor:
    """The holder of the token that a change is asked for with.

    Attributes
    ----------
    client
        The client's id.
    key, token_id
        The ids of the API key and of the token.
    version
        The version of the client that the token was made for.
    """

    client: str
    key: str
    token_id: str
    version: int


def check_actor(session: Session, actor: Actor) -> None:
    """Check that what a service may not have heard of yet has not ended a token.

    The expiry of its API key does not: a token that was good when it was made lives as long
    as it says.

    Raises
    ------
    MarketDataError
        INVALID_TOKEN with the problem `revoked`.
    """
    if not _stands(session, actor):
        raise invalid_token("revoked", "The token, its API key or its client is revoked, or the client changed.")


def _stands(session: Session, actor: Actor) -> bool:
    key = session.scalar(select(ApiKeyRow).where(ApiKeyRow.id == actor.key, ApiKeyRow.client_id == actor.client))
    if key is None or key.revoked_at is not None:
        return False
    if key.client.disabled_at is not None or actor.version < key.client.version:
        return False
    revoked = select(RevocationRow.number).where(
        RevocationRow.what == Revoked.TOKEN.value, RevocationRow.subject == actor.token_id
    )
    return session.scalar(revoked.limit(1)) is None
