"""The decisions of introspection (RFC 7662) and revocation (RFC 7009)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, Protocol

from mda.auth.change import Change
from mda.auth.clock import Clock, utc_now
from mda.auth.errors import ErrorCode, OAuthError
from mda.auth.form import TokenRequest
from mda.auth.gate import Gate
from mda.auth.oauth import TokenResponse, answered, response
from mda.auth.records import ApiKey, Event
from mda.auth.roles import ADMIN
from mda.auth.tokens import TokenReader
from mda.runtime.identity import LEEWAY_S
from mda.runtime.revocation import Revocation, Revoked

_TOLD: Final = ("scope", "client_id", "sub", "aud", "iss", "exp", "iat", "jti", "tier", "quotas", "datasets")
_LEEWAY: Final = timedelta(seconds=LEEWAY_S)
_INACTIVE: Final[Mapping[str, Any]] = {"active": False}


class TokenStore(Protocol):
    """Where it stands what has been revoked."""

    def find_api_key(self, key_id: str) -> ApiKey | None:
        """Return the API key of an id, or None."""
        ...

    def is_revoked(self, token_id: str) -> bool:
        """Return whether a token was revoked by itself."""
        ...

    def change(self) -> AbstractContextManager[Change]:
        """Give a transaction."""
        ...


class TokenStatus:
    """Tells of tokens, and ends them.

    Every method raises `StoreUnavailableError` if the store does not answer.

    Parameters
    ----------
    store
        Where it stands what has been revoked.
    gate
        What lets clients in.
    reader
        Verifies tokens.
    clock
        The present time.
    """

    def __init__(self, store: TokenStore, gate: Gate, reader: TokenReader, clock: Clock = utc_now) -> None:
        self._store = store
        self._gate = gate
        self._reader = reader
        self._clock = clock

    def introspect(self, request: TokenRequest) -> TokenResponse:
        """Answer whether a token is good, and what it says."""
        return answered(request, self._introspect)

    def revoke(self, request: TokenRequest) -> TokenResponse:
        """End a token. One that has ended by itself, or is none of ours, is ended already."""
        return answered(request, self._revoke)

    def _introspect(self, request: TokenRequest, form: Mapping[str, str]) -> TokenResponse:
        caller = self._gate.admit(request, form)
        claims = self._good(_token(form))
        if claims is None or not _may(caller, claims):
            return response(HTTPStatus.OK, _INACTIVE)
        told = {name: claims[name] for name in _TOLD if name in claims}
        return response(HTTPStatus.OK, {"active": True, "token_type": "Bearer", **told})

    def _revoke(self, request: TokenRequest, form: Mapping[str, str]) -> TokenResponse:
        caller = self._gate.admit(request, form)
        now = self._clock()
        # Services take a token for some seconds more than it says, and whatever became of its key since.
        claims = self._reader.claims(_token(form), now - _LEEWAY)
        if claims is None:
            return response(HTTPStatus.OK, {})
        event = Event(caller.client.id, "token.revoke", claims["jti"], now, details={"client": claims["sub"]})
        if not _may(caller, claims):
            error = OAuthError(ErrorCode.UNAUTHORIZED_CLIENT, "the token is another client's")
            self._gate.refuse(event, error, request)
        if not self._store.is_revoked(claims["jti"]):
            self._end(claims, event)
        return response(HTTPStatus.OK, {})

    def _end(self, claims: Mapping[str, Any], event: Event) -> None:
        with self._store.change() as change:
            change.revoke(Revocation(Revoked.TOKEN, claims["jti"], 0, float(claims["exp"]) + LEEWAY_S))
            change.note(event)

    def _good(self, token: str) -> Mapping[str, Any] | None:
        """Return what a token says; None if it is not good now."""
        claims = self._reader.claims(token, self._clock())
        if claims is None or self._store.is_revoked(claims["jti"]):
            return None
        key = self._store.find_api_key(claims["client_id"])
        return claims if key is not None and _stands(key, claims) else None


def _stands(key: ApiKey, claims: Mapping[str, Any]) -> bool:
    """Return whether the services take a token of a key; one that has expired since ends no token."""
    ended = key.revoked_at is not None or key.client.disabled_at is not None
    return not ended and claims.get("version", 0) >= key.client.version


def _token(form: Mapping[str, str]) -> str:
    if "token" not in form:
        raise OAuthError(ErrorCode.INVALID_REQUEST, "the parameter token is missing")
    return form["token"]


def _may(caller: ApiKey, claims: Mapping[str, Any]) -> bool:
    return caller.client.id == claims["sub"] or ADMIN in caller.client.granted
