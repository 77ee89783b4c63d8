"""`mda quarantine`: rows that were set aside, and their release."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import islice
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from marketdata.client import Client
from marketdata.v1.quarantine_pb2 import QuarantinedRows
from marketdata.v1.verdict_pb2 import Verdict
from mda.cli.admin import as_json, when
from mda.cli.options import DataOption, KeyOption, Output, OutputOption, UrlOption, connection
from mda.cli.printing import print_records

T = TypeVar("T")

app = typer.Typer(help="Rows that were set aside, and their release.", no_args_is_help=True)

DatasetArgument = Annotated[str, typer.Argument(help="The dataset.")]
ProducerOption = Annotated[str | None, typer.Option("--producer", help="Only rows of this producer.")]


@app.command("list")
def list_quarantined(
    dataset: DatasetArgument,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many items at the most.")] = 100,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only those that are not released.")] = False,
    producer: ProducerOption = None,
    output: OutputOption = Output.TABLE,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Show the rows that were set aside, the newest last; as JSON with all their columns.

    Example: mda quarantine list SIM --waiting

    Example: mda quarantine list SIM --output json
    """
    most = None if waiting or producer else limit  # else those before may be all that are asked for
    found = _ask(lambda client: client.quarantined(dataset, limit=most), connection(data, url, key_file))
    wanted = (item for item in found if producer in {None, item.producer} and not (waiting and item.tape_sequence))
    shown = [*islice(wanted, limit)]
    if not shown:
        typer.echo(f"nothing {'waits' if waiting else 'was set aside'} in {dataset}", err=True)
    columns = ("id", "time", "producer", "batch", "rows", "kind", "symbols", "verdicts", "released as")
    print_records(columns, [_cells(item) for item in shown], [as_json(item) for item in shown], output)


@app.command("release")
def release(
    dataset: DatasetArgument,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids, as `mda quarantine list` shows them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that wait.")] = False,
    producer: Annotated[str | None, typer.Option("--producer", help="All of this producer that wait.")] = None,
    output: OutputOption = Output.TABLE,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Put rows that were set aside on the tape, with the verdict RELEASED. Each is released once.

    Example: mda quarantine release SIM 12-0 13-0

    Example: mda quarantine release SIM --all

    Example: mda quarantine release SIM --producer feed-1
    """
    if [bool(ids), everything, producer is not None].count(True) != 1:
        raise typer.BadParameter("name the ids to release, or give --all, or --producer.", param_hint="IDS")

    async def ask(client: Client) -> list[tuple[str, str, str]]:
        wanted = ids or [
            item.id
            for item in await client.quarantined(dataset)
            if producer in {None, item.producer} and not item.tape_sequence
        ]
        released = await client.release(dataset, wanted)
        return [(one.id, str(one.tape_sequence), "yes" if one.already_released else "no") for one in released]

    columns = ("id", "tape sequence", "was released before")
    rows = _ask(ask, connection(data, url, key_file))
    if not rows:
        typer.echo(f"nothing waits in {dataset}", err=True)
    names = [column.replace(" ", "_") for column in columns]
    print_records(columns, rows, [dict(zip(names, row, strict=True)) for row in rows], output)


def _ask(question: Callable[[Client], Awaitable[T]], address: tuple[str, str]) -> T:
    async def ask() -> T:
        async with Client.connect(*address) as client:
            return await question(client)

    return asyncio.run(ask())


def _cells(item: QuarantinedRows) -> tuple[str, ...]:
    rows = [*item.quotes, *item.trades, *item.bars]
    verdicts = {Verdict.Name(verdict).removeprefix("VERDICT_").lower() for row in rows for verdict in row.verdicts}
    symbols = {row.symbol or "?" for row in rows}
    return (
        item.id,
        when(item, "time"),
        item.producer,
        str(item.batch_number),
        str(len(rows)),
        "quotes" if item.quotes else "trades" if item.trades else "bars",
        " ".join(sorted(symbols)),
        "|".join(sorted(verdicts)),
        str(item.tape_sequence) if item.tape_sequence else "-",
    )
