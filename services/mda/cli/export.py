"""`mda export`: the rows of a dataset as a file."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any, Final

import pyarrow as pa
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from marketdata.client import Client
from marketdata.columns import FIELDS, Batch, Kind, concatenate
from marketdata.errors import ApiError
from marketdata.scan import Scan
from mda.cli.folder import StackError
from mda.cli.options import DataOption, KeyOption, UrlOption, connection
from mda.cli.progress import name_column
from mda.cli.row_files import TEXTS, Format, RowFile, open_row_file, schema_of, to_rows
from mda.cli.times import EndOption, SymbolOption, check_range, parse_time

app = typer.Typer()

_WRITE_ROWS: Final = 1 << 17
"""Rows are written once there are so many: a row group of Parquet, a batch of Arrow."""

_STDOUT: Final = Path("-")


class KindName(StrEnum):
    """What is exported."""

    QUOTES = "quotes"
    TRADES = "trades"
    BARS = "bars"


_KINDS: Final = {name: kind for kind, name in FIELDS.items()}


@dataclass(frozen=True, slots=True)
class Export:
    """What is exported, and where to.

    Attributes
    ----------
    dataset, symbols, start_ns, end_ns, kind, corrected
        The rows, as `Client.scan` takes them.
    path
        The file; `-` for standard output.
    form
        Its format.
    """

    dataset: str
    symbols: list[str] | None
    start_ns: int | None
    end_ns: int | None
    kind: Kind
    corrected: bool
    path: Path
    form: Format

    def scan(self, client: Client) -> Scan:
        """Return the scan that gives the rows."""
        return client.scan(
            self.dataset,
            self.symbols,
            start_ns=self.start_ns,
            end_ns=self.end_ns,
            kinds=[self.kind],
            corrected=self.corrected,
        )


@app.command()
def export(
    dataset: Annotated[str, typer.Argument(help="The dataset.")],
    file: Annotated[Path, typer.Argument(help="The file to write; - for standard output, with csv or jsonl.")],
    kind: Annotated[KindName, typer.Option("--kind", "-k", help="Which rows.")] = KindName.QUOTES,
    form: Annotated[
        Format | None, typer.Option("--format", "-f", help="The format; by the file's suffix where not set.")
    ] = None,
    symbol: SymbolOption = None,
    start: Annotated[
        int | None,
        typer.Option("--start", parser=parse_time, metavar="TIME", help="From this event time on: RFC 3339 or a date."),
    ] = None,
    end: EndOption = None,
    corrected: Annotated[
        bool, typer.Option("--corrected", help="Trades as they stand, not as they came: cancels and corrections done.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Write rows to a file, in the order of the tape: CSV, JSON lines, Parquet or Arrow.

    The file is there once it is whole. Times are nanoseconds since the epoch; prices and sizes are
    decimals in csv and jsonl, and int64 in units of 1e-9 in parquet and arrow.

    Example: mda export SIM quotes.parquet

    Example: mda export SIM alfa.csv --kind trades --symbol ALFA --start 2026-07-01 --end 2026-07-02

    Example: mda export SIM - --format jsonl --symbol ALFA --start 2026-07-01T13:30:00Z | head
    """
    check_range(start, end)
    if corrected and kind is not KindName.TRADES:
        raise typer.BadParameter("is for trades: nothing else is corrected.", param_hint="--corrected")
    chosen = _format(file, form)
    _check_file(file, chosen, overwrite=overwrite)
    wanted = Export(dataset, symbol or None, start, end, _KINDS[kind], corrected, file, chosen)
    address, key = connection(data, url, key_file)
    try:
        asyncio.run(_export(wanted, address, key))
    except KeyboardInterrupt:
        what = "was not written to its end" if file == _STDOUT else "was not written"
        typer.echo(f"stopped: {file} {what}", err=True)
        raise typer.Exit(130) from None


def _format(file: Path, form: Format | None) -> Format:
    if form is not None:
        return form
    suffix = file.suffix.lower().removeprefix(".")
    if suffix not in set(Format):
        raise typer.BadParameter(
            f"{str(file)!r} does not tell one: end it in .{', .'.join(Format)}, or give --format.",
            param_hint="--format",
        )
    return Format(suffix)


