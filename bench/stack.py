"""A stack of its own for the measurements, and connections to it."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from nats.aio.client import Client as Nats

from marketdata.archive.v1.archive_service_pb2 import GetStatusRequest, GetStatusResponse
from marketdata.archive.v1.archive_service_pb2_grpc import ArchiveServiceStub
from marketdata.client import CHANNEL_OPTIONS, Client
from marketdata.columns import Batch
from marketdata.tokens import TokenSource
from marketdata.v1.instrument_pb2 import Instrument
from mda.cli.bench_run import INSTRUMENTS
from mda.cli.bench_run import quotes as made_quotes

DATASET: Final = "BENCH"


@dataclass(frozen=True, slots=True)
class Running:
    """A running stack.

    Attributes
    ----------
    state
        As `state.json` has it.
    secrets
        Its API key and NATS's token.
    folder
        What it keeps.
    """

    state: dict[str, Any]
    secrets: dict[str, str]
    folder: Path

    @property
    def url(self) -> str:
        """The gateway's address."""
        return self.state["url"]

    def target(self, service: str) -> str:
        """Return the address of a service, past the gateway."""
        return f"127.0.0.1:{self.state['ports'][service]}"

    def pid(self, process: str) -> int:
        """Return a process's id."""
        return next(entry["pid"] for entry in self.state["processes"] if entry["name"] == process)

    @asynccontextmanager
    async def nats(self) -> AsyncGenerator[Nats]:
        """Connect to NATS itself."""
        client = Nats()
        await client.connect(f"nats://{self.target('nats')}", token=self.secrets["nats_token"])
        try:
            yield client
        finally:
            await client.close()

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[Client]:
        """Connect through the gateway."""
        async with Client.connect(self.url, self.secrets["api_key"]) as client:
            yield client

    @asynccontextmanager
    async def channel(self, service: str, *, gateway: bool) -> AsyncGenerator[tuple[grpc.aio.Channel, TokenSource]]:
        """Open a channel, through the gateway or straight to a service, and a source of tokens."""
        through = grpc.aio.insecure_channel(self.url.removeprefix("http://"), CHANNEL_OPTIONS)
        channel = through if gateway else grpc.aio.insecure_channel(self.target(service), CHANNEL_OPTIONS)
        async with through, channel:
            yield channel, TokenSource(through, self.secrets["api_key"])


@contextmanager
def running_stack() -> Generator[Running]:
    """Run a stack without the synthetic feed, in a folder that is deleted after."""
    mda = str(Path(sys.executable).with_name("mda"))
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as folder:
        ports = ["--port", str(free_port()), "--tls-port", str(free_port())]
        subprocess.run([mda, "up", "--detach", "--no-feed", "--data", folder, *ports], check=True)
        try:
            state, secrets = (json.loads((Path(folder) / f"{name}.json").read_text()) for name in ("state", "secrets"))
            yield Running(state, secrets, Path(folder))
        finally:
            subprocess.run([mda, "down", "--data", folder], check=True)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def put_instruments(running: Running) -> None:
    """Make the dataset."""
    async with running.client() as client:
        await client.put_instruments(DATASET, [Instrument(symbol=f"B{i}") for i in range(INSTRUMENTS)])


async def archived(running: Running) -> None:
    """Wait until the lake has all that is on the tape."""
    async with running.channel("archive", gateway=True) as (channel, tokens):
        stub = ArchiveServiceStub(channel)
        metadata = (("authorization", f"Bearer {await tokens.token()}"),)
        await asyncio.sleep(3)  # the archive looks for new datasets every other second
        status = GetStatusResponse(tape_sequence=1)
        while status.archived_sequence < status.tape_sequence:
            await asyncio.sleep(0.5)
            status = await stub.GetStatus(GetStatusRequest(dataset=DATASET), metadata=metadata)


def quotes(rows: int, start_ns: int) -> Batch:
    """Return quotes of the dataset's instruments, as `mda bench` publishes them."""
    return made_quotes(rows, start_ns, np.arange(1, INSTRUMENTS + 1))
