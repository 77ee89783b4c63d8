"""What the tests of everything on the tape share."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import numpy as np
import pytest
from nats.aio.client import Client

from marketdata.columns import Batch, Kind, make_batch
from mda.tape.payload import decode_payload
from mda.tape.tape import Tape

NOW_NS = 1_767_225_600_000_000_000
_names = itertools.count(1)


def new_name(prefix: str = "T") -> str:
    """Return the name of a dataset, or of a stream, that no other test uses."""
    return f"{prefix}{next(_names)}"


async def eventually(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Wait until something is true, while the loop runs; fail if it is not in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not true within {within_s} s")
        await asyncio.sleep(0.01)


@asynccontextmanager
async def running(*coroutines: Any) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Run coroutines beside the body; end them with it. What they raise comes out, too."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield tasks
        for task in tasks:
            if task.done():
                await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def collect(source: Any, count: int, *, within_s: float = 20.0) -> list[Any]:
    """Take the first items of an asynchronous generator of lists, then close it."""
    items: list[Any] = []
    async with asyncio.timeout(within_s), aclosing(source) as lists:
        while len(items) < count:
            items += await anext(lists)
    return items


def trades(first: int, rows: int = 1, **columns: Any) -> Batch:
    """Return trades of instrument 1 that are numbered in `sequence`, each a nanosecond after the one before."""
    numbers = np.arange(first, first + rows)
    values: dict[str, Any] = {
        "instrument_id": np.ones(rows),
        "ts_event": NOW_NS + numbers,
        "sequence": numbers,
        "price": np.ones(rows),
    }
    return make_batch(Kind.TRADE, values | columns)


def quotes(first: int, rows: int = 1, **columns: Any) -> Batch:
    """Return quotes of instrument 1, otherwise as `trades`."""
    numbers = np.arange(first, first + rows)
    values: dict[str, Any] = {
        "instrument_id": np.ones(rows),
        "ts_event": NOW_NS + numbers,
        "sequence": numbers,
        "bid_price": np.full(rows, 10),
        "ask_price": np.full(rows, 20),
    }
    return make_batch(Kind.QUOTE, values | columns)


def rows_of(batches: Sequence[Batch]) -> list[int]:
    """Return the numbers of rows made by `trades` and `quotes`."""
    return [number for batch in batches for number in batch["sequence"].tolist()]


async def rows_on_tape(client: Client, dataset: str) -> list[int]:
    """Read the numbers of all rows of a tape, in its order."""
    tape, after = Tape(client, dataset), 0
    numbers: list[int] = []
    while entries := await tape.read(after):
        for entry in entries:
            numbers += rows_of(decode_payload(entry.entry.payload))
        after = entries[-1].sequence
    return numbers
