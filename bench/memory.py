"""Memory over time, under a load that does not end: rows come, are read and asked for, and readers come and go."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any, Final

import numpy as np
import psutil

from bench.report import Report
from bench.stack import DATASET, Running, quotes
from marketdata.client import Client
from marketdata.errors import UnavailableError
from marketdata.subscriber import Start
from mda.cli.bench_run import due

_PER_S: Final = 50
_ROWS: Final = 100
_TEMPLATE: Final = quotes(_ROWS, 0)
_READERS: Final = 3
_UPDATES: Final = 1_000
"""After so many updates a reader leaves, and comes again at its cursor."""
_ASK_EVERY_S: Final = 0.5
_LOOK_EVERY_S: Final = 5.0
_WARM: Final = 0.25
"""This part of the time is not counted: caches fill."""


async def run(running: Running, report: Report, minutes: float) -> None:
    """Measure each process of the stack, and the client's, which is this one."""
    processes = {"client": psutil.Process(os.getpid())}
    processes |= {entry["name"]: psutil.Process(entry["pid"]) for entry in running.state["processes"]}
    held: dict[str, list[float]] = defaultdict(list)
    until = time.monotonic() + 60 * minutes
    async with running.client() as client, asyncio.TaskGroup() as load:
        work: list[Coroutine[Any, Any, None]] = [_publish(client), _ask(client)]
        tasks = [load.create_task(task) for task in (*work, *(_read(client) for _ in range(_READERS)))]
        while time.monotonic() < until:
            await asyncio.sleep(_LOOK_EVERY_S)
            for name, process in processes.items():
                held[name].append(process.memory_info().rss / 1e6)
        for task in tasks:
            task.cancel()
    for name, megabytes in held.items():
        counted = np.array(megabytes[int(len(megabytes) * _WARM) :])
        per_look = np.polynomial.Polynomial.fit(np.arange(len(counted)), counted, 1).convert().coef[-1]
        group = f"memory in {minutes:g} min of {_PER_S} batches/s of {_ROWS} rows, {_READERS} readers"
        report.add(group, f"{name}, at the end", float(counted[-1]), "MB", float(counted[0]))
        report.add(group, f"{name}, grows by", float(per_look) * 3600 / _LOOK_EVERY_S, "MB/h")


async def _publish(client: Client) -> None:
    async with client.publisher(DATASET, "memory") as publisher:
        start_ns = time.time_ns()
        for number in itertools.count():
            due_ns = start_ns + number * 1_000_000_000 // _PER_S
            await asyncio.sleep(max(0.0, (due_ns - time.time_ns()) / 1e9))
            await publisher.publish(due(_TEMPLATE, due_ns))


async def _read(client: Client) -> None:
    start = Start()
    while True:
        async with contextlib.aclosing(aiter(client.subscribe(DATASET, start=start))) as updates:
            for _ in range(_UPDATES):
                update = await anext(updates)
                start = Start(cursor=update.cursor or start.cursor)


async def _ask(client: Client) -> None:
    while True:
        with contextlib.suppress(UnavailableError):  # a machine that does other things, too
            await client.quotes_as_of(DATASET, ["B0"], time_ns=time.time_ns())
        await asyncio.sleep(_ASK_EVERY_S)
