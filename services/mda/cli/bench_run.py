"""What `mda bench` measures, by the public API alone: publishing, replay, and the delay from send to receipt."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from marketdata.client import Client
from marketdata.columns import COLUMNS, NANOS, Batch, Kind, make_batch
from marketdata.digest import Digest, digest_of
from marketdata.subscriber import Start
from marketdata.v1.instrument_pb2 import Instrument
from mda.cli.folder import StackError

INSTRUMENTS: Final = 10
_DELAY_ROWS: Final = 10
_REPLAY_ROWS: Final = 4_000_000
"""The most to read back: they are held until they are compared."""

_PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes
    ----------
    dataset
        Where rows are published.
    batch_rows
        How many rows a batch has where as many as possible are published.
    per_s
        How many batches of ten rows are sent in a second where delays are measured.
    seconds
        How long is published, each time.
    """

    dataset: str
    batch_rows: int
    per_s: int
    seconds: float


@dataclass(slots=True)
class Figures:
    """What came out.

    Attributes
    ----------
    rows, publish_s
        How many rows were published and acknowledged as durable, and in how many seconds.
    replay_rows, replay_s
        How many of them were read back from the cursor before them, and in how many seconds.
    agreed
        Whether what came back has the digest that the server tells.
    delays_ms
        From the time a batch was due to be sent to its receipt, in milliseconds: a stall of the sender counts.
    """

    rows: int = 0
    publish_s: float = 0.0
    replay_rows: int = 0
    replay_s: float = 0.0
    agreed: bool = False
    delays_ms: list[float] = field(default_factory=list[float])


async def run(client: Client, plan: Plan, stage: Callable[[str], None]) -> Figures:
    """Measure.

    Parameters
    ----------
    client
        Connected, with the right to put instruments, to publish and to read.
    plan
        What.
    stage
        Is told what is measured next.

    Raises
    ------
    ApiError
        If the server refuses.
    StackError
        If rows do not come.
    """
    names = [Instrument(symbol=f"BENCH-{n}") for n in range(1, INSTRUMENTS + 1)]
    ids = np.array([known.instrument_id for known in await client.put_instruments(plan.dataset, names)])
    figures = Figures()
    start = await _end(client, plan.dataset)
    stage(f"publishing for {plan.seconds:g} s")
    await _publish(client, plan, quotes(plan.batch_rows, 0, ids), figures)
    stage("reading it back")
    await _replay(client, plan.dataset, start, figures)
    stage(f"delays of {plan.per_s:,} batches a second for {plan.seconds:g} s")
    await _delays(client, plan, quotes(_DELAY_ROWS, 0, ids), figures)
    return figures


def quotes(rows: int, start_ns: int, ids: NDArray[np.integer]) -> Batch:
    """Return quotes in all columns but verdicts: 60 bytes a row.

    Parameters
    ----------
    rows
        How many.
    start_ns
        The first row's time, in nanoseconds since the epoch; each is a nanosecond later than the one before.
    ids
        The instruments, in turn.
    """
    columns = {column.name: np.arange(rows) for column in COLUMNS[Kind.QUOTE] if column.name != "verdicts"}
    bid = np.random.default_rng(1).integers(100, 200, rows) * NANOS
    columns |= {
        "instrument_id": ids[np.arange(rows) % len(ids)],
        "ts_event": start_ns + np.arange(rows),
        "ts_recv": start_ns + np.arange(rows),
        "bid_price": bid,
        "ask_price": bid + NANOS,
    }
    return make_batch(Kind.QUOTE, columns)


def due(template: Batch, due_ns: int) -> Batch:
    """Return a batch that tells when it was due to be sent, in nanoseconds since the epoch.

    Its other columns are the template's: to make them anew would take longer than to send them.
    """
    times = due_ns + np.arange(template.rows)
    return Batch(template.kind, template.rows, {**template.columns, "ts_event": times, "ts_recv": times})


async def _end(client: Client, dataset: str) -> str:
    async with _within(_PATIENCE_S, "the start of a subscription"):
        async for update in client.subscribe(dataset):
            if update.cursor:
                return update.cursor
    raise StackError(f"{dataset} cannot be read: its stream ends.")


async def _publish(client: Client, plan: Plan, template: Batch, figures: Figures) -> None:
    first_ns = time.time_ns()
    count = 0
    async with client.publisher(plan.dataset, _producer()) as publisher:
        began = time.perf_counter()
        while time.perf_counter() - began < plan.seconds:
            await publisher.publish(due(template, first_ns + count * template.rows))
            count += 1
        await publisher.flush()
        figures.publish_s = time.perf_counter() - began
        figures.rows = publisher.acknowledged_rows


async def _replay(client: Client, dataset: str, start: str, figures: Figures) -> None:
    received: list[Batch] = []
    end = start
    wanted = min(figures.rows, _REPLAY_ROWS)
    began = time.perf_counter()
    async with _within(_PATIENCE_S + 10 * figures.publish_s, "reading back what was published"):
        async for update in client.subscribe(dataset, start=Start(cursor=start)):
            received += update.batches
            figures.replay_rows += sum(batch.rows for batch in update.batches)
            if figures.replay_rows >= wanted:
                end = update.cursor
                break
    figures.replay_s = time.perf_counter() - began
    told, _ = await client.digest(dataset, after=start, until=end)
    figures.agreed = told == sum(map(digest_of, received), Digest())


async def _delays(client: Client, plan: Plan, template: Batch, figures: Figures) -> None:
    wanted = max(1, int(plan.per_s * plan.seconds))
    ready = asyncio.Event()

    async def read() -> None:
        async for update in client.subscribe(plan.dataset):
            ready.set()
            now_ns = time.time_ns()
            for batch in update.batches:
                figures.delays_ms.extend(((now_ns - batch["ts_recv"][::_DELAY_ROWS]) / 1e6).tolist())
            if len(figures.delays_ms) >= wanted:
                return

    async with _within(_PATIENCE_S + 2 * plan.seconds, "the receipt of batches"):
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(read())
                await ready.wait()
                await _send(client, plan, template, wanted)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None


async def _send(client: Client, plan: Plan, template: Batch, count: int) -> None:
    async with client.publisher(plan.dataset, _producer()) as publisher:
        start_ns = time.time_ns() + NANOS // 20
        for number in range(count):
            due_ns = start_ns + number * NANOS // plan.per_s
            await asyncio.sleep(max(0.0, (due_ns - time.time_ns()) / NANOS))
            await publisher.publish(due(template, due_ns))


@asynccontextmanager
async def _within(seconds: float, what: str) -> AsyncGenerator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise StackError(
            f"{what} takes longer than {seconds:.0f} s. `mda doctor` tells whether all runs; does the dataset's"
            " policy set rows aside?"
        ) from None


def _producer() -> str:
    return f"bench-{secrets.token_hex(4)}"
