"""Auth's services on a real port, behind the interceptor that guards them in production."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from marketdata.auth.v1 import client_service_pb2, client_service_pb2_grpc
from marketdata.errors import ApiError, api_error
from mda.auth.client_servicer import ClientServicer
from mda.auth.clients import Clients
from mda.auth.keys import KeySet
from mda.auth.store import Store
from mda.runtime.access import access_rules
from mda.runtime.handlers import Endpoint
from mda.runtime.identity import TokenVerifier
from mda.runtime.interceptors import CallInterceptor
from mda.runtime.server import API_FILES
from tests.auth.conftest import AUDIENCE, ISSUER

CLIENTS = client_service_pb2.DESCRIPTOR.services_by_name["ClientService"]


@dataclass
class Api:
    """A stub that calls with a token."""

    channel: grpc.aio.Channel
    token: str = ""

    async def call(self, method: str, request: Any, **options: Any) -> Any:
        """Return the answer of a ClientService method."""
        stub = client_service_pb2_grpc.ClientServiceStub(self.channel)
        metadata = (("authorization", f"Bearer {options.get('token', self.token)}"),)
        return await getattr(stub, method)(request, metadata=metadata, timeout=10)

    async def refused(self, method: str, request: Any, **options: Any) -> ApiError:
        """Return the error of a ClientService method."""
        try:
            answer = await self.call(method, request, **options)
        except grpc.aio.AioRpcError as error:
            return api_error(error)
        raise AssertionError(f"{method} answered {answer}")


@asynccontextmanager
async def serving(endpoints: list[Endpoint], keys: KeySet) -> AsyncIterator[Api]:
    """Serve endpoints as `mda.runtime.server` does."""

    async def fetch() -> bytes:
        return keys.jwks

    refused = {endpoint.service.full_name: endpoint.refused for endpoint in endpoints if endpoint.refused}
    verifier = TokenVerifier(fetch, ISSUER, AUDIENCE)
    server = grpc.aio.server(interceptors=[CallInterceptor(access_rules(*API_FILES), verifier, refused)])
    server.add_generic_rpc_handlers(tuple(endpoint.handler() for endpoint in endpoints))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Api(channel)
    finally:
        await server.stop(None)


def clients_endpoint(store: Store, changed: Callable[[], None] = lambda: None) -> Endpoint:
    servicer = ClientServicer(Clients(store), store, changed)
    return Endpoint(CLIENTS, servicer, refused=servicer.refused)
