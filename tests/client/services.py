"""Auth, ingestion and query as processes of their own, without a gateway before them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from marketdata.history import History
from marketdata.ingestion.v1.ingestion_service_pb2 import PutInstrumentsRequest
from marketdata.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from marketdata.publisher import Publisher
from marketdata.subscriber import Start, Subscriber
from marketdata.tokens import TokenSource
from marketdata.v1.instrument_pb2 import Instrument
from mda.auth.admin import create_api_key, ensure_client
from mda.auth.opening import open_store
from mda.auth.settings import AuthSettings
from mda.auth.tiers import Tier
from mda.runtime.probe import serves
from tests.polling import until
from tests.tape.nats_server import NatsServer, free_port

SCOPES = ("instruments:write", "quotes:publish", "quotes:read")
OPTIONS = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200))


class Services:
    """The services, and NATS, on free ports; each can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.nats = NatsServer(folder)
        self._folder = folder
        self._ports = {name: free_port() for name in ("auth", "ingestion", "query")}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._database = f"sqlite:///{folder / 'auth.db'}"

    def start_all(self) -> None:
        self.nats.start()
        for name in self._ports:
            self._spawn(name)
        for name in self._ports:
            self._until_serving(name)

    def start(self, name: str) -> None:
        self._spawn(name)
        self._until_serving(name)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        process = self._processes.pop(name)
        process.send_signal(number)
        process.wait(20)

    def tell(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process that lives on."""
        self._processes[name].send_signal(number)

    def stop_all(self) -> None:
        for name in tuple(self._processes):
            self.kill(name, signal.SIGTERM)
        self.nats.kill()

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self._ports[name]}"

    def api_key(self, name: str, scopes: tuple[str, ...] = SCOPES) -> str:
        """Make an API key for a client."""
        store = open_store(AuthSettings.model_validate({"database_url": self._database}))
        try:
            return create_api_key(store, ensure_client(store, name, Tier.INTERNAL, scopes)).text
        finally:
            store.close()

    def _spawn(self, name: str) -> None:
        env = {
            **os.environ,
            "MDA_PORT": str(self._ports[name]),
            "MDA_NATS_URL": self.nats.url,
            "MDA_AUTH_TARGET": self.address("auth"),
            "MDA_AUTH_DATABASE_URL": self._database,
            "MDA_AUTH_KEK": "A" * 43,
            "MDA_INGESTION_TAPE_MAX_BYTES": str(1 << 27),
            "MDA_DRAIN_S": "1",
        }
        argv = [sys.executable, "-m", f"mda.{name}"]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(argv, env=env, stdout=log, stderr=log)

    def _until_serving(self, name: str) -> None:
        def serving() -> bool:
            assert self._processes[name].poll() is None, (self._folder / f"{name}.log").read_text()
            return asyncio.run(serves(self.address(name), 0.5))

        until(serving, within_s=30)


class Connection:
    """Channels to the services, with the tokens of one API key."""

    def __init__(self, channels: dict[str, grpc.aio.Channel], api_key: str) -> None:
        self.channels = channels
        self.tokens = TokenSource(channels["auth"], api_key)

    async def put(self, dataset: str, *symbols: str) -> None:
        """Make a dataset with instruments."""
        request = PutInstrumentsRequest(dataset=dataset, instruments=[Instrument(symbol=s) for s in symbols])
        stub: Any = IngestionServiceStub(self.channels["ingestion"])
        await stub.PutInstruments(request, metadata=await self.metadata(), timeout=10, wait_for_ready=True)

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {await self.tokens.token()}"),)

    def publisher(self, dataset: str, producer: str, **options: Any) -> Any:
        return Publisher.open(self.channels["ingestion"], self.tokens, dataset, producer, **options)

    def subscriber(self, dataset: str, symbols: list[str] | None = None, start: Start | None = None) -> Subscriber:
        return Subscriber(self.channels["query"], self.tokens, dataset, symbols, start or Start())

    @property
    def history(self) -> History:
        return History(self.channels["query"], self.tokens)


@asynccontextmanager
async def connected(services: Services, api_key: str) -> AsyncIterator[Connection]:
    """Open channels to all services."""
    channels = {
        name: grpc.aio.insecure_channel(services.address(name), options=OPTIONS)
        for name in ("auth", "ingestion", "query")
    }
    try:
        yield Connection(channels, api_key)
    finally:
        for channel in channels.values():
            await channel.close()
