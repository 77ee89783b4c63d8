"""Auth over gRPC: translates between messages and decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import grpc
import structlog
from google.api.httpbody_pb2 import HttpBody

from marketdata.auth.v1.auth_service_pb2 import GetJwksRequest, GetMetadataRequest
from marketdata.auth.v1.auth_service_pb2_grpc import AuthServiceServicer
from mda.auth.errors import StoreUnavailableError
from mda.auth.form import TokenRequest
from mda.auth.keys import KeySet
from mda.auth.oauth import TokenEndpoint, TokenResponse, unavailable
from mda.auth.token_status import TokenStatus

_JSON: Final = "application/json"
_Context = grpc.aio.ServicerContext[Any, Any]

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Documents:
    """What is published.

    Attributes
    ----------
    metadata
        The metadata document, from `mda.auth.metadata`.
    max_age_s
        How long that and the public keys may be cached, in seconds.
    """

    metadata: bytes
    max_age_s: int


class AuthServicer(AuthServiceServicer):
    """Serves `marketdata.auth.v1.AuthService`.

    Parameters
    ----------
    endpoint
        Decides on token requests; called in threads, as it waits for the store.
    status
        Tells of tokens and ends them; called in threads, too.
    keys
        The public keys to publish.
    documents
        What is published.
    changed
        Called after each revocation, so that the services hear of it.
    """

    def __init__(
        self,
        endpoint: TokenEndpoint,
        status: TokenStatus,
        keys: KeySet,
        documents: Documents,
        changed: Callable[[], None],
    ) -> None:
        self._endpoint = endpoint
        self._status = status
        self._keys = keys
        self._metadata = documents.metadata
        self._headers = (("x-http-status", "200"), ("cache-control", f"public, max-age={documents.max_age_s}"))
        self._changed = changed

    async def Token(self, request: HttpBody, context: _Context) -> HttpBody:
        """Exchange an API key for a token. Refusals too are gRPC's OK: their HTTP status is in the metadata."""
        return await _answer(self._endpoint.answer, request, context)

    async def Introspect(self, request: HttpBody, context: _Context) -> HttpBody:
        """Tell whether a token is good; refusals as those of `Token`."""
        return await _answer(self._status.introspect, request, context)

    async def Revoke(self, request: HttpBody, context: _Context) -> HttpBody:
        """End a token; refusals as those of `Token`."""
        answer = await _answer(self._status.revoke, request, context)
        self._changed()
        return answer

    async def GetJwks(self, request: GetJwksRequest, context: _Context) -> HttpBody:
        """Return the public keys that tokens are signed with."""
        await context.send_initial_metadata(self._headers)
        return HttpBody(content_type=_JSON, data=self._keys.jwks)

    async def GetMetadata(self, request: GetMetadataRequest, context: _Context) -> HttpBody:
        """Return what there is here."""
        await context.send_initial_metadata(self._headers)
        return HttpBody(content_type=_JSON, data=self._metadata)


async def _answer(decide: Callable[[TokenRequest], TokenResponse], request: HttpBody, context: _Context) -> HttpBody:
    try:
        response = await asyncio.to_thread(decide, _token_request(request, context))
    except StoreUnavailableError:
        _log.exception("store_unavailable")
        response = unavailable()
    if response.error is not None:
        _log.info("token_refused", error=response.error.code.value, reason=response.error.description)
    await context.send_initial_metadata((("x-http-status", str(response.status.value)), *response.headers.items()))
    return HttpBody(content_type=_JSON, data=response.body)


def _token_request(request: HttpBody, context: _Context) -> TokenRequest:
    metadata = context.invocation_metadata() or ()
    authorization = tuple(str(value) for name, value in metadata if name == "authorization")
    return TokenRequest(request.content_type, request.data, authorization, _address(context))


def _address(context: _Context) -> str:
    """Return the address of the caller: the gateway puts the one that it sees at the end of the list."""
    metadata = dict(context.invocation_metadata() or ())
    forwarded = str(metadata.get("x-forwarded-for", "")).rpartition(",")[2].strip()
    # A peer is `ipv4:<address>:<port>` or `ipv6:[<address>]:<port>`, the brackets escaped.
    return forwarded or unquote(context.peer()).partition(":")[2].rpartition(":")[0].strip("[]")
