"""The decisions of ClientService: each change is made together with its revocations and its audit entry."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from marketdata.v1 import error_reason_pb2 as reasons
from mda.auth.actor import Actor
from mda.auth.admin import NewApiKey, created_event, new_api_key, new_client_id, told, told_end
from mda.auth.change import Change
from mda.auth.clock import Clock, utc_now
from mda.auth.records import ApiKey, Client, Event
from mda.auth.refusals import Refusals
from mda.auth.roles import ADMIN, ROLES
from mda.auth.store import Store
from mda.auth.tiers import TIERS, Tier
from mda.market.errors import MarketDataError, invalid_field
from mda.market.quotas import Quotas
from mda.runtime.revocation import Revocation, Revoked

LONGEST_TOKEN: Final = timedelta(hours=1, minutes=1)
"""No token is good for longer, whatever the settings say, with the leeway that services give."""
OVERLAP: Final = timedelta(days=1)
"""How long an API key works on after it was rotated, where nobody says otherwise."""

_MOST_OF_TIER: Final = 2
"""A client's own calls a second are at most so many times those of its tier."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client should be; None leaves what it is.

    Attributes
    ----------
    tier, roles, datasets, quotas
        As those of `Client`. Roles take the place of scopes, too.
    """

    tier: Tier | None = None
    roles: Collection[str] | None = None
    datasets: Collection[str] | None = None
    quotas: Quotas | None = None


class Clients:
    """Makes and changes clients and their API keys.

    Every method raises `StoreUnavailableError` if the store does not answer, and those that
    take an actor raise `MarketDataError`, INVALID_TOKEN with the problem `revoked`, if its
    token has been ended: services that cannot be told of it would still let it in.

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
        self._refusals = Refusals(store)

    def check(self, actor: Actor) -> None:
        """Check that somebody may be answered."""
        self._store.check(actor)

    def create(self, actor: Actor, name: str, wish: Wish) -> Client:
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
        with self._change(actor) as change:
            change.add_client(client)
            change.note(Event(actor.client, "client.create", client.id, now, details=told(client)))
        return client

    def update(self, actor: Actor, client_id: str, wish: Wish) -> Client:
        """Change what is wished of a client, and end its tokens. One that is so already is left as it is.

        Raises
        ------
        MarketDataError
            UNKNOWN_CLIENT; INVALID_FIELD if there is no such role, or nobody would be left
            who makes clients.
        """
        now = self._clock()
        with self._change(actor) as change:
            before = change.client(client_id)
            client = _as_wished(before, wish, "roles.names")
            if client == before:
                return before
            _keep_an_admin(change, before, client)
            client = _next_version(client)
            _save_and_end_tokens(change, client, now)
            change.note(Event(actor.client, "client.update", client_id, now, details=told(client)))
        return client

    def disable(self, actor: Actor, client_id: str) -> Client:
        """Keep a client out and end its tokens. One that is kept out already is left as it is.

        Raises
        ------
        MarketDataError
            UNKNOWN_CLIENT; INVALID_FIELD if nobody would be left who makes clients.
        """
        now = self._clock()
        with self._change(actor) as change:
            before = change.client(client_id)
            if before.disabled_at is not None:
                return before
            client = _next_version(replace(before, disabled_at=now))
            _keep_an_admin(change, before, client)
            _save_and_end_tokens(change, client, now)
            change.note(Event(actor.client, "client.disable", client_id, now))
        return client

    def enable(self, actor: Actor, client_id: str) -> Client:
        """Let a client in again. One that is in already is left as it is.

        Raises
        ------
        MarketDataError
            UNKNOWN_CLIENT.
        """
        now = self._clock()
        with self._change(actor) as change:
            client = change.client(client_id)
            if client.disabled_at is None:
                return client
            client = replace(client, disabled_at=None)
            change.save_client(client)
            change.note(Event(actor.client, "client.enable", client_id, now))
        return client

    def create_key(self, actor: Actor, client_id: str, lifetime: timedelta | None) -> tuple[NewApiKey, ApiKey]:
        """Make an API key for a client; None for the lifetime means until it is revoked.

        Raises
        ------
        MarketDataError
            UNKNOWN_CLIENT.
        """
        now = self._clock()
        with self._change(actor) as change:
            new, key = new_api_key(change.client(client_id), lifetime, now)
            change.add_api_key(key)
            change.note(created_event(actor.client, key))
        return new, key

    def rotate_key(
        self, actor: Actor, key_id: str, overlap: timedelta | None, lifetime: timedelta | None
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
        with self._change(actor) as change:
            old = change.api_key(key_id)
            if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
                raise _ended(key_id)
            end = now + (OVERLAP if overlap is None else overlap)
            old = replace(old, expires_at=end if old.expires_at is None else min(end, old.expires_at))
            new, key = new_api_key(old.client, lifetime, now)
            change.add_api_key(key)
            change.end_api_key(old)
            details = {"client": key.client.id, "new_key": key.id, **told_end(old)}
            change.note(Event(actor.client, "api_key.rotate", key_id, now, details=details))
        return new, key, old

    def revoke_key(self, actor: Actor, key_id: str) -> ApiKey:
        """End an API key and its tokens. One that is revoked already is left as it is.

        Raises
        ------
        MarketDataError
            UNKNOWN_API_KEY.
        """
        now = self._clock()
        with self._change(actor) as change:
            key = change.api_key(key_id)
            if key.revoked_at is not None:
                return key
            key = replace(key, revoked_at=now)
            change.end_api_key(key)
            change.revoke(Revocation(Revoked.KEY, key_id, 0, (now + LONGEST_TOKEN).timestamp()))
            change.note(Event(actor.client, "api_key.revoke", key_id, now, details={"client": key.client.id}))
        return key

    def note_refusal(self, actor: str, action: str, details: Mapping[str, str]) -> None:
        """Put down in the audit log that somebody was refused something."""
        self._refusals.note(Event(actor, action, actor, self._clock(), refused=True, details=details))

    @contextmanager
    def _change(self, actor: Actor) -> Generator[Change]:
        with self._store.change() as change:
            change.check(actor)
            yield change


def _as_wished(client: Client, wish: Wish, roles_field: str) -> Client:
    wished = replace(
        client,
        # Scopes besides those of roles are of before there were roles: who says the roles says all.
        scopes=client.scopes if wish.roles is None else (),
        tier=client.tier if wish.tier is None else wish.tier,
        roles=client.roles if wish.roles is None else _known_roles(wish.roles, roles_field),
        datasets=client.datasets if wish.datasets is None else tuple(sorted(set(wish.datasets))),
        quotas=client.quotas if wish.quotas is None else wish.quotas,
    )
    _check_rate(wished)
    return wished


def _check_rate(client: Client) -> None:
    """Check that the gateway lets so many calls through: it goes by the tier alone."""
    usual, own = TIERS[client.tier].requests_per_second, client.quotas.requests_per_second
    if usual is not None and own is not None and own > _MOST_OF_TIER * usual:
        raise invalid_field(
            "quotas.requests_per_second",
            "tier",
            f"quotas.requests_per_second: {own} is more than {_MOST_OF_TIER} times what the tier says, {usual}. "
            "Choose another tier.",
        )


def _known_roles(roles: Collection[str], field: str) -> tuple[str, ...]:
    for number, role in enumerate(roles):
        if role not in ROLES:
            there = ", ".join(ROLES)
            raise invalid_field(f"{field}[{number}]", "role", f"There is no role {role!r}. There is: {there}.")
    return tuple(sorted(set(roles)))


def _keep_an_admin(change: Change, before: Client, after: Client) -> None:
    if not _is_admin(before) or _is_admin(after) or change.has_admin_besides(before.id):
        return
    raise invalid_field(
        "client_id",
        "last_admin",
        f"{before.id} is the last client with the scope {ADMIN}: nobody could undo this. Make another admin first.",
    )


def _is_admin(client: Client) -> bool:
    return client.disabled_at is None and ADMIN in client.granted


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