def _check_file(file: Path, form: Format, *, overwrite: bool) -> None:
    problem = None
    if file == _STDOUT:
        problem = None if form in TEXTS else f"{form} ends with an index, and does not go through a pipe. Name a file."
    elif file.exists() and not file.is_file():
        problem = f"{file} is there and is not a file."
    elif file.exists() and not overwrite:
        problem = f"{file} is there already. Give --overwrite to replace it."
    elif not file.parent.is_dir():
        problem = f"There is no folder {file.parent}."
    if problem:
        raise typer.BadParameter(problem, param_hint="FILE")


async def _export(wanted: Export, url: str, api_key: str) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    began_s = time.monotonic()
    async with Client.connect(url, api_key) as client:
        with _sink(wanted.path) as sink, _progress(console) as progress:
            task = progress.add_task(wanted.path.name, total=await _total(client, wanted), rate="")
            rows = 0
            schema = schema_of(wanted.kind, wanted.dataset)
            with closing(open_row_file(wanted.form, sink, schema)) as file:
                writer = _Writer(client, wanted.dataset, file, schema)
                async with aclosing(aiter(wanted.scan(client))) as updates:
                    async for update in updates:
                        rows += await writer.add(update.batches)
                        rate = f"{rows / (time.monotonic() - began_s):,.0f} rows/s"
                        progress.update(task, completed=rows, rate=rate)
                await writer.flush()
            progress.update(task, total=rows)
    size = "" if wanted.path == _STDOUT else f" to {wanted.path}, {wanted.path.stat().st_size:,} bytes"
    console.print(f"{rows:,} {FIELDS[wanted.kind]}{size}, in {time.monotonic() - began_s:.1f} s")


async def _total(client: Client, wanted: Export) -> int | None:
    """Return how many rows will come, or nearly; None where nobody knows."""
    if wanted.symbols is not None or wanted.start_ns is not None or wanted.end_ns is not None:
        return None
    try:
        found = [dataset for dataset in await client.list_datasets() if dataset.name == wanted.dataset]
    except ApiError:  # the scan tells what is wrong, or goes on once it is well
        return None
    return sum(held.rows for dataset in found for held in dataset.kinds if held.kind == wanted.kind)


class _Writer:
    """Gathers batches until it is worth writing them."""

    def __init__(self, client: Client, dataset: str, file: RowFile, schema: pa.Schema) -> None:
        self._client = client
        self._dataset = dataset
        self._file = file
        self._schema = schema
        self._symbols: pa.Array[Any] = pa.array([], pa.string())
        self._batches: list[Batch] = []
        self._rows = 0

    async def add(self, batches: Sequence[Batch]) -> int:
        self._batches += batches
        added = sum(batch.rows for batch in batches)
        self._rows += added
        if self._rows >= _WRITE_ROWS:
            await self.flush()
        return added

    async def flush(self) -> None:
        if not self._batches:
            return
        batch = concatenate(self._batches)
        if int(batch["instrument_id"].max()) >= len(self._symbols):
            self._symbols = await _symbols(self._client, self._dataset)
        self._file.write(to_rows(batch, self._symbols, self._schema))
        self._batches, self._rows = [], 0


async def _symbols(client: Client, dataset: str) -> pa.Array[Any]:
    """Return the symbol of each id."""
    known = {instrument.instrument_id: instrument.symbol for instrument in await client.list_instruments(dataset)}
    return pa.array([known.get(number) for number in range(max(known, default=0) + 1)], pa.string())


def _progress(console: Console) -> Progress:
    return Progress(
        name_column(),
        BarColumn(),
        TextColumn("{task.completed:,} rows, {task.fields[rate]}"),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("left"),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        console=console,
        disable=not console.is_terminal,
    )


@contextmanager
def _sink(path: Path) -> Generator[IO[bytes]]:
    """Open a file that is there under its name once it is whole, or not at all; or standard output."""
    if path == _STDOUT:
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    target = path.resolve()  # where it is a link, the link stays
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise StackError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)
