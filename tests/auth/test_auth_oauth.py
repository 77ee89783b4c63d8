"""The decisions of the token endpoint."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlencode

import jwt
import pytest
from structlog.testing import capture_logs

from mda.auth import api_key
from mda.auth.errors import ErrorCode, StoreUnavailableError
from mda.auth.form import CONTENT_TYPE, MAX_BODY_BYTES, TokenRequest
from mda.auth.oauth import TokenEndpoint, TokenResponse, unavailable
from mda.auth.records import ApiKey, Event
from mda.auth.tokens import TokenIssuer

ALL = "quotes:publish quotes:read trades:read"


class Clock(Protocol):
    now: datetime

    def __call__(self) -> datetime: ...


class Credentials(Protocol):
    uses: list[tuple[str, datetime]]
    read: list[str]
    events: list[Event]
    broken: bool


def request(secret: str, **parameters: str) -> TokenRequest:
    form = {"grant_type": "client_credentials", "client_id": "mdk_1", "client_secret": secret} | parameters
    return TokenRequest(CONTENT_TYPE, urlencode(form).encode())


def basic_request(secret: str, key_id: str = "mdk_1", body: bytes = b"grant_type=client_credentials") -> TokenRequest:
    pair = base64.b64encode(f"{key_id}:{secret}".encode()).decode()
    return TokenRequest(CONTENT_TYPE, body, (f"Basic {pair}",))


def document(response: TokenResponse) -> dict[str, Any]:
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["pragma"] == "no-cache"
    return json.loads(response.body)


def claims_of(response: TokenResponse) -> dict[str, Any]:
    return jwt.decode(document(response)["access_token"], options={"verify_signature": False})


def assert_refused(response: TokenResponse, status: int, code: ErrorCode, description: str) -> None:
    assert response.status == status
    assert document(response) == {"error": code.value, "error_description": description}
    assert response.error is not None
    assert (response.error.code, response.error.description) == (code, description)
    # RFC 6749, section 5.2, says which characters a description may have.
    assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", description)
    assert ("www-authenticate" in response.headers) == (status == 401)


def test_a_token_for_the_form(endpoint: TokenEndpoint, secret: str) -> None:
    response = endpoint.answer(request(secret))
    answer = document(response)
    assert response.status == 200
    assert response.error is None
    assert response.headers == {"cache-control": "no-store", "pragma": "no-cache"}
    assert answer.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("Bearer", 900, ALL)
    claims = claims_of(response)
    assert (claims["sub"], claims["client_id"], claims["scope"]) == ("mdc_1", "mdk_1", ALL)
    assert claims["exp"] - claims["iat"] == 900


def test_a_token_for_basic(endpoint: TokenEndpoint, secret: str) -> None:
    assert claims_of(endpoint.answer(basic_request(secret)))["client_id"] == "mdk_1"


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("quotes:read", "quotes:read"),
        ("trades:read quotes:read", "quotes:read trades:read"),
        ("quotes:read quotes:read", "quotes:read"),
        ("", ALL),
    ],
)
def test_scopes(endpoint: TokenEndpoint, secret: str, asked: str, granted: str) -> None:
    response = endpoint.answer(request(secret, scope=asked))
    assert document(response)["scope"] == claims_of(response)["scope"] == granted


@pytest.mark.parametrize(
    "asked", ["clients:admin", "quotes:read clients:admin", "Quotes:Read", "a  b", " ", "quotes:read "]
)
def test_scopes_that_the_client_has_not(endpoint: TokenEndpoint, secret: str, asked: str) -> None:
    response = endpoint.answer(request(secret, scope=asked))
    description = f"of scopes, parted by single spaces, the client has: {ALL}"
    assert_refused(response, 400, ErrorCode.INVALID_SCOPE, description)


def test_a_client_without_scopes(endpoint: TokenEndpoint, secret: str, change_key: Callable[..., None]) -> None:
    change_key(client={"scopes": ()})
    assert_refused(endpoint.answer(request(secret)), 400, ErrorCode.INVALID_SCOPE, "the client has no scopes")


def test_without_a_grant_type(endpoint: TokenEndpoint, secret: str) -> None:
    description = "the parameter grant_type is missing; send client_credentials"
    assert_refused(endpoint.answer(request(secret, grant_type="")), 400, ErrorCode.INVALID_REQUEST, description)


@pytest.mark.parametrize("grant_type", ["password", "authorization_code", "refresh_token", "CLIENT_CREDENTIALS"])
def test_other_grant_types(endpoint: TokenEndpoint, secret: str, grant_type: str) -> None:
    response = endpoint.answer(request(secret, grant_type=grant_type))
    assert_refused(response, 400, ErrorCode.UNSUPPORTED_GRANT_TYPE, "the only grant_type is client_credentials")


UNKNOWN = "the client_id is unknown or the client_secret is wrong"


def test_an_unknown_id_and_a_wrong_secret_look_the_same(endpoint: TokenEndpoint, secret: str) -> None:
    wrong = endpoint.answer(request(secret + "x"))
    unknown = endpoint.answer(request(secret, client_id="mdk_2"))
    assert_refused(wrong, 401, ErrorCode.INVALID_CLIENT, UNKNOWN)
    assert (unknown.status, unknown.headers, unknown.body) == (wrong.status, wrong.headers, wrong.body)


def test_an_unknown_id_takes_the_steps_of_a_wrong_secret(
    endpoint: TokenEndpoint, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[tuple[str, int]] = []
    real = api_key.verify_secret

    def spy(presented: str, secret_hash: str) -> bool:
        verified.append((presented, len(secret_hash)))
        return real(presented, secret_hash)

    monkeypatch.setattr(api_key, "verify_secret", spy)
    endpoint.answer(request("wrong"))
    endpoint.answer(request("wrong", client_id="mdk_2"))
    assert verified == [("wrong", 64), ("wrong", 64)]
    assert credentials.read == []


def test_a_key_that_goes_away_after_the_proof(
    endpoint: TokenEndpoint, secret: str, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_key_id: str) -> None:
        return None

    monkeypatch.setattr(credentials, "find_api_key", gone)
    assert_refused(endpoint.answer(request(secret)), 401, ErrorCode.INVALID_CLIENT, UNKNOWN)


def test_basic_is_challenged_where_it_fails(endpoint: TokenEndpoint) -> None:
    response = endpoint.answer(basic_request("wrong"))
    assert_refused(response, 401, ErrorCode.INVALID_CLIENT, UNKNOWN)
    assert response.headers["www-authenticate"] == 'Basic realm="marketdata", charset="UTF-8"'


def test_both_ways_at_once(endpoint: TokenEndpoint, secret: str) -> None:
    response = endpoint.answer(basic_request(secret, body=request(secret).body))
    description = "send the client's id and secret by HTTP Basic or in the form, not both"
    assert_refused(response, 400, ErrorCode.INVALID_REQUEST, description)


def test_no_credentials(endpoint: TokenEndpoint) -> None:
    response = endpoint.answer(TokenRequest(CONTENT_TYPE, b"grant_type=client_credentials"))
    description = "the client_id is missing: send the API key's id and secret by HTTP Basic or in the form"
    assert_refused(response, 401, ErrorCode.INVALID_CLIENT, description)


def test_a_revoked_key(endpoint: TokenEndpoint, secret: str, change_key: Callable[..., None], clock: Clock) -> None:
    change_key(revoked_at=clock.now)
    assert_refused(endpoint.answer(request(secret)), 401, ErrorCode.INVALID_CLIENT, "the API key has been revoked")
    assert_refused(endpoint.answer(request("wrong")), 401, ErrorCode.INVALID_CLIENT, UNKNOWN)


def test_an_expired_key(endpoint: TokenEndpoint, secret: str, change_key: Callable[..., None], clock: Clock) -> None:
    change_key(expires_at=clock.now + timedelta(seconds=1))
    assert document(endpoint.answer(request(secret)))["expires_in"] == 1
    clock.now += timedelta(microseconds=1)
    assert_refused(endpoint.answer(request(secret)), 401, ErrorCode.INVALID_CLIENT, "the API key has expired")
    assert_refused(endpoint.answer(request("wrong")), 401, ErrorCode.INVALID_CLIENT, UNKNOWN)


def test_a_disabled_client(endpoint: TokenEndpoint, secret: str, change_key: Callable[..., None], clock: Clock) -> None:
    change_key(client={"disabled_at": clock.now})
    assert_refused(endpoint.answer(request(secret)), 400, ErrorCode.UNAUTHORIZED_CLIENT, "the client is disabled")
    assert_refused(endpoint.answer(request("wrong")), 401, ErrorCode.INVALID_CLIENT, UNKNOWN)


@pytest.mark.parametrize(
    "bad",
    [
        TokenRequest("application/json", b"{}"),
        TokenRequest(CONTENT_TYPE, b"a" * (MAX_BODY_BYTES + 1)),
        TokenRequest(CONTENT_TYPE, b"\xff"),
        TokenRequest(CONTENT_TYPE, b"scope=a&scope=b"),
    ],
)
def test_what_is_no_form(endpoint: TokenEndpoint, bad: TokenRequest) -> None:
    response = endpoint.answer(bad)
    assert (response.status, document(response)["error"]) == (400, "invalid_request")


def test_refusals_never_repeat_what_came(endpoint: TokenEndpoint, secret: str) -> None:
    for name in ("grant_type", "client_id", "client_secret", "scope"):
        response = endpoint.answer(request(secret, **{name: "hush"}))
        assert response.status != 200
        assert b"hush" not in response.body
        assert secret.encode() not in response.body
        assert "hush" not in str(response.error)


def test_uses_are_noted_once_a_minute(
    endpoint: TokenEndpoint,
    secret: str,
    credentials: Credentials,
    change_key: Callable[..., None],
    clock: Clock,
) -> None:
    endpoint.answer(request(secret))
    assert credentials.uses == [("mdk_1", clock.now)]
    change_key(last_used_at=clock.now)
    clock.now += timedelta(seconds=59)
    endpoint.answer(request(secret))
    assert len(credentials.uses) == 1
    clock.now += timedelta(seconds=1)
    endpoint.answer(request(secret))
    assert credentials.uses[1:] == [("mdk_1", clock.now)]


def test_refusals_are_no_uses(endpoint: TokenEndpoint, secret: str, credentials: Credentials) -> None:
    endpoint.answer(request("wrong"))
    endpoint.answer(request(secret, scope="nope"))
    assert credentials.uses == []


def test_a_use_that_cannot_be_noted_costs_no_token(
    endpoint: TokenEndpoint, secret: str, credentials: Credentials
) -> None:
    credentials.broken = True
    with capture_logs() as logs:
        assert endpoint.answer(request(secret)).status == 200
    assert [(log["event"], log["log_level"]) for log in logs] == [("use_not_recorded", "error")]


def test_asking_for_more_than_there_is_goes_to_the_audit_log(
    endpoint: TokenEndpoint, secret: str, credentials: Credentials, clock: Clock
) -> None:
    for _ in range(2):
        endpoint.answer(replace(request(secret, scope="clients:admin"), address="192.0.2.1"))
    details = {
        "error": "invalid_scope",
        "reason": f"of scopes, parted by single spaces, the client has: {ALL}",
        "address": "192.0.2.1",
    }
    assert credentials.events == [Event("mdk_1", "token.issue", "mdk_1", clock.now, refused=True, details=details)]


def test_refusals_are_put_down_until_they_are_slowed(
    endpoint: TokenEndpoint, secret: str, credentials: Credentials, change_key: Callable[..., None], clock: Clock
) -> None:
    statuses: list[int] = []
    for _ in range(100):
        statuses.append(endpoint.answer(replace(request("wrong"), address="192.0.2.1")).status)
        clock.now += timedelta(seconds=1)
    assert statuses.count(401) == 11  # after 5 free ones, each after 1, 2, 4, 8, 16 and 32 seconds
    assert [event.at for event in credentials.events] == [clock.now - timedelta(seconds=100 - at) for at in (0, 67)]
    change_key(revoked_at=clock.now)
    statuses = [endpoint.answer(replace(request(secret), address="192.0.2.2")).status for _ in range(100)]
    assert statuses == [401] * 5 + [429] * 95
    assert [event.details["reason"] for event in credentials.events[2:]] == ["the API key has been revoked"]


def test_of_an_unknown_id_nothing_is_kept(endpoint: TokenEndpoint, credentials: Credentials) -> None:
    """One place makes one entry, however many ids it tries; long ones are all the same."""
    for number in range(10):
        answer = endpoint.answer(replace(request("hush", client_id=f"mdk_{number:030}"), address="2001:db8::1"))
        assert answer.status == (401 if number < 5 else 429)
    for number in range(9):
        endpoint.answer(replace(request("hush", client_id=f"mdk_9{number}"), address=f"2001:db8::{number}"))
    (event,) = credentials.events
    assert (event.actor, event.subject, event.details["address"]) == ("unknown", "unknown", "2001:db8::/64")


def test_a_store_that_does_not_answer_slows_nobody(
    endpoint: TokenEndpoint, secret: str, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_key_id: str) -> None:
        raise StoreUnavailableError

    with monkeypatch.context() as patched:
        patched.setattr(credentials, "find_secret_hash", fail)
        for _ in range(50):
            with pytest.raises(StoreUnavailableError):
                endpoint.answer(request(secret))
    assert endpoint.answer(request(secret)).status == 200


class BrokenStore:
    def find_secret_hash(self, key_id: str) -> str | None:
        raise StoreUnavailableError(key_id)

    def find_api_key(self, key_id: str) -> ApiKey | None:
        raise StoreUnavailableError(key_id)

    def record_use(self, key_id: str, at: datetime) -> None:
        raise StoreUnavailableError(key_id, at)

    def note(self, event: Event) -> None:
        raise StoreUnavailableError(event)


def test_a_store_that_does_not_answer_is_told(issuer: TokenIssuer, clock: Clock, secret: str) -> None:
    with pytest.raises(StoreUnavailableError):
        TokenEndpoint(BrokenStore(), issuer, clock).answer(request(secret))


def test_the_answer_while_the_store_does_not() -> None:
    response = unavailable()
    description = "tokens cannot be issued now; try again soon"
    assert_refused(response, 503, ErrorCode.TEMPORARILY_UNAVAILABLE, description)
    assert response.headers["retry-after"] == "1"
