"""Auth over gRPC: translates between messages and decisions."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
import structlog
from google.api.httpbody_pb2 import HttpBody

from marketdata.auth.v1.auth_service_pb2 import GetJwksRequest
from marketdata.auth.v1.auth_service_pb2_grpc import AuthServiceServicer
from mda.auth.errors import StoreUnavailableError
from mda.auth.form import TokenRequest
from mda.auth.keys import KeySet
from mda.auth.oauth import TokenEndpoint, TokenResponse, unavailable

_JSON: Final = "application/json"
_Context = grpc.aio.ServicerContext[Any, Any]

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class AuthServicer(AuthServiceServicer):
    """Serves `marketdata.auth.v1.AuthService`.

    Parameters
    ----------
    endpoint
        Decides on token requests; called in threads, as it waits for the store.
    keys
        The public keys to publish.
    jwks_max_age_s
        How long these may be cached, in seconds.
    """

    def __init__(self, endpoint: TokenEndpoint, keys: KeySet, jwks_max_age_s: int) -> None:
        self._endpoint = endpoint
        self._keys = keys
        self._jwks_headers = (("x-http-status", "200"), ("cache-control", f"public, max-age={jwks_max_age_s}"))

    async def Token(self, request: HttpBody, context: _Context) -> HttpBody:
        """Exchange an API key for a token. Refusals too are gRPC's OK: their HTTP status is in the metadata."""
        response = await self._answer(_token_request(request, context))
        if response.error is not None:
            _log.info("token_refused", error=response.error.code.value, reason=response.error.description)
        await context.send_initial_metadata((("x-http-status", str(response.status.value)), *response.headers.items()))
        return HttpBody(content_type=_JSON, data=response.body)

    async def GetJwks(self, request: GetJwksRequest, context: _Context) -> HttpBody:
        """Return the public keys that tokens are signed with."""
        await context.send_initial_metadata(self._jwks_headers)
        return HttpBody(content_type=_JSON, data=self._keys.jwks)

    async def _answer(self, request: TokenRequest) -> TokenResponse:
        try:
            return await asyncio.to_thread(self._endpoint.answer, request)
        except StoreUnavailableError:
            _log.exception("store_unavailable")
            return unavailable()


def _token_request(request: HttpBody, context: _Context) -> TokenRequest:
    metadata = context.invocation_metadata() or ()
    authorization = tuple(str(value) for name, value in metadata if name == "authorization")
    return TokenRequest(request.content_type, request.data, authorization)
