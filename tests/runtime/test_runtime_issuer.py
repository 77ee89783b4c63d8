"""Keys of the issuer, whichever of its instances serves."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from marketdata.auth.v1 import auth_service_pb2_grpc
from mda.runtime.issuer import fetch_jwks

KEYS = b'{"keys": []}'


class Instance(auth_service_pb2_grpc.AuthServiceServicer):
    """An instance of the auth service: one that serves, or the sidecar that answers for one that has gone."""

    def __init__(self, *, gone: bool) -> None:
        self.gone = gone
        self.calls = 0

    async def GetJwks(self, request: Any, context: Any) -> HttpBody:
        self.calls += 1
        if self.gone:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no healthy upstream")
        return HttpBody(content_type="application/json", data=KEYS)


@asynccontextmanager
async def target_of(*instances: Instance) -> AsyncGenerator[str]:
    """Run instances; give the name of all of them, as a headless service's."""
    async with AsyncExitStack() as stack:
        addresses: list[str] = []
        for instance in instances:
            server = grpc.aio.server()
            stack.push_async_callback(server.stop, None)
            auth_service_pb2_grpc.add_AuthServiceServicer_to_server(instance, server)
            addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
            await server.start()
        yield f"ipv4:{','.join(addresses)}"


async def test_an_instance_that_has_gone_does_not_matter() -> None:
    instances = [Instance(gone=True), Instance(gone=False)]
    async with target_of(*instances) as target:
        for _ in range(8):
            assert await fetch_jwks(target) == KEYS
    assert instances[1].calls == 8
    assert instances[0].calls > 0


async def test_none_that_serves_is_told() -> None:
    async with target_of(Instance(gone=True), Instance(gone=True)) as target:
        with pytest.raises(ConnectionError, match="auth: UNAVAILABLE"):
            await fetch_jwks(target)


async def test_nobody_there_is_told_in_time() -> None:
    async with target_of(Instance(gone=False)) as target:
        pass
    with pytest.raises(ConnectionError, match="auth: DEADLINE_EXCEEDED"):
        await fetch_jwks(target)
