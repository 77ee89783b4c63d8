"""The decisions of the token endpoint: RFC 6749, client credentials (section 4.4). Without I/O of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

import structlog

from mda.auth.clock import Clock, utc_now
from mda.auth.errors import ErrorCode, OAuthError, StoreUnavailableError
from mda.auth.form import TokenRequest, parse_form
from mda.auth.gate import CredentialStore, Gate
from mda.auth.records import ApiKey, Client, Event
from mda.auth.tokens import TokenIssuer

GRANT_TYPE: Final = "client_credentials"
USE_RESOLUTION: Final = timedelta(minutes=1)
"""A key's last use is noted at most this often, as every note costs a write."""

_NO_STORE: Final = {"cache-control": "no-store", "pragma": "no-cache"}
_CHALLENGE: Final = 'Basic realm="marketdata", charset="UTF-8"'
_STATUS: Final = {
    ErrorCode.INVALID_CLIENT: HTTPStatus.UNAUTHORIZED,
    ErrorCode.TEMPORARILY_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.SLOW_DOWN: HTTPStatus.TOO_MANY_REQUESTS,
}

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """An answer of the token endpoint, or one of those beside it, in HTTP's terms.

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
    gate
        What lets clients in, where other endpoints share it.
    """

    def __init__(
        self, store: CredentialStore, issuer: TokenIssuer, clock: Clock = utc_now, gate: Gate | None = None
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._clock = clock
        self._gate = gate or Gate(store, clock)

    def answer(self, request: TokenRequest) -> TokenResponse:
        """Answer a request, well or badly.

        Raises
        ------
        StoreUnavailableError
            If the store does not answer; `unavailable` is the response to that.
        """
        return answered(request, self._grant)

    def _grant(self, request: TokenRequest, form: Mapping[str, str]) -> TokenResponse:
        _check_grant_type(form)
        key = self._gate.admit(request, form)
        now = self._clock()
        scopes = self._scopes(key, request, form)
        issued = self._issuer.issue(key, scopes, now)
        self._record_use(key, now)
        return response(
            HTTPStatus.OK,
            {
                "access_token": issued.token,
                "token_type": "Bearer",
                "expires_in": issued.expires_in_s,
                "scope": " ".join(scopes),
            },
        )

    def _scopes(self, key: ApiKey, request: TokenRequest, form: Mapping[str, str]) -> tuple[str, ...]:
        try:
            return _granted_scopes(key.client, form)
        except OAuthError as error:
            self._gate.refuse(Event(key.id, "token.issue", key.id, self._clock()), error, request)

    def _record_use(self, key: ApiKey, now: datetime) -> None:
        if key.last_used_at is not None and now - key.last_used_at < USE_RESOLUTION:
            return
        try:
            self._store.record_use(key.id, now)
        except StoreUnavailableError:  # nobody is to go without a token because of it
            _log.exception("use_not_recorded")


def answered(
    request: TokenRequest, answer: Callable[[TokenRequest, Mapping[str, str]], TokenResponse]
) -> TokenResponse:
    """Return the answer to a request and its form, or the refusal that it raises."""
    try:
        return answer(request, parse_form(request))
    except OAuthError as error:
        return _refusal(error)


def unavailable() -> TokenResponse:
    """Return the answer to all requests while the store does not answer."""
    description = "tokens cannot be issued now; try again soon"
    return _refusal(OAuthError(ErrorCode.TEMPORARILY_UNAVAILABLE, description, retry_after_s=1))


def _check_grant_type(form: Mapping[str, str]) -> None:
    grant_type = form.get("grant_type")
    if grant_type is None:
        raise OAuthError(ErrorCode.INVALID_REQUEST, f"the parameter grant_type is missing; send {GRANT_TYPE}")
    if grant_type != GRANT_TYPE:
        raise OAuthError(ErrorCode.UNSUPPORTED_GRANT_TYPE, f"the only grant_type is {GRANT_TYPE}")


def _granted_scopes(client: Client, form: Mapping[str, str]) -> tuple[str, ...]:
    granted = client.granted
    if not granted:
        raise OAuthError(ErrorCode.INVALID_SCOPE, "the client has no scopes")
    requested = form.get("scope")
    if requested is None:
        return granted
    wanted = set(requested.split(" "))
    if not wanted <= set(granted):
        allowed = " ".join(granted)
        raise OAuthError(ErrorCode.INVALID_SCOPE, f"of scopes, parted by single spaces, the client has: {allowed}")
    return tuple(scope for scope in granted if scope in wanted)


def _refusal(error: OAuthError) -> TokenResponse:
    status = _STATUS.get(error.code, HTTPStatus.BAD_REQUEST)
    document = {"error": error.code.value, "error_description": error.description}
    return response(status, document, error)


def response(status: HTTPStatus, document: Mapping[str, Any], error: OAuthError | None = None) -> TokenResponse:
    """Return an answer: a JSON document with its status."""
    headers = dict(_NO_STORE)
    if status == HTTPStatus.UNAUTHORIZED:
        # RFC 6749 wants it where the header was used; RFC 9110 (15.5.2) wants it with every 401.
        headers["www-authenticate"] = _CHALLENGE
    if error is not None and error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    return TokenResponse(status, headers, json.dumps(document).encode(), error)
