"""A service of few lines, started as a process of its own by the tests.

It answers GetJwks with the file that TINY_JWKS names, lists one instrument, and holds
Publish open until it drains. With TINY_FAILS a task of its fails soon after the start.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from google.api.httpbody_pb2 import HttpBody

from marketdata.auth.v1 import auth_service_pb2
from marketdata.ingestion.v1 import ingestion_service_pb2 as ingestion
from marketdata.v1.instrument_pb2 import Instrument
from mda.market.errors import draining
from mda.runtime.handlers import Endpoint
from mda.runtime.server import run_service
from mda.runtime.settings import ServiceSettings
from mda.runtime.tasks import background_tasks

_JWKS = Path(os.environ["TINY_JWKS"]).read_bytes() if "TINY_JWKS" in os.environ else b""


class Auth:
    async def Token(self, _request: HttpBody, _context: Any) -> HttpBody:
        return HttpBody()

    async def GetJwks(self, _request: Any, _context: Any) -> HttpBody:
        return HttpBody(data=_JWKS)

    GetMetadata = Introspect = Revoke = Token


class Ingestion:
    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping

    async def ListInstruments(self, _request: Any, _context: Any) -> ingestion.ListInstrumentsResponse:
        return ingestion.ListInstrumentsResponse(instruments=[Instrument(symbol="ALFA")])

    async def Publish(self, _requests: Any, context: Any) -> None:
        await context.write(b"")
        await self._stopping.wait()
        raise draining()

    def __getattr__(self, name: str) -> Any:
        """Stand in for the methods that no test calls."""
        return self.ListInstruments


async def _fail() -> None:
    raise OSError("the tape is gone")


@asynccontextmanager
async def build(stopping: asyncio.Event) -> AsyncGenerator[Sequence[Endpoint]]:
    async with background_tasks() as tasks:
        if "TINY_FAILS" in os.environ:
            tasks.create_task(_fail())
        auth = auth_service_pb2.DESCRIPTOR.services_by_name["AuthService"]
        service = ingestion.DESCRIPTOR.services_by_name["IngestionService"]
        yield [
            Endpoint(auth, Auth()),
            Endpoint(service, Ingestion(stopping), frozenset({"Publish"}), frozenset({"Publish"})),
        ]


if __name__ == "__main__":
    run_service("tiny", ServiceSettings(), build, verifies_tokens="TINY_PUBLIC" not in os.environ)
