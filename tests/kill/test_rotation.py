"""Certificates, signing keys and the gateway are changed under load: no call fails, no row is lost."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from cryptography import x509

from marketdata.client import Client
from marketdata.query.v1.query_service_pb2 import GetLatestQuotesRequest
from marketdata.query.v1.query_service_pb2_grpc import QueryServiceStub
from marketdata.tokens import TokenSource
from marketdata.v1.instrument_pb2 import Instrument
from mda.cli.certificates import ensure_certificates
from tests.kill.traffic import INSTRUMENTS, Lossless, Producer
from tests.stack.conftest import Stack, start

READERS = 50
CALLS_PER_S = 200
KEY_LIFE_S = 60


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stack]:
    settings = {
        "MDA_AUTH_SIGNING_KEY_LIFE_S": str(KEY_LIFE_S),
        "MDA_AUTH_TOKEN_TTL_S": "60",
        "MDA_AUTH_JWKS_MAX_AGE_S": "1",
    }
    running = start(tmp_path_factory.mktemp("rotation"), "--no-feed", covered=False, settings=settings)
    try:
        yield running
    finally:
        running.mda("down")


class Caller:
    """Makes calls at a steady rate, each one once: what fails is noted, not tried again."""

    def __init__(self, stack: Stack, roots: bytes) -> None:
        self._stack = stack
        self._roots = roots
        self.made = 0
        self.failed: list[str] = []

    async def run(self) -> None:
        """Call for ever."""
        credentials = grpc.ssl_channel_credentials(self._roots)
        target = tls_url(self._stack).removeprefix("https://")
        async with grpc.aio.secure_channel(target, credentials) as channel, asyncio.TaskGroup() as calls:
            tokens, stub = TokenSource(channel, self._stack.secrets["api_key"]), QueryServiceStub(channel)
            next_s = time.monotonic()
            while True:
                calls.create_task(self._call(stub, tokens))
                next_s += 1 / CALLS_PER_S
                await asyncio.sleep(max(next_s - time.monotonic(), 0))

    async def _call(self, stub: Any, tokens: TokenSource) -> None:
        self.made += 1
        try:
            metadata = (("authorization", f"Bearer {await tokens.token()}"),)
            await stub.GetLatestQuotes(GetLatestQuotesRequest(dataset="ROTATE"), metadata=metadata, timeout=10)
        except Exception as error:
            self.failed.append(repr(error))


def tls_url(stack: Stack) -> str:
    return str(stack.state["tls_url"])


@asynccontextmanager
async def under_load(stack: Stack, roots: bytes) -> AsyncGenerator[Caller]:
    """Run calls, a producer and readers around the body; then compare what each of them has."""
    producer, readers, caller = Producer(3), [Lossless() for _ in range(READERS)], Caller(stack, roots)
    async with AsyncExitStack() as clients:

        async def connected() -> Client:
            made = Client.connect(tls_url(stack), stack.secrets["api_key"], root_certificates=roots)
            return await clients.enter_async_context(made)

        writing, reading = await connected(), [await connected() for _ in range(5)]
        await writing.put_instruments("ROTATE", [Instrument(symbol=f"R{i}") for i in range(INSTRUMENTS)])
        tasks = [asyncio.create_task(reader.run(reading[i % 5], "ROTATE")) for i, reader in enumerate(readers)]
        async with asyncio.timeout(30):
            await asyncio.gather(*(reader.subscribed.wait() for reader in readers))
        tasks.append(asyncio.create_task(caller.run()))
        producing = asyncio.create_task(producer.run(writing, "ROTATE"))
        yield caller
        producer.stop.set()
        await asyncio.wait_for(producing, 20)
        async with asyncio.timeout(30):
            while any(reader.rows < producer.rows for reader in readers):
                await asyncio.sleep(0.02)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert all(reader.digest == producer.digest for reader in readers)
    assert caller.made > 0
    assert caller.failed == []


async def _until(condition: Callable[[], bool], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.1)


async def test_a_new_certificate_costs_no_call(stack: Stack, tmp_path: Path) -> None:
    ensure_certificates(tmp_path)
    folder = stack.data / "tls"
    roots = (folder / "ca.crt").read_bytes() + (tmp_path / "ca.crt").read_bytes()
    wanted = x509.load_pem_x509_certificate((tmp_path / "tls.crt").read_bytes()).serial_number
    async with under_load(stack, roots) as caller:
        await _until(lambda: caller.made > 200, 20)
        for name in ("tls.key", "tls.crt"):  # the certificate last, each by renaming
            (tmp_path / name).rename(folder / name)
        async with asyncio.timeout(20):
            while await asyncio.to_thread(_served, stack) != wanted:
                await asyncio.sleep(0.1)
        made = caller.made
        await _until(lambda: caller.made > made + 200, 20)


def _served(stack: Stack) -> int:
    """Return the number of the certificate that new connections are shown."""
    host, port = tls_url(stack).removeprefix("https://").split(":")
    return x509.load_pem_x509_certificate(ssl.get_server_certificate((host, int(port))).encode()).serial_number


async def test_a_new_gateway_costs_no_call(stack: Stack) -> None:
    async with under_load(stack, (stack.data / "tls" / "ca.crt").read_bytes()) as caller:
        await _until(lambda: caller.made > 200, 20)
        first = stack.pid("gateway")
        assert first is not None
        await asyncio.to_thread(stack.mda, "restart", "gateway")
        assert stack.pid("gateway") != first
        await _until(lambda: not psutil.pid_exists(first), 60)  # until then it lets its connections go
        made = caller.made
        await _until(lambda: caller.made > made + 200, 20)


@pytest.mark.timeout(600)
async def test_a_new_signing_key_fails_no_call(stack: Stack, pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("--rotate-keys"):
        pytest.skip("takes three minutes: --rotate-keys")
    first = _signs(stack)
    async with under_load(stack, (stack.data / "tls" / "ca.crt").read_bytes()) as caller:
        async with asyncio.timeout(240):
            while await asyncio.to_thread(_signs, stack) == first:
                await asyncio.sleep(1)
        made = caller.made
        await _until(lambda: caller.made > made + 70 * CALLS_PER_S, 240)  # longer than the last of the old tokens


def _signs(stack: Stack) -> str:
    """Return the id of the key that new tokens are signed with."""
    head = stack.token(stack.secrets["api_key"]).partition(".")[0]
    return str(json.loads(base64.urlsafe_b64decode(head + "=="))["kid"])
