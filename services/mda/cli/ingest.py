"""`mda ingest`: puts files on the tape."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mda.cli.folder import StackError
from mda.cli.ingest_run import Ingestion, MappedFile, Source
from mda.cli.options import STREAM, DataOption, KeyOption, UrlOption, connection
from mda.feeds.columnar import ColumnFile, open_columnar
from mda.feeds.dbn import open_dbn
from mda.feeds.mapping import ColumnMapping, MappingError, guess, read_mapping

app = typer.Typer()


class FormatName(StrEnum):
    """What a file is."""

    DBN = "dbn"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


class IngestKind(StrEnum):
    """What its rows are."""

    QUOTES = "quotes"
    TRADES = "trades"
    BARS = "bars"


@app.command()
def ingest(
    files: Annotated[list[Path], typer.Argument(help="Files; - for standard input.")],
    form: Annotated[
        FormatName | None, typer.Option("--format", "-f", help="The format; by the file's name where not set.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-s", help="The dataset; DBN files tell it themselves.")
    ] = None,
    kind: Annotated[
        IngestKind | None, typer.Option("--kind", "-k", help="What the rows are; guessed where not set.")
    ] = None,
    symbol: Annotated[
        str | None, typer.Option("--symbol", help="The symbol of all rows, where no column tells it.")
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option("--mapping", "-m", help="Which column is what: a YAML file; guessed where not set.")
    ] = None,
    save_mapping: Annotated[
        Path | None, typer.Option("--save-mapping", help="Write the mapping to this file, and ingest nothing.")
    ] = None,
    backfill: Annotated[
        bool, typer.Option("--backfill", help="Only rows that fill open gaps, and close those; see `mda gaps --open`.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take what was guessed without a question.")] = False,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Put the rows of files on the tape, each once: a file that is there already adds nothing.

    DBN (definitions, mbp-1, trades, ohlcv), CSV, Parquet, Arrow; packed with gzip, zstd, bz2 or lz4. What breaks off
    goes on where it was when it is run again.

    Example: mda ingest es.definition.dbn.zst es.mbp-1.dbn.zst es.trades.dbn.zst

    Example: mda ingest quotes.csv.gz --dataset TEST

    Example: mda ingest day.trades.dbn.zst --backfill

    Example: mda ingest trades.parquet --dataset TEST --save-mapping map.yaml

    Example: zcat trades.csv.gz | mda ingest - --format csv --dataset TEST --symbol ESU4 --mapping map.yaml
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    with _on_disk(files, form) as paths:
        opened: list[Source] = []
        for path in paths:
            if form is FormatName.DBN or (form is None and ".dbn" in path.suffixes):
                opened.append(open_dbn(path))
                continue
            file = open_columnar(path, None if form is None else form.value)
            found = _mapping(file, mapping, kind, symbol)
            if save_mapping is not None:
                _save(found, save_mapping)
                console.print(f"The mapping stands in {save_mapping}. Nothing was ingested.")
                return
            if dataset is None:
                raise typer.BadParameter("it must say where the rows go.", param_hint="--dataset")
            if mapping is None and not yes:
                _confirm(console, file, found)
            opened.append(MappedFile(file, found, dataset))
        ingestion = Ingestion(console)
        try:
            work = ingestion.fill_gaps if backfill else ingestion.run
            asyncio.run(work(opened, *connection(data, url, key_file)))
        except KeyboardInterrupt:
            typer.echo(f"stopped: {ingestion.so_far}. The same command goes on from there.", err=True)
            raise typer.Exit(130) from None


@contextmanager
def _on_disk(files: list[Path], form: FormatName | None) -> Generator[list[Path]]:
    """Give the files; standard input as one, too: its name is made of all its bytes."""
    for file in files:
        if file != STREAM and not file.is_file():
            raise typer.BadParameter(f"There is no file {file}.", param_hint="FILES")
    if STREAM not in files:
        yield files
        return
    if form is None:
        raise typer.BadParameter("it must say what comes on standard input.", param_hint="--format")
    with tempfile.TemporaryDirectory(prefix="mda-ingest-") as folder:
        path = Path(folder) / f"stdin.{form.value}"
        with path.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy, 1 << 20)
        yield [path if file == STREAM else file for file in files]


def _mapping(file: ColumnFile, path: Path | None, kind: IngestKind | None, symbol: str | None) -> ColumnMapping:
    schema = file.schema()
    if path is None:
        try:
            return guess(schema, file.head(), kind=kind, only_symbol=symbol)
        except MappingError as error:
            raise StackError(f"{file.path} is not understood: {error} --symbol or --mapping may help.") from error
    told = read_mapping(path)
    if symbol is not None:
        told = replace(told, symbol=None, only_symbol=symbol)
    told.check(schema)
    return told


def _save(mapping: ColumnMapping, path: Path) -> None:
    try:
        path.write_text(mapping.to_yaml())
    except OSError as error:
        raise StackError(f"{path} cannot be written: {error.strerror or error}.") from error


def _confirm(console: Console, file: ColumnFile, mapping: ColumnMapping) -> None:
    table = Table("ours", "in the file", "first value", title=f"{file.path.name}: {mapping.kind}")
    head = file.head()
    whose = mapping.symbol or f"all are {mapping.only_symbol}"
    table.add_row("symbol", whose, str(head[mapping.symbol][0]) if mapping.symbol else "")
    for ours, theirs in mapping.columns.items():
        table.add_row(ours, theirs, str(head[theirs][0]))
    console.print(table)
    length = "" if mapping.interval_s is None else f"; bars: {mapping.interval_s} s long"
    console.print(f"times: {mapping.times}; prices and sizes: {mapping.prices}{length}")
    if unused := set(head.schema.names) - {*mapping.columns.values(), mapping.symbol}:
        console.print(f"not taken: {', '.join(sorted(unused))}")
    if not sys.stdin.isatty():
        raise StackError("This was guessed. Give --yes to take it, or --save-mapping to write it down and change it.")
    try:
        right = typer.confirm("Is that right?", err=True)
    except typer.Abort:  # Ctrl-C
        raise typer.Exit(130) from None
    if not right:
        raise StackError("Nothing was ingested. --save-mapping writes down what was guessed, for you to change.")
