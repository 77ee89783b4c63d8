"""Send to receipt: from the time at which a batch was due to be sent to the subscriber's receipt of it.

The due time, not the actual one, so that a stall that keeps the sender from sending is
counted as the delay that it is (coordinated omission).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import numpy as np
from nats.aio.msg import Msg
from nats.js import api

from bench.chain import PUBLISH, SUBSCRIBE, chain
from bench.report import Report
from bench.stack import DATASET, Running, quotes
from marketdata.publisher import Publisher
from marketdata.subscriber import Start, Subscriber
from mda.cli.bench_run import due
from mda.tape.payload import decode_payload, encode_payload

_RATES: Final = (100, 500, 1_000, 5_000)
_ALONE_RATES: Final = (100, 500, 1_000)
"""JetStream alone, one fsync a batch, takes no more."""
_CHAIN_RATE: Final = 100
"""The bare chain is measured where it is at ease."""
_PERCENTILES: Final = {"p50": 50, "p99": 99}
_ROWS: Final = 10
_SECONDS: Final = 5.0
_TEMPLATE: Final = quotes(_ROWS, 0)


async def run(running: Running, report: Report) -> None:
    """Measure each rate."""
    bare = await _chain(running, _CHAIN_RATE)
    group = f"send → receipt, the bare chain at {_CHAIN_RATE:,}/s, 10-row batches"
    usual = {name: float(np.percentile(bare, percentile)) for name, percentile in _PERCENTILES.items()}
    for name, milliseconds in usual.items():
        report.add(group, name, milliseconds, "ms")
    for rate in _RATES:
        group = f"send → receipt, 10-row batches at {rate:,}/s"
        alone = await _jetstream(running, rate) if rate in _ALONE_RATES else None
        direct = await measure(running, rate, gateway=False)
        through = await measure(running, rate, gateway=True)
        for name, percentile in _PERCENTILES.items():
            if alone is not None:
                report.add(group, f"{name}, JetStream alone", float(np.percentile(alone, percentile)), "ms")
            for where, delays in (("past", direct), ("through", through)):
                measured = float(np.percentile(delays, percentile))
                report.add(group, f"{name}, {where} the gateway", measured, "ms", usual[name])


async def _chain(running: Running, rate: int) -> list[float]:
    """Return the delays of the bare chain."""
    delays: list[float] = []
    async with chain(running) as (publishing, subscribing):
        reading: Any = subscribing.stream_stream(SUBSCRIBE)()
        await reading.read()

        async def read() -> None:
            while True:
                (batch,) = decode_payload(await reading.read())
                delays.append((time.time_ns() - int(batch["ts_recv"][0])) / 1e6)

        reader = asyncio.create_task(read())
        writing: Any = publishing.stream_stream(PUBLISH)()
        await _send(rate, lambda due_ns: writing.write(encode_payload([due(_TEMPLATE, due_ns)])))
        await _until_all(delays, rate)
        reader.cancel()
        writing.cancel()
        reading.cancel()
    return delays


async def measure(running: Running, rate: int, *, gateway: bool, seconds: float = _SECONDS) -> list[float]:
    """Return how late each of the batches of so many seconds was, in milliseconds."""
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
            await _send(rate, lambda due_ns: publisher.publish(due(_TEMPLATE, due_ns)), seconds)
        await _until_all(delays, rate, seconds)
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
            task = asyncio.create_task(jetstream.publish("bare", encode_payload([due(_TEMPLATE, due_ns)]), timeout=30))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        try:
            await jetstream.subscribe("bare", cb=take, ordered_consumer=True)
            await _send(rate, publish)
            await _until_all(delays, rate)
        finally:
            await jetstream.delete_stream("BARE")
    return delays


async def _send(rate: int, send: Callable[[int], Awaitable[object]], seconds: float = _SECONDS) -> None:
    count = int(rate * seconds)
    start_ns = time.time_ns() + 50_000_000
    for number in range(count):
        due_ns = start_ns + number * 1_000_000_000 // rate
        await asyncio.sleep(max(0.0, (due_ns - time.time_ns()) / 1e9))
        await send(due_ns)


async def _until_all(delays: list[float], rate: int, seconds: float = _SECONDS) -> None:
    deadline = time.monotonic() + 60
    while len(delays) < int(rate * seconds) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
