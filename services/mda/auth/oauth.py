"""The decisions of the token endpoint: RFC 6749, client credentials (section 4.4). Without I/O of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, Protocol

from mda.auth import api_key
from mda.auth.clock import Clock, utc_now
from mda.auth.errors import ErrorCode, OAuthError
from mda.auth.form import ClientCredentials, TokenRequest, client_credentials, parse_form
from mda.auth.records import ApiKey, Client
from mda.auth.tokens import TokenIssuer

GRANT_TYPE: Final = "client_credentials"
USE_RESOLUTION: Final = timedelta(minutes=1)
"""A key's last use is noted at most this often, as every note costs a write."""
MIN_LIFETIME: Final = timedelta(seconds=1)
"""A token lives whole seconds, and never longer than its key; so a key must have one left."""

_NO_STORE: Final = {"cache-control": "no-store", "pragma": "no-cache"}
_CHALLENGE: Final = 'Basic realm="marketdata", charset="UTF-8"'
_RETRY_AFTER_S: Final = "1"
_STATUS: Final = {
    ErrorCode.INVALID_CLIENT: HTTPStatus.UNAUTHORIZED,
    ErrorCode.TEMPORARILY_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}
# What the secret of an unknown key is compared with, so that it takes as long as a wrong one.
_NOBODYS_HASH: Final = api_key.hash_secret(api_key.new_secret())


class CredentialStore(Protocol):
    """Where API keys are looked up."""

    def find_secret_hash(self, key_id: str) -> str | None:
        """Return the hash of an API key's secret, or None if there is no such key; both take as long."""
        ...

    def find_api_key(self, key_id: str) -> ApiKey | None:
        """Return the API key of an id, or None."""
        ...

    def record_use(self, key_id: str, at: datetime) -> None:
        """Note when an API key was last used."""
        ...


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """An answer of the token endpoint, in HTTP's terms.

    Attributes
    ----------
    status
        The HTTP status.
    headers
        The HTTP headers, in lower case, but for the content type, which is JSON.
    body
        JSON: of RFC 6749's section 5.1 if the status is 200, of section 5.2 otherwise.
    error
        Why it is refused; None if it is not.
    """

    status: HTTPStatus
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    error: OAuthError | None = None


class TokenEndpoint:
    """Exchanges API keys for access tokens.

    Parameters
    ----------
    store
        Where API keys are looked up.
    issuer
        What signs the tokens.
    clock
        The present time.
    """

    def __init__(self, store: CredentialStore, issuer: TokenIssuer, clock: Clock = utc_now) -> None:
        self._store = store
        self._issuer = issuer
        self._clock = clock

    def answer(self, request: TokenRequest) -> TokenResponse:
        """Answer a request, well or badly.

        Raises
        ------
        StoreUnavailableError
            If the store does not answer; `unavailable` is the response to that.
        """
        try:
            return self._grant(request)
        except OAuthError as error:
            return _refusal(error)

    def _grant(self, request: TokenRequest) -> TokenResponse:
        form = parse_form(request)
        _check_grant_type(form)
        credentials = client_credentials(request, form)
        now = self._clock()
        key = self._authenticate(credentials, now)
        scopes = _granted_scopes(key.client, form)
        issued = self._issuer.issue(key, scopes, now)
        self._record_use(key, now)
        return _response(
            HTTPStatus.OK,
            {
                "access_token": issued.token,
                "token_type": "Bearer",
                "expires_in": issued.expires_in_s,
                "scope": " ".join(scopes),
            },
        )

    def _authenticate(self, credentials: ClientCredentials, now: datetime) -> ApiKey:
        # Reading the whole key would take longer for one that exists; so that comes after the proof.
        secret_hash = self._store.find_secret_hash(credentials.client_id) or _NOBODYS_HASH
        matches = api_key.verify_secret(credentials.client_secret, secret_hash)
        key = self._store.find_api_key(credentials.client_id) if matches else None
        if key is None:
            raise OAuthError(ErrorCode.INVALID_CLIENT, "the client_id is unknown or the client_secret is wrong")
        if key.revoked_at is not None:
            raise OAuthError(ErrorCode.INVALID_CLIENT, "the API key has been revoked")
        if key.expires_at is not None and key.expires_at - now < MIN_LIFETIME:
            raise OAuthError(ErrorCode.INVALID_CLIENT, "the API key has expired")
        if key.client.disabled_at is not None:
            raise OAuthError(ErrorCode.UNAUTHORIZED_CLIENT, "the client is disabled")
        return key

    def _record_use(self, key: ApiKey, now: datetime) -> None:
        if key.last_used_at is None or now - key.last_used_at >= USE_RESOLUTION:
            self._store.record_use(key.id, now)


def unavailable() -> TokenResponse:
    """Return the answer to all requests while the store does not answer."""
    return _refusal(OAuthError(ErrorCode.TEMPORARILY_UNAVAILABLE, "tokens cannot be issued now; try again soon"))


def _check_grant_type(form: Mapping[str, str]) -> None:
    grant_type = form.get("grant_type")
    if grant_type is None:
        raise OAuthError(ErrorCode.INVALID_REQUEST, f"the parameter grant_type is missing; send {GRANT_TYPE}")
    if grant_type != GRANT_TYPE:
        raise OAuthError(ErrorCode.UNSUPPORTED_GRANT_TYPE, f"the only grant_type is {GRANT_TYPE}")


def _granted_scopes(client: Client, form: Mapping[str, str]) -> tuple[str, ...]:
    if not client.scopes:
        raise OAuthError(ErrorCode.INVALID_SCOPE, "the client has no scopes")
    requested = form.get("scope")
    if requested is None:
        return client.scopes
    wanted = set(requested.split(" "))
    if not wanted <= set(client.scopes):
        allowed = " ".join(client.scopes)
        raise OAuthError(ErrorCode.INVALID_SCOPE, f"of scopes, parted by single spaces, the client has: {allowed}")
    return tuple(scope for scope in client.scopes if scope in wanted)


def _refusal(error: OAuthError) -> TokenResponse:
    status = _STATUS.get(error.code, HTTPStatus.BAD_REQUEST)
    document = {"error": error.code.value, "error_description": error.description}
    return _response(status, document, error)


def _response(status: HTTPStatus, document: Mapping[str, Any], error: OAuthError | None = None) -> TokenResponse:
    headers = dict(_NO_STORE)
    if status == HTTPStatus.UNAUTHORIZED:
        # RFC 6749 wants it where the header was used; RFC 9110 (15.5.2) wants it with every 401.
        headers["www-authenticate"] = _CHALLENGE
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = _RETRY_AFTER_S
    return TokenResponse(status, headers, json.dumps(document).encode(), error)
