"""Tokens: an API key exchanged for short ones, renewed ahead of time."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Final
from urllib.parse import urlencode

import grpc
from google.api.httpbody_pb2 import HttpBody

from marketdata.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from marketdata.errors import ApiError, api_error, error_of

_AHEAD_S: Final = 60.0
"""A token is renewed this long before it ends, in seconds."""
_FRESH_S: Final = 5.0
_TIMEOUT_S: Final = 5.0
_PASSING: Final = {
    "slow_down": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "temporarily_unavailable": grpc.StatusCode.UNAVAILABLE,
}
"""OAuth's errors that say nothing against the key: the same request may succeed a little later."""


class TokenSource:
    """Gives a token that is good for another while.

    Parameters
    ----------
    channel
        To the gateway.
    api_key
        `<id>.<secret>`.
    """

    def __init__(self, channel: grpc.aio.Channel, api_key: str) -> None:
        self._stub = AuthServiceStub(channel)
        self._api_key = api_key
        self._token = ""
        self._renewed_s = 0.0
        self._renew_at_s = 0.0
        self._refused_s = 0.0
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """Return a token.

        Raises
        ------
        ApiError
            If the key is not good, or auth does not answer.
        """
        async with self._lock:
            if time.monotonic() >= self._renew_at_s:
                await self._renew()
            return self._token

    async def renewed(self) -> str:
        """Return a token that is newer than the one at hand, unless that was got a moment ago.

        Errors are those of `token`.
        """
        async with self._lock:
            if not self._token or time.monotonic() - self._renewed_s > _FRESH_S:
                await self._renew()
            return self._token

    def refused(self, began_s: float) -> bool:
        """Get a new token next time, as the one of a call was refused; return whether that may help.

        It may where the token is not fresh: it ended while the machine slept, or its key
        was retired, or its client changed. Of several calls whose token is refused, the
        first has it replaced, and the others go on with the new one.

        Parameters
        ----------
        began_s
            When the call began, on the monotonic clock, in seconds.
        """
        if began_s < max(self._renewed_s, self._refused_s):
            return True
        stale = self._token != "" and time.monotonic() - self._renewed_s > _FRESH_S
        self._token = ""
        self._renew_at_s = 0.0
        self._refused_s = time.monotonic()
        return stale

    async def _renew(self) -> None:
        key_id, _, secret = self._api_key.partition(".")
        form = urlencode({"grant_type": "client_credentials", "client_id": key_id, "client_secret": secret})
        body = HttpBody(content_type="application/x-www-form-urlencoded", data=form.encode())
        try:
            answer = json.loads((await self._stub.Token(body, timeout=_TIMEOUT_S, wait_for_ready=True)).data)
        except grpc.aio.AioRpcError as error:
            raise api_error(error) from error
        if "access_token" not in answer:
            raise _refusal(answer.get("error", "no token"), answer.get("error_description", ""))
        self._token = answer["access_token"]
        life_s = float(answer["expires_in"])
        self._renewed_s = time.monotonic()
        self._renew_at_s = self._renewed_s + max(life_s - _AHEAD_S, life_s / 2)


def _refusal(error: str, description: str) -> ApiError:
    message = description or error
    if error in _PASSING:
        return error_of(_PASSING[error], message, "", {"problem": error})
    return error_of(grpc.StatusCode.UNAUTHENTICATED, message, "INVALID_TOKEN", {"problem": "api_key"})
