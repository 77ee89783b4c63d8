"""The Python client: a scan into frames, and what a small live batch costs it."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from bench.replay import fill
from bench.report import Report
from bench.stack import DATASET, Running, quotes
from marketdata.client import Client
from marketdata.codec import decode_rows, to_bytes
from marketdata.columns import Kind
from marketdata.query.v1.query_service_pb2 import SubscribeResponse
from marketdata.subscriber import Update
from marketdata.tables import Prices

_SMALL_ROWS: Final = 10
_SMALL_BATCHES: Final = 5_000
_PER_S: Final = 1_000
_TIMES: Final = 3
_OWN_TIMES: Final = 2_000
_FORMS: Final[tuple[Prices, ...]] = ("float", "units")


async def run(running: Running, report: Report) -> None:
    """Read what is there, and what comes."""
    start, rows = await fill(running)
    group = f"client: scan of {rows:,} quotes through the gateway"
    async with running.client() as client:
        # The best of some: right after the rows were published the archive writes them, too.
        bare = max([await _read(client, start) for _ in range(_TIMES)])
        report.add(group, "into NumPy batches", bare, "M rows/s")
        for prices in _FORMS:
            rate = max([await _frame(client, start, prices) for _ in range(_TIMES)])
            report.add(group, f"into Polars, prices as {prices}", rate, "M rows/s", bare)
    group = f"client: CPU of a live batch of {_SMALL_ROWS} rows"
    own = _own()
    report.add(group, "our own code: from its bytes to an update", own, "µs")
    report.add(group, f"all of the process, grpc.aio too, at {_PER_S:,} a second", await _small(running), "µs", own)


def _own() -> float:
    """Return what it takes to make an update of a message with one small batch, in microseconds."""
    message = SubscribeResponse(cursor="A" * 24)
    message.batches.add().ParseFromString(to_bytes(quotes(_SMALL_ROWS, 0)))
    data = message.SerializeToString()
    best_s = float("inf")
    for _ in range(20):
        began = time.process_time()
        for _ in range(_OWN_TIMES):
            rows = decode_rows(data)
            if rows is None:
                raise AssertionError("not in the usual form")
            Update(rows[0], (), rows[1], None, None)
        best_s = min(best_s, time.process_time() - began)
    return best_s / _OWN_TIMES * 1e6


async def _read(client: Client, start: str) -> float:
    began, rows = time.perf_counter(), 0
    async for update in client.scan(DATASET, kinds=[Kind.QUOTE], cursor=start):
        rows += sum(batch.rows for batch in update.batches)
    return rows / (time.perf_counter() - began) / 1e6


async def _frame(client: Client, start: str, prices: Prices) -> float:
    began = time.perf_counter()
    frame = await client.scan(DATASET, kinds=[Kind.QUOTE], cursor=start).to_polars(prices=prices)
    return frame.height / (time.perf_counter() - began) / 1e6


async def _small(running: Running) -> float:
    """Publish small batches by the clock, while another process subscribes; return its CPU time for each."""
    loop = asyncio.get_running_loop()
    batch = quotes(_SMALL_ROWS, time.time_ns())
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        reading = loop.run_in_executor(pool, _subscribe, running.url, running.secrets["api_key"])
        async with running.client() as client, client.publisher(DATASET, "small") as publisher:
            began = time.perf_counter()
            published = 0
            while not reading.done():
                published += 1
                await publisher.publish(batch)
                await asyncio.sleep(max(0.0, began + published / _PER_S - time.perf_counter()))
        return await reading


def _subscribe(url: str, api_key: str) -> float:
    return asyncio.run(_cpu_us(url, api_key))


async def _cpu_us(url: str, api_key: str) -> float:
    """Return the CPU time of this process for each small batch, in microseconds."""
    batches, began_s = 0, 0.0
    async with Client.connect(url, api_key) as client:
        async for update in client.subscribe(DATASET):
            batches += len(update.batches)
            if began_s == 0.0 and batches >= _SMALL_BATCHES // 10:  # warm by now
                batches, began_s = 0, time.process_time()
            if batches >= _SMALL_BATCHES:
                return (time.process_time() - began_s) / batches * 1e6
    raise AssertionError("the subscription ended")
