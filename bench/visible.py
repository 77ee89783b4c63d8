"""From publishing to being found: by a query, which looks at the tape too, and in the lake's tables by themselves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import numpy as np

from bench.report import Report
from bench.stack import DATASET, Running, quotes
from marketdata.client import Client
from marketdata.columns import NANOS, Batch
from marketdata.publisher import AckLevel, Publisher
from mda.cli.bench_run import due

_ROWS: Final = 10
_TIMES: Final = 50
_FAR_NS: Final = 366 * 24 * 3_600 * NANOS
"""So much before now is nothing of other measurements."""
_TEMPLATE: Final = quotes(_ROWS, 0)


async def run(running: Running, report: Report) -> None:
    """Measure each with batches that come one at a time."""
    async with running.client() as client:
        async with client.publisher(DATASET, "found") as publisher:
            found = await _delays(lambda batch: _until_found(client, publisher, batch), time.time_ns() - _FAR_NS)
        async with client.publisher(DATASET, "visible", ack_level=AckLevel.VISIBLE) as publisher:
            visible = await _delays(lambda batch: _until_visible(publisher, batch), time.time_ns() - _FAR_NS // 2)
    group = f"published → found, {_ROWS}-row batches one at a time"
    for name, delays in (("by a query", found), ("in the lake's tables (VISIBLE)", visible)):
        for share in (50, 99):
            report.add(group, f"p{share}, {name}", float(np.percentile(delays, share)), "ms")


async def _delays(publish: Callable[[Batch], Awaitable[None]], start_ns: int) -> list[float]:
    delays: list[float] = []
    for number in range(_TIMES):
        batch = due(_TEMPLATE, start_ns + number * NANOS)
        await asyncio.sleep(0.05)
        began = time.perf_counter()
        await publish(batch)
        delays.append((time.perf_counter() - began) * 1e3)
    return delays


async def _until_found(client: Client, publisher: Publisher, batch: Batch) -> None:
    first_ns = int(batch["ts_event"][0])
    await publisher.publish(batch)
    while not await client.quotes(DATASET, ["B0"], start_ns=first_ns, end_ns=first_ns + _ROWS):
        pass


async def _until_visible(publisher: Publisher, batch: Batch) -> None:
    await publisher.publish(batch)
    await publisher.flush()
