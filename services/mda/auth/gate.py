"""Lets clients in by their API keys, as all of OAuth's endpoints do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, NoReturn, Protocol

from mda.auth import api_key
from mda.auth.clock import Clock, utc_now
from mda.auth.errors import ErrorCode, OAuthError
from mda.auth.form import TokenRequest, client_credentials
from mda.auth.records import ApiKey, Event
from mda.auth.throttle import Throttle

MIN_LIFETIME: Final = timedelta(seconds=1)
"""A token lives whole seconds, and never longer than its key; so a key must have one left."""
UNKNOWN: Final = "unknown"
"""The audit log's name for who has shown no key that there is: what came may be a secret in the wrong place."""

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

    def note(self, event: Event) -> None:
        """Add an event to the audit log."""
        ...


class Gate:
    """Lets in who shows an API key that works; slows down who guesses; puts refusals in the audit log.

    Parameters
    ----------
    store
        Where API keys are looked up.
    clock
        The present time.
    """

    def __init__(self, store: CredentialStore, clock: Clock = utc_now) -> None:
        self._store = store
        self._clock = clock
        self._throttle = Throttle()

    def admit(self, request: TokenRequest, form: Mapping[str, str]) -> ApiKey:
        """Return the API key that a request shows.

        Parameters
        ----------
        request
            The request.
        form
            Its parameters, from `mda.auth.form.parse_form`.

        Raises
        ------
        OAuthError
            invalid_request or invalid_client as from `client_credentials`; invalid_client
            or unauthorized_client if the key does not work; slow_down after too many of
            those.
        StoreUnavailableError
            If the store does not answer.
        """
        credentials = client_credentials(request, form)
        now = self._clock()
        self._slow_down(request.address, credentials.client_id, now)
        # Reading the whole key would take longer for one that exists; so that comes after the proof.
        secret_hash = self._store.find_secret_hash(credentials.client_id)
        matches = api_key.verify_secret(credentials.client_secret, secret_hash or _NOBODYS_HASH)
        key = self._store.find_api_key(credentials.client_id) if matches else None
        if key is None:
            self._throttle.failed(request.address, credentials.client_id, now)
            error = OAuthError(ErrorCode.INVALID_CLIENT, "the client_id is unknown or the client_secret is wrong")
            self._refuse(UNKNOWN if secret_hash is None else credentials.client_id, error, request, now)
        self._throttle.succeeded(request.address, key.id)
        error = _fault(key, now)
        if error is not None:
            self._refuse(key.id, error, request, now)
        return key

    def _slow_down(self, address: str, key_id: str, now: datetime) -> None:
        wait_s = self._throttle.wait(address, key_id, now).total_seconds()
        if wait_s > 0:
            raise OAuthError(
                ErrorCode.SLOW_DOWN, "too many wrong secrets; come again later", retry_after_s=math.ceil(wait_s)
            )

    def _refuse(self, key_id: str, error: OAuthError, request: TokenRequest, now: datetime) -> NoReturn:
        details = {"error": error.code.value, "reason": error.description, "address": request.address}
        self._store.note(Event(key_id, "api_key.use", key_id, now, refused=True, details=details))
        raise error


def _fault(key: ApiKey, now: datetime) -> OAuthError | None:
    """Return why a key does not work; None if it does."""
    if key.revoked_at is not None:
        return OAuthError(ErrorCode.INVALID_CLIENT, "the API key has been revoked")
    if key.expires_at is not None and key.expires_at - now < MIN_LIFETIME:
        return OAuthError(ErrorCode.INVALID_CLIENT, "the API key has expired")
    if key.client.disabled_at is not None:
        return OAuthError(ErrorCode.UNAUTHORIZED_CLIENT, "the client is disabled")
    return None
