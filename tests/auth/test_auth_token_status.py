"""Introspection (RFC 7662) and revocation (RFC 7009)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from mda.auth.actor import Actor
from mda.auth.clients import Clients, Wish
from mda.auth.form import CONTENT_TYPE, TokenRequest
from mda.auth.gate import Gate
from mda.auth.keys import KeySet, new_key_pair
from mda.auth.oauth import TokenResponse
from mda.auth.records import ApiKey, Client
from mda.auth.store import Store
from mda.auth.tiers import Tier
from mda.auth.token_status import TokenStatus
from mda.auth.tokens import TokenIssuer, TokenReader
from mda.runtime.identity import LEEWAY_S
from mda.runtime.revocation import Revoked
from tests.auth.conftest import AUDIENCE, ISSUER, StandingClock


class Desk:
    """A client with a key, who asks."""

    def __init__(
        self, clients: Clients, actor: Actor, issuer: TokenIssuer, clock: StandingClock, name: str, *roles: str
    ) -> None:
        self.client: Client = clients.create(actor, name, Wish(Tier.PRO, roles, ["SIM"]))
        new, key = clients.create_key(actor, self.client.id, None)
        self.key: ApiKey = key
        self.form = {"client_id": new.id, "client_secret": new.secret}
        self._issuer = issuer
        self._clock = clock

    def token(self) -> str:
        return self._issuer.issue(self.key, ("quotes:read",), self._clock.now).token

    def request(self, **parameters: str) -> TokenRequest:
        return TokenRequest(CONTENT_TYPE, urlencode(self.form | parameters).encode())


@pytest.fixture
def clients(store: Store, clock: StandingClock) -> Clients:
    return Clients(store, clock)


@pytest.fixture
def desk(clients: Clients, actor: Actor, issuer: TokenIssuer, clock: StandingClock) -> Desk:
    return Desk(clients, actor, issuer, clock, "desk", "reader")


@pytest.fixture
def other(clients: Clients, actor: Actor, issuer: TokenIssuer, clock: StandingClock) -> Desk:
    return Desk(clients, actor, issuer, clock, "other", "reader")


@pytest.fixture
def admin(clients: Clients, actor: Actor, issuer: TokenIssuer, clock: StandingClock) -> Desk:
    return Desk(clients, actor, issuer, clock, "admin", "admin")


@pytest.fixture
def status(store: Store, key_set: KeySet, clock: StandingClock) -> TokenStatus:
    return TokenStatus(store, Gate(store, clock), TokenReader(key_set, issuer=ISSUER, audience=AUDIENCE), clock)


def document(response: TokenResponse) -> dict[str, Any]:
    assert response.headers["cache-control"] == "no-store"
    return json.loads(response.body)


def active(status: TokenStatus, who: Desk, token: str) -> bool:
    response = status.introspect(who.request(token=token))
    assert response.status == 200
    told = document(response)
    assert told["active"] or told == {"active": False}
    return told["active"]


def test_a_client_is_told_what_its_token_says(status: TokenStatus, desk: Desk) -> None:
    token = desk.token()
    claims = jwt.decode(token, options={"verify_signature": False})
    told = document(status.introspect(desk.request(token=token, token_type_hint="access_token")))
    del claims["version"]
    assert told == {"active": True, "token_type": "Bearer", **claims}
    assert told["sub"] == desk.client.id


def test_others_tokens_are_an_admins_to_know(status: TokenStatus, desk: Desk, other: Desk, admin: Desk) -> None:
    assert not active(status, other, desk.token())
    assert active(status, admin, desk.token())


def test_what_is_no_good_token_is_inactive(
    status: TokenStatus, desk: Desk, admin: Desk, clock: StandingClock, key_set: KeySet
) -> None:
    token = desk.token()
    head, body, signature = token.split(".")
    forged = TokenIssuer(
        KeySet([new_key_pair(clock.now)]), issuer=ISSUER, audience=AUDIENCE, ttl=timedelta(seconds=900)
    ).issue(desk.key, (), clock.now)
    elsewhere = TokenIssuer(key_set, issuer="https://else", audience=AUDIENCE, ttl=timedelta(seconds=900)).issue(
        desk.key, (), clock.now
    )
    for bad in ("x", "a.b.c", f"{head}.{body}.{signature[::-1]}", forged.token, elsewhere.token):
        assert not active(status, admin, bad)
    clock.now += timedelta(seconds=899)
    assert active(status, desk, token)
    clock.now += timedelta(seconds=1)
    assert not active(status, desk, token)


def test_what_ends_a_token_shows(
    actor: Actor, status: TokenStatus, clients: Clients, desk: Desk, admin: Desk, clock: StandingClock
) -> None:
    token = desk.token()
    clients.disable(actor, desk.client.id)
    assert not active(status, admin, token)
    clients.enable(actor, desk.client.id)
    assert not active(status, admin, token), "a token of before the change came to life again"
    fresh = desk.token()
    assert not active(status, admin, fresh)  # the desk's key was read before the change
    _, _, old = clients.rotate_key(actor, desk.key.id, timedelta(hours=1), None)
    assert old.expires_at is not None
    clients.revoke_key(actor, desk.key.id)
    assert not active(status, admin, desk.token())


def test_a_token_outlives_a_key_that_was_rotated(
    actor: Actor, status: TokenStatus, clients: Clients, desk: Desk, admin: Desk, clock: StandingClock
) -> None:
    token = desk.token()
    clients.rotate_key(actor, desk.key.id, timedelta(minutes=1), None)
    assert active(status, admin, token)
    clock.now += timedelta(minutes=2)
    assert active(status, admin, token)  # as the services see it, too


@pytest.mark.parametrize("who", ["desk", "admin"])
def test_a_token_is_ended(
    actor: Actor, status: TokenStatus, store: Store, desk: Desk, who: str, request: pytest.FixtureRequest
) -> None:
    caller: Desk = request.getfixturevalue(who)
    token = desk.token()
    claims = jwt.decode(token, options={"verify_signature": False})
    response = status.revoke(caller.request(token=token))
    assert (response.status, document(response)) == (200, {})
    assert not active(status, desk, token)
    assert active(status, desk, desk.token())
    ((_, revocation),) = store.unsent_revocations()
    assert (revocation.what, revocation.id, revocation.until_s) == (
        Revoked.TOKEN,
        claims["jti"],
        claims["exp"] + LEEWAY_S,
    )
    (*_, entry) = store.audit()
    assert (entry.event.actor, entry.event.action) == (caller.client.id, "token.revoke")


def test_anothers_token_is_not_ended(actor: Actor, status: TokenStatus, store: Store, desk: Desk, other: Desk) -> None:
    response = status.revoke(other.request(token=desk.token()))
    assert (response.status, document(response)["error"]) == (400, "unauthorized_client")
    assert store.unsent_revocations() == []
    (*_, entry) = store.audit()
    event = entry.event
    assert (event.actor, event.action, event.refused) == (other.client.id, "token.revoke", True)
    assert (event.details["client"], event.details["error"]) == (desk.client.id, "unauthorized_client")


@pytest.mark.parametrize("late_s", [0, 899, 900 + LEEWAY_S - 1])
def test_a_token_is_ended_as_long_as_services_take_it(
    actor: Actor,
    status: TokenStatus,
    clients: Clients,
    store: Store,
    desk: Desk,
    admin: Desk,
    clock: StandingClock,
    late_s: int,
) -> None:
    """Whatever became of its API key and its client: services go by the token until they are told."""
    token = desk.token()
    clients.rotate_key(actor, desk.key.id, timedelta(), None)
    clock.now += timedelta(seconds=late_s)
    for _ in range(2):
        assert status.revoke(admin.request(token=token)).status == 200
    ((_, revocation),) = store.unsent_revocations()
    assert revocation.what is Revoked.TOKEN


def test_a_token_that_no_service_takes_is_ended_already(
    status: TokenStatus, store: Store, desk: Desk, clock: StandingClock
) -> None:
    token = desk.token()
    clock.now += timedelta(seconds=900 + LEEWAY_S)
    assert status.revoke(desk.request(token=token)).status == 200
    assert store.unsent_revocations() == []


def test_what_is_no_token_is_ended_already(status: TokenStatus, store: Store, desk: Desk) -> None:
    assert status.revoke(desk.request(token="x")).status == 200
    assert store.unsent_revocations() == []


def test_who_shows_no_key_is_told_nothing(status: TokenStatus, store: Store, desk: Desk) -> None:
    request = TokenRequest(CONTENT_TYPE, urlencode({"token": desk.token()}).encode())
    wrong = desk.request(token=desk.token(), client_secret="wrong")
    for answer in (status.introspect, status.revoke):
        for bad in (request, wrong):
            assert (answer(bad).status, document(answer(bad))["error"]) == (401, "invalid_client")
        missing = answer(desk.request())
        assert (missing.status, document(missing)["error_description"]) == (400, "the parameter token is missing")
    assert store.unsent_revocations() == []
