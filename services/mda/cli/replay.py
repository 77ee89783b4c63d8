"""`mda replay`: rows of the past again, at the pace at which they came or at another."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import pyarrow as pa
import typer
from rich.console import Console

from marketdata.client import Client
from marketdata.columns import FIELDS, NANOS, Batch, Kind
from marketdata.scan import Scan
from mda.cli.options import DataOption, KeyOption, UrlOption, connection
from mda.cli.progress import RowProgress
from mda.cli.row_files import Format, open_row_file, schema_of, to_rows
from mda.cli.times import EndOption, SymbolOption, check_range, parse_time

app = typer.Typer()

_STEP_S: Final = 0.02
"""Rows that are due within so many seconds go together."""
_KINDS: Final = {name: kind for kind, name in FIELDS.items()}


class ReplayKind(StrEnum):
    """What is replayed."""

    QUOTES = "quotes"
    TRADES = "trades"
    BARS = "bars"
    ALL = "all"


class ReplayOutput(StrEnum):
    """How rows are printed."""

    CSV = "csv"
    JSON = "json"


@app.command()
def replay(
    dataset: Annotated[str, typer.Argument(help="The dataset.")],
    start: Annotated[
        int,
        typer.Option("--start", parser=parse_time, metavar="TIME", help="From this event time on: RFC 3339 or a date."),
    ],
    end: EndOption = None,
    symbol: SymbolOption = None,
    kind: Annotated[ReplayKind, typer.Option("--kind", "-k", help="Which rows.")] = ReplayKind.ALL,
    speed: Annotated[
        float, typer.Option("--speed", "-x", min=0, help="How many times as fast as it was; 0 for as fast as it goes.")
    ] = 1.0,
    to: Annotated[
        str | None, typer.Option("--to", help="Publish to this dataset; printed on standard output where not set.")
    ] = None,
    producer: Annotated[
        str | None, typer.Option("--producer", help="Publish under this name; a new one where not set.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Move all times, so that the first row is of now.")] = False,
    output: Annotated[ReplayOutput, typer.Option("--output", "-o", help="How to print.")] = ReplayOutput.CSV,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Publish rows of the past again, or print them, at the pace of their event times.

    Example: mda replay SIM --start 2026-07-01T13:30:00Z --end 2026-07-01T14:00:00Z --speed 10 --to TEST --now

    Example: mda replay SIM --symbol ALFA --kind trades --start 2026-07-01 --speed 60
    """
    check_range(start, end)
    if to is None and kind is ReplayKind.ALL:
        raise typer.BadParameter("is quotes, trades or bars, where rows are printed.", param_hint="--kind")
    if to == dataset:
        raise typer.BadParameter("is another dataset: rows would follow themselves for ever.", param_hint="--to")
    kinds = [] if kind is ReplayKind.ALL else [_KINDS[kind.value]]
    address, key = connection(data, url, key_file)

    async def run() -> None:
        async with Client.connect(address, key) as client:
            scan = client.scan(dataset, symbol or None, start_ns=start, end_ns=end, kinds=kinds)
            pace = Pace(speed)
            if to is None:
                await _print(client, dataset, kinds[0], _paced(scan, pace, now=now), output)
            else:
                name = producer or f"replay-{secrets.token_hex(8)}"
                await _publish(client, dataset, to, name, _paced(scan, pace, now=now))

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        if to is not None:
            typer.echo(f"stopped: what was published stays in {to}", err=True)
        raise typer.Exit(130) from None


class Pace:
    """Tells when rows are due.

    Parameters
    ----------
    speed
        How many times as fast as their event times; 0 for at once.
    clock_s, sleep
        Time, in seconds.
    """

    def __init__(
        self,
        speed: float,
        clock_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        self._speed = speed
        self._clock_s = clock_s
        self._sleep = sleep
        self._began: tuple[float, int] | None = None
        self._newest_ns = 0

    async def due(self, batch: Batch) -> AsyncGenerator[Batch]:
        """Yield the rows of a batch, in pieces, each when it is due. A row that is late is due at once."""
        if self._speed == 0:
            yield batch
            return
        times = np.maximum(np.maximum.accumulate(batch["ts_event"]), self._newest_ns)
        self._newest_ns = int(times[-1])
        began_s, first_ns = self._began = self._began or (self._clock_s(), int(times[0]))
        due_s = (times - first_ns) / (NANOS * self._speed) + began_s
        at = 0
        while at < batch.rows:
            wait_s = float(due_s[at]) - self._clock_s()
            if wait_s > 0:
                await self._sleep(wait_s)
            stop = max(at + 1, int(np.searchsorted(due_s, self._clock_s() + _STEP_S, "right")))
            yield batch.slice(at, stop)
            at = stop


async def _paced(scan: Scan, pace: Pace, *, now: bool) -> AsyncGenerator[Batch]:
    moved_ns: int | None = None
    async with aclosing(aiter(scan)) as updates:
        async for update in updates:
            for batch in update.batches:
                if moved_ns is None:
                    moved_ns = time.time_ns() - int(batch["ts_event"][0]) if now else 0
                async for piece in pace.due(batch):
                    yield _moved(piece, moved_ns)


def _moved(batch: Batch, by_ns: int) -> Batch:
    if by_ns == 0:
        return batch
    # The time of receipt is when the rows come to whoever replays them: not that of then.
    columns = {name: values for name, values in batch.columns.items() if name != "ts_recv"}
    return Batch(batch.kind, batch.rows, {**columns, "ts_event": batch["ts_event"] + by_ns})


async def _print(
    client: Client, dataset: str, kind: Kind, batches: AsyncGenerator[Batch], output: ReplayOutput
) -> None:
    known = await client.symbols(dataset)
    symbols = pa.array([known.get(number) for number in range(max(known, default=0) + 1)], pa.string())
    schema = schema_of(kind, dataset)
    form = Format.CSV if output is ReplayOutput.CSV else Format.JSONL
    with closing(open_row_file(form, sys.stdout.buffer, schema)) as file:
        async with aclosing(batches):
            async for batch in batches:
                file.write(to_rows(batch, symbols, schema))
                sys.stdout.flush()


async def _publish(client: Client, dataset: str, to: str, producer: str, batches: AsyncGenerator[Batch]) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    source = await client.list_instruments(dataset)
    put = {instrument.symbol: instrument.instrument_id for instrument in await client.put_instruments(to, source)}
    ids = np.zeros(max((one.instrument_id for one in source), default=0) + 1, np.uint32)
    for one in source:
        ids[one.instrument_id] = put[one.symbol]
    with RowProgress(console) as progress:
        progress.begin(f"{dataset} → {to}", None)
        async with client.publisher(to, producer) as publisher, aclosing(batches):
            async for batch in batches:
                columns = {name: values for name, values in batch.columns.items() if name != "verdicts"}
                columns["instrument_id"] = ids[batch["instrument_id"]]
                await publisher.publish(Batch(batch.kind, batch.rows, columns))
                progress.advance(batch.rows)
            await publisher.flush()
    console.print(f"{progress.rows:,} rows of {dataset} were published to {to}, by {producer}")
