"""Lets clients in by their API keys, as all of OAuth's endpoints do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NoReturn, Protocol

from mda.auth import api_key
from mda.auth.addresses import network_of
from mda.auth.clock import Clock, utc_now
from mda.auth.errors import ErrorCode, OAuthError, StoreUnavailableError
from mda.auth.form import ClientCredentials, TokenRequest, client_credentials
from mda.auth.records import ApiKey, Event
from mda.auth.refusals import EventStore, Refusals
from mda.auth.throttle import Attempt, Throttle

MIN_LIFETIME: Final = timedelta(seconds=1)
"""A token lives whole seconds, and never longer than its key; so a key must have one left."""
UNKNOWN: Final = "unknown"
"""The audit log's name for who has shown no key that there is: what came may be a secret in the wrong place."""

_LONGEST_KEY_ID: Final = 32
# What the secret of an unknown key is compared with, so that it takes as long as a wrong one.
_NOBODYS_HASH: Final = api_key.hash_secret(api_key.new_secret())


class CredentialStore(EventStore, Protocol):
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
        self._refusals = Refusals(store)

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
        attempt = self._begin(request, credentials)
        try:
            key = self._working_key(request, credentials)
        except StoreUnavailableError:
            self._throttle.take_back(attempt)
            raise
        except OAuthError:
            self._throttle.failed(attempt, self._clock())
            raise
        self._throttle.succeeded(attempt, self._clock())
        return key

    def refuse(self, event: Event, error: OAuthError, request: TokenRequest) -> NoReturn:
        """Raise an error, and put it in the audit log.

        Parameters
        ----------
        event
            What is refused, to whom.
        error
            Why.
        request
            Which request it is about.

        Raises
        ------
        OAuthError
            The error.
        StoreUnavailableError
            If the store does not answer.
        """
        told = {"error": error.code.value, "reason": error.description, "address": network_of(request.address)}
        self._refusals.note(replace(event, refused=True, details={**event.details, **told}))
        raise error

    def _begin(self, request: TokenRequest, credentials: ClientCredentials) -> Attempt:
        # What cannot be the id of a key is not kept: it may be long, or a secret in the wrong place.
        key_id = credentials.client_id if len(credentials.client_id) <= _LONGEST_KEY_ID else ""
        attempt = self._throttle.begin(network_of(request.address), key_id, self._clock())
        wait_s = attempt.wait.total_seconds()
        if wait_s > 0:
            raise OAuthError(
                ErrorCode.SLOW_DOWN, "too many wrong secrets; come again later", retry_after_s=math.ceil(wait_s)
            )
        return attempt

    def _working_key(self, request: TokenRequest, credentials: ClientCredentials) -> ApiKey:
        # Reading the whole key would take longer for one that exists; so that comes after the proof.
        secret_hash = self._store.find_secret_hash(credentials.client_id)
        matches = api_key.verify_secret(credentials.client_secret, secret_hash or _NOBODYS_HASH)
        key = self._store.find_api_key(credentials.client_id) if matches else None
        now = self._clock()
        if key is None:
            who = UNKNOWN if secret_hash is None else credentials.client_id
            error = OAuthError(ErrorCode.INVALID_CLIENT, "the client_id is unknown or the client_secret is wrong")
            self.refuse(Event(who, "api_key.use", who, now), error, request)
        error = _fault(key, now)
        if error is not None:
            self.refuse(Event(key.id, "api_key.use", key.id, now), error, request)
        return key


def _fault(key: ApiKey, now: datetime) -> OAuthError | None:
    """Return why a key does not work; None if it does."""
    if key.revoked_at is not None:
        return OAuthError(ErrorCode.INVALID_CLIENT, "the API key has been revoked")
    if key.expires_at is not None and key.expires_at - now < MIN_LIFETIME:
        return OAuthError(ErrorCode.INVALID_CLIENT, "the API key has expired")
    if key.client.disabled_at is not None:
        return OAuthError(ErrorCode.UNAUTHORIZED_CLIENT, "the client is disabled")
    return None
