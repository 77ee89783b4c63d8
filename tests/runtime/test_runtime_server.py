"""A service as a process: start, serve, drain, stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from issuing import AUDIENCE, ISSUER, Issuer, eventually
from nats.aio.client import Client
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from marketdata.errors import ApiError, api_error
from marketdata.ingestion.v1 import ingestion_service_pb2 as ingestion
from marketdata.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from mda.runtime.probe import serves
from mda.runtime.revocation import STREAM, SUBJECTS
from mda.tape.log import Log
from tests.tape.nats_server import NatsServer

SCRIPT = Path(__file__).with_name("tiny_service.py")
LIFE = ("serving", "draining", "stopped")
LIST = ingestion.ListInstrumentsRequest(dataset="SIM")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Service:
    """A running process, and what it has logged."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self.process = process
        self.log = log
        self.address = f"127.0.0.1:{port}"

    def entries(self) -> list[dict[str, Any]]:
        """Return what the service logged; not what grpc's core says of a health watch that ends with the loop."""
        lines = self.log.read_text().splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry for entry in entries if not entry["logger"].startswith("grpc.")]

    def events(self) -> list[str]:
        return [entry["event"] for entry in self.entries()]

    async def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, 15)


def start(log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as stderr:
        return subprocess.Popen([sys.executable, SCRIPT], env=os.environ | environment, stderr=stderr)


@asynccontextmanager
async def running(folder: Path, **environment: str) -> AsyncIterator[Service]:
    port = int(environment.setdefault("MDA_PORT", str(free_port())))
    log = folder / f"log-{port}"
    settings = {"MDA_AUTH_TARGET": f"127.0.0.1:{port}", "MDA_ISSUER": ISSUER, "MDA_AUDIENCE": AUDIENCE}
    process = start(log, settings | environment)
    try:
        yield Service(process, log, port)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest_asyncio.fixture(autouse=True)
async def _revocations(nats: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the services the log that they follow."""
    monkeypatch.setenv("MDA_NATS_URL", nats.url)
    await Log(client, STREAM, SUBJECTS).create(max_bytes=1 << 20, replicas=1, keep_s=3600)


@pytest.fixture
def jwks(issuer: Issuer, tmp_path: Path) -> str:
    path = tmp_path / "jwks.json"
    path.write_bytes(issuer.jwks())
    return str(path)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.names: set[str] = set()

    async def Export(self, request: Any, _context: Any) -> Any:
        for resource in request.resource_spans:
            self.names |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest_asyncio.fixture
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    made = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield made, f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def bearer(issuer: Issuer, **claims: Any) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {issuer.token(**claims)}"), ("x-request-id", "r-1"))


async def fails(call: Any) -> ApiError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return api_error(caught.value)


async def reflected(channel: grpc.aio.Channel) -> set[str]:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    async for answer in stub.ServerReflectionInfo(iter([request])):
        return {service.name for service in answer.list_services_response.service}
    return set()


async def test_a_service_lives_from_start_to_a_clean_stop(
    issuer: Issuer, jwks: str, tmp_path: Path, collector: tuple[Collector, str]
) -> None:
    metrics = free_port()
    spans, endpoint = collector
    environment = {"MDA_METRICS_PORT": str(metrics), "MDA_OTLP_ENDPOINT": endpoint, "TINY_JWKS": jwks}
    async with running(tmp_path, **environment) as service, grpc.aio.insecure_channel(service.address) as channel:
        await eventually(lambda: serves(service.address))
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service="marketdata.ingestion.v1.IngestionService")
        )
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stub = IngestionServiceStub(channel)
        listed = await stub.ListInstruments(LIST, metadata=bearer(issuer))
        assert [instrument.symbol for instrument in listed.instruments] == ["ALFA"]
        assert (await fails(stub.ListInstruments(LIST, metadata=bearer(issuer, scope="")))).reason == "MISSING_SCOPE"
        names = await reflected(channel)
        assert {"marketdata.query.v1.QueryService", "grpc.health.v1.Health"} <= names
        publish = stub.Publish(metadata=bearer(issuer, scope="quotes:publish"))
        assert await publish.read() == ingestion.PublishResponse()
        page = await asyncio.to_thread(lambda: urlopen(f"http://127.0.0.1:{metrics}/metrics").read().decode())
        assert 'mda_grpc_open_streams{method="/marketdata.ingestion.v1.IngestionService/Publish"} 1.0' in page

        service.process.send_signal(signal.SIGTERM)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await fails(publish.read())).reason == "DRAINING"
        watch.cancel()
        assert await service.ended() == 0

    assert [event for event in service.events() if event in LIFE] == list(LIFE)
    entries = service.entries()
    assert entries[0]["address"] == service.address
    assert {entry["service"] for entry in entries} == {"tiny"}
    refusal = next(entry for entry in entries if entry["event"] == "refused")
    assert (refusal["request_id"], refusal["client"], refusal["level"]) == ("r-1", "mdc_1", "info")
    assert spans.names == {"mda-tiny"}
    path = "/marketdata.ingestion.v1.IngestionService/ListInstruments"
    traces = [span.trace_id.hex() for span in spans.spans if span.name == path]
    assert len(traces) == 2
    assert refusal["trace_id"] == traces[1]


async def test_a_service_serves_on_until_balancers_have_seen_that_it_drains(
    issuer: Issuer, jwks: str, tmp_path: Path
) -> None:
    async with (
        running(tmp_path, TINY_JWKS=jwks, MDA_DRAIN_DELAY_S="2") as service,
        grpc.aio.insecure_channel(service.address) as channel,
    ):
        await eventually(lambda: serves(service.address))
        stub = IngestionServiceStub(channel)
        publish = stub.Publish(metadata=bearer(issuer, scope="quotes:publish"))
        assert await publish.read() == ingestion.PublishResponse()
        service.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        while await serves(service.address):
            await asyncio.sleep(0.01)
        assert (await stub.ListInstruments(LIST, metadata=bearer(issuer))).instruments
        async with grpc.aio.insecure_channel(service.address) as fresh:  # new connections, too
            assert (await IngestionServiceStub(fresh).ListInstruments(LIST, metadata=bearer(issuer))).instruments
        assert (await fails(publish.read())).reason == "DRAINING"
        assert time.monotonic() - began > 1.9
        assert await service.ended() == 0


async def test_sigint_stops_too_and_people_can_read_the_log(issuer: Issuer, tmp_path: Path) -> None:
    away = {"MDA_AUTH_TARGET": f"127.0.0.1:{free_port()}", "MDA_LOG_FORMAT": "console", "MDA_REFLECTION": "false"}
    async with running(tmp_path, **away) as service:
        await eventually(lambda: serves(service.address))
        async with grpc.aio.insecure_channel(service.address) as channel:
            error = await fails(IngestionServiceStub(channel).ListInstruments(LIST, metadata=bearer(issuer)))
            assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "ISSUER_UNAVAILABLE")
            with pytest.raises(grpc.aio.AioRpcError):
                await reflected(channel)
        assert await service.stop(signal.SIGINT) == 0
    text = service.log.read_text()
    assert "serving" in text
    assert not text.startswith("{")


async def test_a_taken_port_is_told_and_ends_the_service(tmp_path: Path, taken_port: int) -> None:
    async with running(tmp_path, MDA_PORT=str(taken_port), TINY_PUBLIC="1") as service:
        assert await service.ended() == 1
    # grpc itself writes a line of its own to stderr, too.
    last = json.loads(service.log.read_text().splitlines()[-1])
    assert (last["event"], last["level"]) == ("cannot listen: is the port taken?", "error")
    assert last["address"] == f"127.0.0.1:{taken_port}"
    assert '"serving"' not in service.log.read_text()


async def test_a_task_that_fails_ends_the_service_with_its_reason(tmp_path: Path) -> None:
    async with running(tmp_path, TINY_FAILS="1") as service:
        assert await service.ended() == 1
    assert "OSError: the tape is gone" in service.log.read_text()


async def test_nobody_serves_at_a_free_port() -> None:
    assert not await serves(f"127.0.0.1:{free_port()}", timeout_s=0.5)
