"""What 50 who ask for the past at the same time cost those who read live.

Those who ask are in a process of their own, `python -m bench.queries URL START_NS`, with the API key on standard
input; it ends when its standard input does. Each line it writes is how long an answer took in milliseconds, or
why there was none. In the process that reads live they would be measured along with it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import numpy as np

from bench.latency import measure
from bench.report import Report
from bench.stack import DATASET, Running, archived, quotes
from marketdata.archive.v1.archive_service_pb2 import CompactRequest
from marketdata.archive.v1.archive_service_pb2_grpc import ArchiveServiceStub
from marketdata.client import Client
from marketdata.columns import NANOS, Batch
from marketdata.errors import ApiError
from marketdata.v1.bar_pb2 import BarSource
from mda.cli.bench_run import INSTRUMENTS

_ROWS: Final = 2_000_000
_BATCH: Final = 10_000
_HOUR_NS: Final = 3_600 * NANOS
_ASKING: Final = 50
_PER_S: Final = 100
_SECONDS: Final = 20.0


async def run(running: Running, report: Report) -> None:
    """Measure the delays of live rows before and while others ask for rows and bars of an hour."""
    start_ns = time.time_ns() - 2 * _HOUR_NS
    async with running.client() as client:
        await _publish(client, start_ns)
        await archived(running)
        await _compact(running)
        before = await measure(running, _PER_S, gateway=True, seconds=_SECONDS)
        async with _asking(running, start_ns) as answers:
            during = await measure(running, _PER_S, gateway=True, seconds=_SECONDS)
    taken = [float(answer) for answer in answers if answer[0].isdigit()]
    group = f"{_ASKING} ask for the past of {_ROWS:,} rows, {_PER_S} batches/s live"
    for name, percentile in (("p50", 50), ("p99", 99)):
        usual = float(np.percentile(before, percentile))
        report.add(group, f"{name} of live rows, before", usual, "ms")
        report.add(group, f"{name} of live rows, meanwhile", float(np.percentile(during, percentile)), "ms", usual)
    report.add(group, "answers", len(taken), "")
    report.add(group, "refused as too many", len(answers) - len(taken), "")
    report.add(group, "p50 of an answer", float(np.percentile(taken, 50)), "ms")


async def _publish(client: Client, start_ns: int) -> None:
    async with client.publisher(DATASET, "past") as publisher:
        for first in range(0, _ROWS, _BATCH):
            times = start_ns + (first + np.arange(_BATCH)) * (_HOUR_NS // _ROWS)
            batch = quotes(_BATCH, first)
            await publisher.publish(Batch(batch.kind, batch.rows, {**batch.columns, "ts_event": times}))
        await publisher.flush()


async def _compact(running: Running) -> None:
    """Have the lake's files written together, as they are after a minute."""
    async with running.channel("archive", gateway=True) as (channel, tokens):
        metadata = (("authorization", f"Bearer {await tokens.token()}"),)
        await ArchiveServiceStub(channel).Compact(CompactRequest(dataset=DATASET), metadata=metadata)


@asynccontextmanager
async def _asking(running: Running, start_ns: int) -> AsyncGenerator[list[str]]:
    """Have others ask meanwhile; give what they write, which is whole at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.queries", running.url, str(start_ns)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(running.secrets["api_key"].encode() + b"\n")
    answers = [(await process.stdout.readline()).decode()]  # they are at work now
    try:
        yield answers
    finally:
        rest, _ = await process.communicate(b"")  # ends its standard input
        answers += rest.decode().splitlines()


async def _ask_until_stopped(url: str, start_ns: int) -> None:
    """Be those who ask."""
    key = sys.stdin.readline().strip()
    async with Client.connect(url, key) as client, asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(_ask(client, number, start_ns)) for number in range(_ASKING)]
        await asyncio.to_thread(sys.stdin.read)
        for task in asking:
            task.cancel()


async def _ask(client: Client, number: int, start_ns: int) -> None:
    symbols = [f"B{number % INSTRUMENTS}"]
    while True:
        began = time.perf_counter()
        try:
            if number % 2:
                await client.quotes(DATASET, symbols, start_ns=start_ns + number * NANOS, limit=1_000)
            else:
                await client.bars(
                    DATASET,
                    symbols,
                    start_ns=start_ns,
                    end_ns=start_ns + _HOUR_NS,
                    source=BarSource.BAR_SOURCE_QUOTE_MIDS,
                )
        except ApiError as error:
            print(error.reason or "UNKNOWN", flush=True)
            await asyncio.sleep(0.2)
        else:
            print(f"{(time.perf_counter() - began) * 1e3:.3f}", flush=True)


if __name__ == "__main__":
    asyncio.run(_ask_until_stopped(sys.argv[1], int(sys.argv[2])))
