"""Send to receipt: from the time at which a batch was due to be sent to the subscriber's receipt of it.

The due time, not the actual one, so that a stall that keeps the sender from sending is
counted as the delay that it is (coordinated omission).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import numpy as np
from nats.aio.msg import Msg
from nats.js import api

from bench.report import Report
from bench.stack import DATASET, Running, quotes
from marketdata.columns import Batch
from marketdata.publisher import Publisher
from marketdata.subscriber import Start, Subscriber
from mda.tape.payload import decode_payload, encode_payload

_RATES: Final = (100, 500, 1_000, 5_000)
_BARE_RATES: Final = (100, 500, 1_000)
"""JetStream alone, one fsync a batch, takes no more."""
_ROWS: Final = 10
_SECONDS: Final = 5.0
_TEMPLATE: Final = quotes(_ROWS, 0)


async def run(running: Running, report: Report) -> None:
    """Measure each rate."""
    for rate in _RATES:
        group = f"send → receipt, 10-row batches at {rate:,}/s"
        bare = await _jetstream(running, rate if rate in _BARE_RATES else _BARE_RATES[-1])
        direct = await _measure(running, rate, gateway=False)
        through = await _measure(running, rate, gateway=True)
        for name, percentile in (("p50", 50), ("p99", 99)):
            bare_ms = float(np.percentile(bare, percentile))
            report.add(group, f"{name}, JetStream alone", bare_ms, "ms")
            report.add(group, f"{name}, past the gateway", float(np.percentile(direct, percentile)), "ms", bare_ms)
            report.add(group, f"{name}, through the gateway", float(np.percentile(through, percentile)), "ms", bare_ms)


async def _measure(running: Running, rate: int, *, gateway: bool) -> list[float]:
    delays: list[float] = []
    ready = asyncio.Event()

    async with (
        running.channel("query", gateway=gateway) as (reading, tokens),
        running.channel("ingestion", gateway=gateway) as (writing, _),
    ):

        async def read() -> None:
            async for update in Subscriber(reading, tokens, DATASET, None, Start()):
                ready.set()
                now = time.time_ns()
                for batch in update.batches:
                    delays.extend((now - batch["ts_recv"][::_ROWS]) / 1e6)

        reader = asyncio.create_task(read())
        await ready.wait()
        async with Publisher.open(writing, tokens, DATASET, f"latency-{rate}-{gateway}") as publisher:
            await _send(rate, lambda due_ns: publisher.publish(_due(due_ns)))
        await _until_all(delays, rate)
        reader.cancel()
    return delays


async def _jetstream(running: Running, rate: int) -> list[float]:
    delays: list[float] = []
    tasks: set[asyncio.Task[object]] = set()
    async with running.nats() as client:
        jetstream = client.jetstream()
        await jetstream.add_stream(api.StreamConfig(name="BARE", subjects=["bare"], storage=api.StorageType.FILE))

        async def take(message: Msg) -> None:
            due_ns = int(decode_payload(message.data)[0]["ts_recv"][0])
            delays.append((time.time_ns() - due_ns) / 1e6)

        async def publish(due_ns: int) -> None:
            task = asyncio.create_task(jetstream.publish("bare", encode_payload([_due(due_ns)]), timeout=30))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        try:
            await jetstream.subscribe("bare", cb=take, ordered_consumer=True)
            await _send(rate, publish)
            await _until_all(delays, rate)
        finally:
            await jetstream.delete_stream("BARE")
    return delays


def _due(due_ns: int) -> Batch:
    """Return a batch that tells when it was due: other columns are always the same, as making them takes time."""
    times = due_ns + np.arange(_ROWS)
    return Batch(_TEMPLATE.kind, _ROWS, {**_TEMPLATE.columns, "ts_event": times, "ts_recv": times})


async def _send(rate: int, send: Callable[[int], Awaitable[object]]) -> None:
    count = int(rate * _SECONDS)
    start_ns = time.time_ns() + 50_000_000
    for number in range(count):
        due_ns = start_ns + number * 1_000_000_000 // rate
        await asyncio.sleep(max(0.0, (due_ns - time.time_ns()) / 1e9))
        await send(due_ns)


async def _until_all(delays: list[float], rate: int) -> None:
    deadline = time.monotonic() + 60
    while len(delays) < int(rate * _SECONDS) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
