"""A subscriber that stops reading: what it costs the others, and how it comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

import grpc
import numpy as np
import psutil

from bench.report import Report
from bench.stack import DATASET, Running, quotes
from marketdata.publisher import Publisher
from marketdata.subscriber import Start, Subscriber
from marketdata.tokens import TokenSource
from mda.cli.bench_run import due

_PER_S: Final = 200
_ROWS: Final = 100
_READERS: Final = 10
_SECONDS: Final = 20.0
_STOPPED_S: Final = 60.0
_TEMPLATE: Final = quotes(_ROWS, 0)


class _Reader:
    """Reads all, and notes how late each batch is; may be stopped."""

    def __init__(self) -> None:
        self.delays_ms: list[float] = []
        self.rows = 0
        self.go = asyncio.Event()
        self.go.set()
        self.subscribed = asyncio.Event()

    async def run(self, channel: grpc.aio.Channel, tokens: TokenSource) -> None:
        async for update in Subscriber(channel, tokens, DATASET, None, Start()):
            self.subscribed.set()
            now = time.time_ns()
            for batch in update.batches:
                self.rows += batch.rows
                self.delays_ms.extend((now - batch["ts_recv"][::_ROWS]) / 1e6)
            await self.go.wait()


async def run(running: Running, report: Report) -> None:
    """Measure the others' delays before and while one reader stands still, and the server's memory."""
    query = psutil.Process(running.pid("query"))
    readers, slow = [_Reader() for _ in range(_READERS)], _Reader()
    async with _reading(running, [*readers, slow]), _producing(running) as published:
        await asyncio.sleep(2)
        before = await _delays(readers, _SECONDS)
        memory = query.memory_info().rss / 1e6
        slow.go.clear()
        during = await _delays(readers, _STOPPED_S)
        grown = query.memory_info().rss / 1e6 - memory
        slow.go.set()
        began = time.perf_counter()
        while slow.rows < published() - _ROWS * _PER_S // 4:
            await asyncio.sleep(0.01)
        caught_up_s = time.perf_counter() - began
    group = f"one of {_READERS + 1} readers stops for {_STOPPED_S:.0f} s, {_PER_S} batches/s of {_ROWS} rows"
    for name, percentile in (("p50", 50), ("p99", 99)):
        usual = float(np.percentile(before, percentile))
        report.add(group, f"{name} of the others, before", usual, "ms")
        report.add(group, f"{name} of the others, meanwhile", float(np.percentile(during, percentile)), "ms", usual)
    report.add(group, "the server's memory grew by", grown, "MB")
    report.add(group, "caught up after", caught_up_s, "s")


async def _delays(readers: list[_Reader], seconds: float) -> list[float]:
    for reader in readers:
        reader.delays_ms.clear()
    await asyncio.sleep(seconds)
    return [delay for reader in readers for delay in reader.delays_ms]


@asynccontextmanager
async def _reading(running: Running, readers: list[_Reader]) -> AsyncGenerator[None]:
    """Run readers, each by a connection of its own."""
    if not readers:
        yield
        return
    async with running.channel("query", gateway=True) as (channel, tokens):
        task = asyncio.create_task(readers[0].run(channel, tokens))
        await readers[0].subscribed.wait()
        async with _reading(running, readers[1:]):
            yield
        task.cancel()


@asynccontextmanager
async def _producing(running: Running) -> AsyncGenerator[Callable[[], int]]:
    async with (
        running.channel("ingestion", gateway=True) as (channel, tokens),
        Publisher.open(channel, tokens, DATASET, "slow") as publisher,
    ):
        count = 0

        async def produce() -> None:
            nonlocal count
            start_ns = time.time_ns()
            while True:
                due_ns = start_ns + count * 1_000_000_000 // _PER_S
                await asyncio.sleep(max(0.0, (due_ns - time.time_ns()) / 1e9))
                await publisher.publish(due(_TEMPLATE, due_ns))
                count += 1

        task = asyncio.create_task(produce())
        yield lambda: count * _ROWS
        task.cancel()
