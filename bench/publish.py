"""Publishing with durable acknowledgements: through the gateway, past it, and JetStream alone.

Whoever publishes shares the machine with all others. What archiving takes meanwhile is told by stopping it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from nats.js import api

from bench.report import Report
from bench.stack import DATASET, Running, archived, quotes
from marketdata.columns import Batch
from marketdata.publisher import Publisher
from mda.tape.payload import encode_payload

_SIZES: Final = (100, 1_000, 6_400, 20_000)
_SECONDS: Final = 4.0


async def run(running: Running, report: Report) -> None:
    """Measure each batch size."""
    with _stopped(running.pid("archive")):
        for rows in _SIZES:
            figure = await _publish(running, rows, gateway=True, name="alone")
            report.add("publish durable through the gateway, no archive", f"batches of {rows:,}", figure, "M rows/s")
    await archived(running)
    for rows in _SIZES:
        bare = await _jetstream(running, rows)
        group = f"publish durable, batches of {rows:,}"
        report.add(group, "JetStream alone, one at a time", bare, "M rows/s")
        report.add(group, "past the gateway", await _publish(running, rows, gateway=False), "M rows/s", bare)
        report.add(group, "through the gateway", await _publish(running, rows, gateway=True), "M rows/s", bare)


@contextmanager
def _stopped(pid: int) -> Generator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def _publish(running: Running, rows: int, *, gateway: bool, name: str = "bench") -> float:
    first = quotes(rows, time.time_ns() - 10_000_000_000)
    async with (
        running.channel("ingestion", gateway=gateway) as (channel, tokens),
        Publisher.open(channel, tokens, DATASET, f"{name}-{rows}-{gateway}") as publisher,
    ):
        started = time.perf_counter()
        count = 0
        while time.perf_counter() - started < _SECONDS:
            await publisher.publish(_later(first, count * rows))
            count += 1
        await publisher.flush()
        return publisher.acknowledged_rows / (time.perf_counter() - started) / 1e6


def _later(batch: Batch, by_ns: int) -> Batch:
    """Return a batch with later times: a producer whose clock stands still is out of order."""
    return Batch(batch.kind, batch.rows, {**batch.columns, "ts_event": batch["ts_event"] + by_ns})


async def _jetstream(running: Running, rows: int) -> float:
    payload = encode_payload([quotes(rows, 0)])
    async with running.nats() as client:
        jetstream = client.jetstream()
        config = api.StreamConfig(name="BARE", subjects=["bare"], storage=api.StorageType.FILE)
        await jetstream.add_stream(config)
        try:
            count = 0
            started = time.perf_counter()
            while time.perf_counter() - started < _SECONDS:
                await jetstream.publish("bare", payload)
                count += 1
            return count * rows / (time.perf_counter() - started) / 1e6
        finally:
            await jetstream.delete_stream("BARE")
