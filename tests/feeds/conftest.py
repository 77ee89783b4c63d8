"""A real NATS, auth and ingestion, for the feed that publishes."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from feed_api import Api, free_port

from marketdata.auth.v1.auth_service_pb2 import GetJwksRequest
from marketdata.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from mda.auth.__main__ import build as build_auth
from mda.auth.admin import create_api_key, ensure_client
from mda.auth.opening import open_store
from mda.auth.settings import AuthSettings
from mda.auth.tiers import Tier
from mda.ingestion.__main__ import build as build_ingestion
from mda.runtime.access import access_rules
from mda.runtime.identity import TokenVerifier
from mda.runtime.interceptors import CallInterceptor
from mda.runtime.server import API_FILES
from mda.runtime.settings import ServiceSettings


def _accepts(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def nats_url(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    binary = Path(sys.executable).with_name("nats-server")
    command = [str(binary), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(tmp_path / "jetstream")]
    with (tmp_path / "nats.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    deadline = time.monotonic() + 15
    while not _accepts(port):
        assert process.poll() is None, (tmp_path / "nats.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield f"nats://127.0.0.1:{port}"
    process.terminate()
    process.wait()


@pytest_asyncio.fixture
async def api(tmp_path: Path, nats_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """Auth and ingestion at one address, as the gateway would show them."""
    monkeypatch.setenv("MDA_AUTH_DATABASE_URL", f"sqlite:///{tmp_path / 'auth.db'}")
    monkeypatch.setenv("MDA_AUTH_KEK", "A" * 43)
    settings = ServiceSettings.model_validate({"nats_url": nats_url})
    store = open_store(AuthSettings())
    key = create_api_key(
        store, ensure_client(store, "sim", Tier.PRO, ["quotes:publish", "quotes:read", "instruments:write"])
    )
    store.close()
    draining = asyncio.Event()
    port = free_port()

    async def fetch_jwks() -> bytes:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            return (await AuthServiceStub(channel).GetJwks(GetJwksRequest())).data

    async with build_auth(settings, draining) as first, build_ingestion(settings, draining) as second:
        verifier = TokenVerifier(fetch_jwks, settings.issuer, settings.audience)
        server = grpc.aio.server(interceptors=[CallInterceptor(access_rules(*API_FILES), verifier)])
        server.add_generic_rpc_handlers(tuple(endpoint.handler() for endpoint in (*first, *second)))
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        yield Api(f"http://127.0.0.1:{port}", key.text)
        draining.set()
        await server.stop(1)
