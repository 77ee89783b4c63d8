"""1,000 subscribers at 10 batches a second: the server's CPU, beside a bare grpc.aio server's."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
import psutil
import uvloop

from bench.report import Report
from bench.stack import DATASET, Running, free_port, quotes
from marketdata.publisher import Publisher
from marketdata.query.v1.query_service_pb2 import SubscribeRequest
from mda.tape.payload import encode_payload

_METHOD: Final = "/marketdata.query.v1.QueryService/Subscribe"
_SUBSCRIBERS: Final = 1_000
_CHANNELS: Final = 10
_PER_S: Final = 10
_ROWS: Final = 100
_SECONDS: Final = 5.0
_ROUNDS: Final = 3


@dataclass(slots=True)
class _Figures:
    """What a server took, in the mean of its rounds so far: CPU in cores, memory in MB, the gateway's CPU."""

    cores: float = 0.0
    megabytes: float = 0.0
    gateway_cores: float = 0.0

    def add(self, cores: float, megabytes: float, gateway_cores: float = 0.0) -> None:
        self.cores += cores / _ROUNDS
        self.megabytes += megabytes / _ROUNDS
        self.gateway_cores += gateway_cores / _ROUNDS


async def run(running: Running, report: Report) -> None:
    """Measure the query service past the gateway and through it, and the bare server, in turns."""
    bare, past, through = _Figures(), _Figures(), _Figures()
    for _ in range(_ROUNDS):  # in turns: a machine is not as fast all the time
        bare.add(*await _bare())
        past.add(*await _ours(running, gateway=False))
        through.add(*await _ours(running, gateway=True))
    group = f"{_SUBSCRIBERS:,} subscribers, {_PER_S} batches/s of {_ROWS} rows"
    report.add(group, "bare grpc.aio, server CPU", bare.cores, "cores")
    report.add(group, "bare grpc.aio, server memory", bare.megabytes, "MB")
    for name, figures in (("past the gateway", past), ("through the gateway", through)):
        report.add(group, f"query {name}, server CPU", figures.cores, "cores", bare.cores)
        report.add(group, f"query {name}, server memory", figures.megabytes, "MB", bare.megabytes)
    report.add(group, "the gateway's own CPU", through.gateway_cores, "cores")


async def _ours(running: Running, *, gateway: bool) -> tuple[float, float, float]:
    async with running.channel("ingestion", gateway=False) as (channel, tokens):
        target = running.url.removeprefix("http://") if gateway else running.target("query")
        query, envoy = psutil.Process(running.pid("query")), psutil.Process(running.pid("gateway"))
        async with Publisher.open(channel, tokens, DATASET, "fanout") as publisher:

            async def publish() -> None:
                await publisher.publish(quotes(_ROWS, time.time_ns()))

            envoy_before = _cpu_s(envoy)
            cores, megabytes = await _measured(query, target, await tokens.token(), publish)
            return cores, megabytes, (_cpu_s(envoy) - envoy_before) / _SECONDS


async def _bare() -> tuple[float, float]:
    port = free_port()
    server = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.fanout", "serve", str(port))
    try:

        async def nothing() -> None:
            """Do nothing: the bare server makes its batches itself."""

        return await _measured(psutil.Process(server.pid), f"127.0.0.1:{port}", "", nothing)
    finally:
        server.terminate()
        await server.wait()


async def _measured(
    server: psutil.Process, target: str, token: str, publish: Callable[[], Awaitable[None]]
) -> tuple[float, float]:
    """Return the server's CPU, in cores, and its memory, in MB, while all subscribers are fed."""
    readers = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.fanout", "read", target),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    if readers.stdin is None or readers.stdout is None:
        raise AssertionError("pipes were asked for")
    readers.stdin.write(f"{token}\n".encode())  # not on the command line, which everybody can read
    stop = asyncio.Event()
    publishing = asyncio.create_task(_every(1 / _PER_S, publish, stop))
    await readers.stdout.readline()  # all are fed
    before, started = _cpu_s(server), time.perf_counter()
    await asyncio.sleep(_SECONDS)
    cores = (_cpu_s(server) - before) / (time.perf_counter() - started)
    megabytes = server.memory_info().rss / 1e6
    readers.terminate()
    await readers.wait()
    stop.set()
    await publishing
    return cores, megabytes


async def _every(seconds: float, action: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    due = time.perf_counter()
    while not stop.is_set():
        due += seconds
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await action()


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def _read(target: str) -> None:
    """Subscribe many times; say a line once each subscriber has got 3 messages; go on until killed."""
    token = sys.stdin.readline().strip()
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    start = SubscribeRequest.Start(dataset=DATASET)
    start.symbols.all = True
    request = SubscribeRequest(start=start)
    waiting = _SUBSCRIBERS
    options: tuple[tuple[str, Any], ...] = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.aio.insecure_channel(target, options=options) for _ in range(_CHANNELS)]

    async def subscribe(channel: grpc.aio.Channel) -> None:
        nonlocal waiting
        call: Any = channel.stream_stream(_METHOD, request_serializer=SubscribeRequest.SerializeToString)(
            metadata=metadata, wait_for_ready=True
        )
        await call.write(request)
        seen = 0
        while await call.read() is not grpc.aio.EOF:
            seen += 1
            if seen == 5:
                waiting -= 1
                if waiting == 0:
                    print("fed", flush=True)

    await asyncio.gather(*(subscribe(channels[i % _CHANNELS]) for i in range(_SUBSCRIBERS)))


async def _serve(port: int) -> None:
    """Write the same bytes to each stream, and nothing else."""
    payload = encode_payload([quotes(_ROWS, 0)])
    waiters: list[asyncio.Event] = []

    async def subscribe(_requests: Any, context: Any) -> None:
        event = asyncio.Event()
        waiters.append(event)
        while True:
            await event.wait()
            event.clear()
            await context.write(payload)

    async def tick() -> None:
        for event in waiters:
            event.set()

    handler = grpc.stream_stream_rpc_method_handler(subscribe)
    service, method = _METHOD[1:].split("/")
    server = grpc.aio.server(options=(("grpc.max_concurrent_streams", 10_000),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await _every(1 / _PER_S, tick, asyncio.Event())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[2])) if sys.argv[1] == "serve" else _read(sys.argv[2]))
