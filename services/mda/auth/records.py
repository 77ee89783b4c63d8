"""What auth knows: clients, their API keys, the keys that sign tokens. Plain values, without a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mda.auth.roles import scopes_of
from mda.auth.tiers import Tier, quotas_of
from mda.market.quotas import Quotas


@dataclass(frozen=True, slots=True)
class Client:
    """Somebody who may have tokens. All times are aware and in UTC.

    Attributes
    ----------
    id
        The subject (`sub`) of its tokens; never changes.
    name
        What people call it; unique.
    tier
        How much it may use.
    scopes
        What it may do besides what its roles allow, sorted.
    datasets
        The datasets it is entitled to, sorted; `*` stands for all.
    created_at
        When it was made.
    disabled_at
        Since when it gets no tokens; None while it does.
    roles
        Its roles, sorted; see `mda.auth.roles`.
    quotas
        Limits of its own.
    version
        Counts the changes that end its tokens; they say it.
    """

    id: str
    name: str
    tier: Tier
    scopes: tuple[str, ...]
    datasets: tuple[str, ...]
    created_at: datetime
    disabled_at: datetime | None = None
    roles: tuple[str, ...] = ()
    quotas: Quotas = field(default_factory=Quotas)
    version: int = 0

    @property
    def granted(self) -> tuple[str, ...]:
        """All that it may do: the most that a token of its can carry, sorted."""
        return tuple(sorted({*self.scopes, *scopes_of(self.roles)}))

    @property
    def limits(self) -> Quotas:
        """What it may use: its own quotas, and its tier's where it has none."""
        return quotas_of(self.tier, self.quotas)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A credential of a client. All times are aware and in UTC.

    Attributes
    ----------
    id
        OAuth's `client_id`; public.
    client
        Whose it is.
    secret_hash
        The hash of OAuth's `client_secret`; see `mda.auth.api_key`.
    hint
        The last four characters of the secret, for people to tell keys apart.
    created_at
        When it was made.
    expires_at
        From when it no longer works; None if it works until revoked.
    revoked_at
        When it was revoked; None if it was not.
    last_used_at
        When it last got a token, to within a minute; None if never.
    """

    id: str
    client: Client
    secret_hash: str = field(repr=False)
    hint: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A P-256 key that signs tokens. All times are aware and in UTC.

    Attributes
    ----------
    generation
        Its place among those that came and went: 1, 2, 3 …
    kid
        Its name in tokens and in the key set.
    sealed
        The private key as a `mda.auth.sealing.Sealer` gave it.
    created_at
        When it was made, and so first published.
    signs_from
        From when on it signs, until the next one does.
    """

    generation: int
    kid: str
    sealed: str = field(repr=False)
    created_at: datetime
    signs_from: datetime


@dataclass(frozen=True, slots=True)
class Event:
    """What somebody did, or was refused; goes to the audit log.

    Attributes
    ----------
    actor
        Who: the id of a client or an API key; `unknown` for who has shown no key that there
        is, `local` for commands on the machine itself, `system` for the service.
    action
        What, for example `api_key.revoke`.
    subject
        To what: an id.
    at
        When; aware, in UTC.
    refused
        Whether it was refused.
    details
        More about it. Never a secret.
    """

    actor: str
    action: str
    subject: str
    at: datetime
    refused: bool = False
    details: Mapping[str, str] = field(default_factory=dict[str, str])
