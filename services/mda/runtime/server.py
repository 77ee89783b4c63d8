"""One way to start and stop a service."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final

import grpc
import structlog
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from marketdata.archive.v1 import archive_service_pb2
from marketdata.auth.v1 import auth_service_pb2, client_service_pb2
from marketdata.ingestion.v1 import ingestion_service_pb2
from marketdata.query.v1 import query_service_pb2
from mda.runtime.access import access_rules
from mda.runtime.handlers import Endpoint
from mda.runtime.identity import TokenVerifier
from mda.runtime.interceptors import CallInterceptor
from mda.runtime.issuer import fetch_jwks
from mda.runtime.logs import configure_logs
from mda.runtime.revocation import following_revocations
from mda.runtime.settings import ServiceSettings
from mda.runtime.tasks import background_tasks
from mda.runtime.telemetry import start_telemetry, stop_telemetry
from mda.runtime.usage.sharing import shared_usage

API_FILES: Final = (
    archive_service_pb2.DESCRIPTOR,
    auth_service_pb2.DESCRIPTOR,
    client_service_pb2.DESCRIPTOR,
    ingestion_service_pb2.DESCRIPTOR,
    query_service_pb2.DESCRIPTOR,
)
"""The descriptors of every service of the product."""

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""The most bytes of a message, in either direction; also the default of other clients."""

_GC_THRESHOLDS: Final = (50_000, 20, 50)
_LOG: Final = structlog.stdlib.get_logger("mda.server")
_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", 10_000),
    ("grpc.http2.lookahead_bytes", 8 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Clients may ping often: a gateway's keepalive is not an attack.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A taken port is an error, not a second server on it.
    ("grpc.so_reuseport", 0),
)

Build = Callable[[asyncio.Event], AbstractAsyncContextManager[Sequence[Endpoint]]]
"""Opens what a service needs and gives its endpoints; the event is set when it drains."""


def run_service(name: str, settings: ServiceSettings, build: Build, *, verifies_tokens: bool = True) -> None:
    """Run a service until SIGTERM or SIGINT. Call once, from `__main__`.

    Parameters
    ----------
    name
        The service's name, for logs, traces and health.
    settings
        Where it listens, and so on.
    build
        Opens what it needs.
    verifies_tokens
        Whether it has methods that need a token.
    """
    configure_logs(name, settings)
    start_telemetry(name, settings)
    # What is imported stays: it need not be looked through again at each collection, and
    # what calls make has hardly any cycles.
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, build, verifies_tokens))
    finally:
        stop_telemetry()


async def _serve(settings: ServiceSettings, build: Build, verifies_tokens: bool) -> None:
    stopping, draining = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with (
        build(draining) as endpoints,
        _verifier(settings, verifies_tokens) as verifier,
        shared_usage(settings) as usage,
        background_tasks() as tasks,
    ):
        if verifier is not None:
            tasks.create_task(verifier.warm_up())
        refused = {endpoint.service.full_name: endpoint.refused for endpoint in endpoints if endpoint.refused}
        interceptor = CallInterceptor(access_rules(*API_FILES), verifier, refused, usage)
        server = grpc.aio.server(interceptors=[interceptor], options=_OPTIONS)
        server.add_generic_rpc_handlers(tuple(endpoint.handler() for endpoint in endpoints))
        health_servicer = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
        if settings.reflection:
            reflection.enable_server_reflection(_reflected_names(), server)
        port = _bind(server, settings)
        await server.start()
        for service in ("", *(endpoint.service.full_name for endpoint in endpoints)):
            await health_servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
        _LOG.info("serving", address=f"{settings.host}:{port}")
        await stopping.wait()
        _LOG.info("draining", delay_s=settings.drain_delay_s, grace_s=settings.drain_s)
        await health_servicer.enter_graceful_shutdown()
        # Whoever balances has to see that before calls are turned away.
        await asyncio.sleep(settings.drain_delay_s)
        draining.set()
        await server.stop(settings.drain_s)
    _LOG.info("stopped")


def _bind(server: grpc.aio.Server, settings: ServiceSettings) -> int:
    address = f"{settings.host}:{settings.port}"
    try:
        return server.add_insecure_port(address)
    except RuntimeError:
        _LOG.error("cannot listen: is the port taken?", address=address)
        sys.exit(1)


def _reflected_names() -> list[str]:
    """Return the names of all services: reflection describes the API, not the process."""
    names = [service.full_name for file in API_FILES for service in file.services_by_name.values()]
    return [*names, health.SERVICE_NAME, reflection.SERVICE_NAME]


@asynccontextmanager
async def _verifier(settings: ServiceSettings, wanted: bool) -> AsyncGenerator[TokenVerifier | None]:
    if not wanted:
        yield None
        return
    async with following_revocations(settings) as revocations:
        fetch = partial(fetch_jwks, settings.auth_target)
        yield TokenVerifier(fetch, settings.issuer, settings.audience, revocations=revocations)
