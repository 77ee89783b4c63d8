"""gRPC servers of the tests' own: one that misbehaves, and one that is the whole API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody

from marketdata.auth.v1 import auth_service_pb2
from marketdata.ingestion.v1 import ingestion_service_pb2
from marketdata.query.v1 import query_service_pb2
from mda.auth.admin import create_api_key, ensure_client
from mda.auth.gate import Gate
from mda.auth.keys import KeySet, new_key_pair
from mda.auth.oauth import TokenEndpoint
from mda.auth.opening import open_store
from mda.auth.servicer import AuthServicer, Documents
from mda.auth.settings import AuthSettings
from mda.auth.tiers import Tier
from mda.auth.token_status import TokenStatus
from mda.auth.tokens import TokenIssuer, TokenReader
from mda.ingestion.__main__ import build as build_ingestion
from mda.query.__main__ import build as build_query
from mda.runtime.access import access_rules
from mda.runtime.handlers import Endpoint
from mda.runtime.identity import TokenVerifier
from mda.runtime.interceptors import CallInterceptor
from mda.runtime.revocation import Revocations
from mda.runtime.server import API_FILES
from mda.runtime.settings import ServiceSettings
from tests.client.services import SCOPES


class Tokens:
    """An auth service that gives numbered tokens of a short life, or whatever it is told to."""

    def __init__(self) -> None:
        self.forms: list[str] = []
        self.life_s = 3600.0
        self.answer: dict[str, Any] | None = None
        self.failure: grpc.StatusCode | None = None

    async def Token(self, request: HttpBody, context: Any) -> HttpBody:
        self.forms.append(request.data.decode())
        await asyncio.sleep(0)
        if self.failure is not None:
            await context.abort(self.failure, "no")
        answer = {"access_token": f"token {len(self.forms)}", "expires_in": self.life_s}
        return HttpBody(content_type="application/json", data=json.dumps(self.answer or answer).encode())

    async def GetJwks(self, request: Any, context: Any) -> HttpBody:
        raise NotImplementedError

    GetMetadata = Introspect = Revoke = GetJwks


class Endings:
    """Services whose streams end at once: well, or with a status and a reason."""

    def __init__(self) -> None:
        self.calls = 0
        self.status: grpc.StatusCode | None = None
        self.trailers: tuple[tuple[str, bytes], ...] = ()
        self.after = 0

    async def Publish(self, requests: Any, context: Any) -> None:
        await self._end(context)

    async def Subscribe(self, requests: Any, context: Any) -> None:
        await self._end(context)

    async def _end(self, context: Any) -> None:
        self.calls += 1
        if self.status is not None and self.calls > self.after:
            await context.abort(self.status, "the end", self.trailers)

    def __getattr__(self, name: str) -> Any:
        return self._end


@asynccontextmanager
async def served(
    endpoints: Sequence[Endpoint], *, interceptors: Any = (), tls: Path | None = None
) -> AsyncIterator[str]:
    """Serve on a free port; give the address."""
    server = grpc.aio.server(interceptors=interceptors)
    server.add_generic_rpc_handlers(tuple(endpoint.handler() for endpoint in endpoints))
    if tls is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = ((tls / "tls.key").read_bytes(), (tls / "tls.crt").read_bytes())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def auth_endpoint(servicer: Any) -> Endpoint:
    return Endpoint(auth_service_pb2.DESCRIPTOR.services_by_name["AuthService"], servicer)


def endings_endpoints(servicer: Endings) -> list[Endpoint]:
    return [
        Endpoint(ingestion_service_pb2.DESCRIPTOR.services_by_name["IngestionService"], servicer),
        Endpoint(query_service_pb2.DESCRIPTOR.services_by_name["QueryService"], servicer),
    ]


class Api:
    """The whole API in this process."""

    def __init__(
        self,
        url: str,
        api_key: str,
        draining: asyncio.Event,
        other_api_key: Callable[[], str],
        revocations: Revocations,
    ) -> None:
        self.other_api_key = other_api_key
        self.revocations = revocations
        self.url = url
        self.target = url.partition("//")[2]
        self.api_key = api_key
        self.draining = draining


@asynccontextmanager
async def whole_api(
    nats_url: str, folder: Path, *, tls: Path | None = None, token_s: float = 300
) -> AsyncIterator[Api]:
    """Serve auth, ingestion and query, as their own `__main__` build them, on one port."""
    settings = ServiceSettings(nats_url=nats_url)
    store = open_store(AuthSettings.model_validate({"database_url": f"sqlite:///{folder / 'auth.db'}"}))
    draining = asyncio.Event()
    try:
        keys = KeySet([new_key_pair(datetime.now(UTC))])
        api_key = create_api_key(store, ensure_client(store, "tests", Tier.INTERNAL, SCOPES)).text
        issuer = TokenIssuer(keys, issuer=settings.issuer, audience=settings.audience, ttl=timedelta(seconds=token_s))

        async def fetch_jwks() -> bytes:
            return keys.jwks

        def other_api_key() -> str:
            return create_api_key(store, ensure_client(store, "others", Tier.INTERNAL, SCOPES)).text

        verifier = TokenVerifier(fetch_jwks, settings.issuer, settings.audience)
        interceptor = CallInterceptor(access_rules(*API_FILES), verifier)
        async with build_ingestion(settings, draining) as ingestion, build_query(settings, draining) as query:
            gate = Gate(store)
            reader = TokenReader(keys, issuer=settings.issuer, audience=settings.audience)
            auth = AuthServicer(
                TokenEndpoint(store, issuer, gate=gate),
                TokenStatus(store, gate, reader),
                keys,
                Documents(b"{}", 300),
                changed=lambda: None,
            )
            endpoints = [auth_endpoint(auth), *ingestion, *query]
            async with served(endpoints, interceptors=(interceptor,), tls=tls) as address:
                url = f"{'https' if tls else 'http'}://{address}"
                yield Api(url, api_key, draining, other_api_key, verifier.revocations)
    finally:
        store.close()
