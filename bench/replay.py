"""Replay: a subscriber that begins at an old cursor, through the gateway and past it, until it is live."""

from __future__ import annotations

import time
from typing import Final

from bench.report import Report
from bench.stack import DATASET, Running, quotes
from marketdata.publisher import Publisher
from marketdata.subscriber import Start, Subscriber

_ROWS: Final = 6_000_000
_BATCH: Final = 5_000


async def run(running: Running, report: Report) -> None:
    """Publish rows, more than query holds in memory, and read them."""
    start, last = await fill(running)
    for name, gateway in (("past the gateway", False), ("through the gateway", True)):
        report.add(
            f"replay of {_ROWS:,} rows from a cursor",
            name,
            await _replay(running, start, last, gateway=gateway),
            "M rows/s",
        )


async def fill(running: Running) -> tuple[str, int]:
    """Publish the rows; return the cursor before them and how many they are."""
    batch = quotes(_BATCH, time.time_ns() - 1_000_000_000)
    async with running.client() as client, running.channel("ingestion", gateway=False) as (channel, tokens):
        start = ""
        async for update in client.subscribe(DATASET):
            start = update.cursor
            if start:
                break
        async with Publisher.open(channel, tokens, DATASET, "replay") as publisher:
            for _ in range(_ROWS // _BATCH):
                await publisher.publish(batch)
    return start, _ROWS


async def _replay(running: Running, start: str, rows: int, *, gateway: bool) -> float:
    async with running.channel("query", gateway=gateway) as (channel, tokens):
        began, seen = time.perf_counter(), 0
        async for update in Subscriber(channel, tokens, DATASET, None, Start(cursor=start)):
            seen += sum(batch.rows for batch in update.batches)
            if seen >= rows:
                return seen / (time.perf_counter() - began) / 1e6
    raise AssertionError("the subscription ended")
