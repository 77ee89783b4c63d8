"""What operators do: make clients and API keys."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from mda.auth import api_key
from mda.auth.clock import Clock, utc_now
from mda.auth.records import ApiKey, Client, Event
from mda.auth.store import Store
from mda.auth.tiers import Tier

ALL_DATASETS: Final = "*"
LOCAL: Final = "local"
"""The audit log's name for who runs commands on the machine itself."""

_ADMIN_ROLE: Final = "admin"
_CLIENT_ID_PREFIX: Final = "mdc_"
_CLIENT_ID_BYTES: Final = 12
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749, section 3.3


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """An API key just made: the only time that its secret can be seen.

    Attributes
    ----------
    id
        OAuth's `client_id`.
    secret
        OAuth's `client_secret`.
    """

    id: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """The key as people paste it: `<id>.<secret>`."""
        return api_key.format_api_key(self.id, self.secret)


def ensure_client(
    store: Store,
    name: str,
    tier: Tier,
    scopes: Iterable[str] = (),
    *,
    roles: Iterable[str] = (),
    clock: Clock = utc_now,
) -> Client:
    """Return the client of a name; make one that is entitled to all datasets where there is none.

    One that is there stays as it is: somebody may have changed it on purpose.

    Parameters
    ----------
    store
        Where clients are kept.
    name
        Up to 100 letters, digits and `._@-`, of which the first is a letter or a digit.
    tier
        How much a new one may use.
    scopes, roles
        What a new one may do: at least one of the two.

    Raises
    ------
    ValueError
        If the name or a scope is not one.
    StoreUnavailableError
        If the store does not answer.
    """
    named = tuple(sorted(roles))
    wanted = () if named else _checked_scopes(scopes)
    client = Client(
        new_client_id(), _checked_name(name), tier, wanted, (ALL_DATASETS,), created_at=clock(), roles=named
    )
    return store.ensure_client(client, _made(client))


def create_admin(store: Store, name: str, *, clock: Clock = utc_now) -> NewApiKey:
    """Make a client that makes others, and an API key for it.

    Raises
    ------
    ValueError
        If the name is not one.
    MarketDataError
        CLIENT_EXISTS.
    StoreUnavailableError
        If the store does not answer.
    """
    now = clock()
    client = Client(new_client_id(), _checked_name(name), Tier.INTERNAL, (), (), created_at=now, roles=(_ADMIN_ROLE,))
    new, key = new_api_key(client, None, now)
    with store.change() as change:
        change.add_client(client)
        change.add_api_key(key)
        change.note(_made(client))
        change.note(created_event(LOCAL, key))
    return new


def create_api_key(
    store: Store, client: Client, *, lifetime: timedelta | None = None, clock: Clock = utc_now
) -> NewApiKey:
    """Make an API key for a client that exists.

    Parameters
    ----------
    store
        Where API keys are kept; the secret's hash only.
    client
        Whose it is.
    lifetime
        How long it works; None means until it is revoked.

    Raises
    ------
    ValueError
        If the lifetime is not positive.
    StoreUnavailableError
        If the store does not answer.
    """
    if lifetime is not None and lifetime <= timedelta():
        raise ValueError("the lifetime of an API key must be positive")
    new, key = new_api_key(client, lifetime, clock())
    with store.change() as change:
        change.add_api_key(key)
        change.note(created_event(LOCAL, key))
    return new


def new_api_key(client: Client, lifetime: timedelta | None, now: datetime) -> tuple[NewApiKey, ApiKey]:
    """Return a fresh API key of a client, to be shown and to be stored."""
    new = NewApiKey(api_key.new_key_id(), api_key.new_secret())
    key = ApiKey(
        id=new.id,
        client=client,
        secret_hash=api_key.hash_secret(new.secret),
        hint=api_key.hint_of(new.secret),
        created_at=now,
        expires_at=None if lifetime is None else now + lifetime,
    )
    return new, key


def new_client_id() -> str:
    """Return a fresh client id."""
    return _CLIENT_ID_PREFIX + secrets.token_hex(_CLIENT_ID_BYTES)


def told(client: Client) -> dict[str, str]:
    """Return what the audit log says of a client."""
    return {
        "name": client.name,
        "tier": client.tier.value,
        "roles": " ".join(client.roles),
        "scopes": " ".join(client.scopes),
        "datasets": " ".join(client.datasets),
    }


def created_event(actor: str, key: ApiKey) -> Event:
    """Return what the audit log says of an API key that was made."""
    details = {"client": key.client.id, **told_end(key)}
    return Event(actor, "api_key.create", key.id, key.created_at, details=details)


def told_end(key: ApiKey) -> dict[str, str]:
    """Return what the audit log says of how long an API key works."""
    return {} if key.expires_at is None else {"expires": key.expires_at.isoformat(timespec="seconds")}


def _made(client: Client) -> Event:
    return Event(LOCAL, "client.create", client.id, client.created_at, details=told(client))


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a client name: {name!r}; up to 100 letters, digits and ._@- are")
    return name


def _checked_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    checked = tuple(sorted(set(scopes)))
    if not checked:
        raise ValueError("a client needs at least one scope")
    wrong = [scope for scope in checked if not _SCOPE.fullmatch(scope)]
    if wrong:
        raise ValueError(f"not a scope: {', '.join(map(repr, wrong))}")
    return checked
