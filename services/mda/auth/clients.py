"""The decisions of ClientService: each change is made together with its revocations and its audit entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from marketdata.v1 import error_reason_pb2 as reasons
from mda.auth.admin import NewApiKey, created_event, new_api_key, new_client_id, told, told_end
from mda.auth.change import Change
from mda.auth.clock import Clock, utc_now
from mda.auth.records import ApiKey, Client, Event, Quotas, Tier
from mda.auth.roles import ROLES
from mda.auth.store import Store
from mda.market.errors import MarketDataError, invalid_field
from mda.runtime.revocation import Revocation, Revoked

LONGEST_TOKEN: Final = timedelta(hours=1, minutes=1)
"""No token is good for longer, whatever the settings say, with the leeway that services give."""
OVERLAP: Final = timedelta(days=1)
"""How long an API key works on after it was rotated, where nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client should be; None leaves what it is.

    Attributes
    ----------
    tier, roles, datasets, quotas
        As those of `Client`.
    """

    tier: Tier | None = None
    roles: Iterable[str] | None = None
    datasets: Iterable[str] | None = None
    quotas: Quotas | None = None


class Clients:
    """Makes and changes clients and their API keys.

    Every method raises `StoreUnavailableError` if the store does not answer.

    Parameters
    ----------
    store
        Where they are kept.
    clock
        The present time.
    """

    def __init__(self, store: Store, clock: Clock = utc_now) -> None:
        self._store = store
        self._clock = clock

    def create(self, actor: str, name: str, wish: Wish) -> Client:
        """Make a client.

        Parameters
        ----------
        actor
            Who does it.
        name
            Its name.
        wish
            What it should be.

        Raises
        ------
        MarketDataError
            CLIENT_EXISTS; INVALID_FIELD if there is no such role.
        """
        now = self._clock()
        blank = Client(new_client_id(), name, Tier.FREE, (), (), created_at=now)
        client = _as_wished(blank, wish, "roles")
        with self._store.change() as change:
            change.add_client(client)
            change.note(Event(actor, "client.create", client.id, now, details=told(client)))
        return client

    def update(self, actor: str, client_id: str, wish: Wish) -> Client:
        """Change what is wished of a client, and end its tokens.

        Raises
        ------
        MarketDataError
            UNKNOWN_CLIENT; INVALID_FIELD if there is no such role.
        """
        now = self._clock()
        with self._store.change() as change:
            client = _next_version(_as_wished(change.client(client_id), wish, "roles.names"))
            _save_and_end_tokens(change, client, now)
            change.note(Event(actor, "client.update", client_id, now, details=told(client)))
        return client

    def disable(self, actor: str, client_id: str) -> Client:
        """Keep a client out and end its tokens. One that is kept out already is left as it is.

        Raises
        ------
        MarketDataError
            UNKNOWN_CLIENT.
        """
        now = self._clock()
        with self._store.change() as change:
            client = change.client(client_id)
            if client.disabled_at is not None:
                return client
            client = _next_version(replace(client, disabled_at=now))
            _save_and_end_tokens(change, client, now)
            change.note(Event(actor, "client.disable", client_id, now))
        return client

    def enable(self, actor: str, client_id: str) -> Client:
        """Let a client in again. One that is in already is left as it is.

        Raises
        ------
        MarketDataError
            UNKNOWN_CLIENT.
        """
        now = self._clock()
        with self._store.change() as change:
            client = change.client(client_id)
            if client.disabled_at is None:
                return client
            client = replace(client, disabled_at=None)
            change.save_client(client)
            change.note(Event(actor, "client.enable", client_id, now))
        return client

    def create_key(self, actor: str, client_id: str, lifetime: timedelta | None) -> tuple[NewApiKey, ApiKey]:
        """Make an API key for a client; None for the lifetime means until it is revoked.

        Raises
        ------
        MarketDataError
            UNKNOWN_CLIENT.
        """
        now = self._clock()
        with self._store.change() as change:
            new, key = new_api_key(change.client(client_id), lifetime, now)
            change.add_api_key(key)
            change.note(created_event(actor, key))
        return new, key

    def rotate_key(
        self, actor: str, key_id: str, overlap: timedelta | None, lifetime: timedelta | None
    ) -> tuple[NewApiKey, ApiKey, ApiKey]:
        """Make an API key in the place of another one, which works on for a while.

        Parameters
        ----------
        actor
            Who does it.
        key_id
            The old key.
        overlap
            How long that works on, at most; None means `OVERLAP`.
        lifetime
            How long the new one works; None means until it is revoked.

        Returns
        -------
        tuple
            The new key to be shown, the same as stored, and the old one as it now is.

        Raises
        ------
        MarketDataError
            UNKNOWN_API_KEY; API_KEY_ENDED if the old one works no longer.
        """
        now = self._clock()
        with self._store.change() as change:
            old = change.api_key(key_id)
            if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
                raise _ended(key_id)
            end = now + (OVERLAP if overlap is None else overlap)
            old = replace(old, expires_at=end if old.expires_at is None else min(end, old.expires_at))
            new, key = new_api_key(old.client, lifetime, now)
            change.add_api_key(key)
            change.end_api_key(old)
            details = {"client": key.client.id, "new_key": key.id, **told_end(old)}
            change.note(Event(actor, "api_key.rotate", key_id, now, details=details))
        return new, key, old

    def revoke_key(self, actor: str, key_id: str) -> ApiKey:
        """End an API key and its tokens. One that is revoked already is left as it is.

        Raises
        ------
        MarketDataError
            UNKNOWN_API_KEY.
        """
        now = self._clock()
        with self._store.change() as change:
            key = change.api_key(key_id)
            if key.revoked_at is not None:
                return key
            key = replace(key, revoked_at=now)
            change.end_api_key(key)
            change.revoke(Revocation(Revoked.KEY, key_id, 0, (now + LONGEST_TOKEN).timestamp()))
            change.note(Event(actor, "api_key.revoke", key_id, now, details={"client": key.client.id}))
        return key

    def note_refusal(self, actor: str, action: str, details: Mapping[str, str]) -> None:
        """Put down in the audit log that somebody was refused something."""
        self._store.note(Event(actor, action, actor, self._clock(), refused=True, details=details))


def _as_wished(client: Client, wish: Wish, roles_field: str) -> Client:
    return replace(
        client,
        tier=client.tier if wish.tier is None else wish.tier,
        roles=client.roles if wish.roles is None else _known_roles(wish.roles, roles_field),
        datasets=client.datasets if wish.datasets is None else tuple(sorted(set(wish.datasets))),
        quotas=client.quotas if wish.quotas is None else wish.quotas,
    )


def _known_roles(roles: Iterable[str], field: str) -> tuple[str, ...]:
    for number, role in enumerate(roles):
        if role not in ROLES:
            there = ", ".join(ROLES)
            raise invalid_field(f"{field}[{number}]", "role", f"There is no role {role!r}. There is: {there}.")
    return tuple(sorted(set(roles)))


def _next_version(client: Client) -> Client:
    return replace(client, version=client.version + 1)


def _save_and_end_tokens(change: Change, client: Client, now: datetime) -> None:
    change.save_client(client)
    change.revoke(Revocation(Revoked.CLIENT, client.id, client.version, (now + LONGEST_TOKEN).timestamp()))


def _ended(key_id: str) -> MarketDataError:
    return MarketDataError(
        reasons.ERROR_REASON_API_KEY_ENDED,
        f"The API key {key_id} is revoked or has expired. Create another one.",
        field="key_id",
        key_id=key_id,
    )
