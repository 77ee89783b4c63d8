"""`mda gaps`: rows that are known to be missing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from marketdata.client import Client
from marketdata.v1.gap_pb2 import Gap
from mda.cli.options import DataOption, KeyOption, Output, OutputOption, UrlOption, connection
from mda.cli.row_output import GAPS, print_rows

app = typer.Typer()


@app.command()
def gaps(
    dataset: Annotated[str, typer.Argument(help="The dataset.")],
    open_only: Annotated[bool, typer.Option("--open", help="Only those that are open still.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at the most.")] = 100,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if there is one.")] = False,
    output: OutputOption = Output.TABLE,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Show the gaps of a dataset, newest first: as each opened, and as it closed.

    Example: mda gaps SIM

    Example: mda gaps SIM --open --check || echo "rows are missing"
    """
    address, key = connection(data, url, key_file)

    async def ask() -> list[Gap]:
        async with Client.connect(address, key) as client:
            return await client.gaps(dataset, open_only=open_only, limit=limit)

    found = asyncio.run(ask())
    print_rows(GAPS, found, output)
    if not found:
        typer.echo(f"no {'open ' if open_only else ''}gaps in {dataset}", err=True)
    if check and found:
        raise typer.Exit(1)
