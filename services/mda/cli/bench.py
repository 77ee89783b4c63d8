"""`mda bench`: how fast a server is, as a client sees it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from rich.console import Console

from marketdata.client import Client
from mda.cli.bench_run import Figures, Plan, run
from mda.cli.options import DataOption, KeyOption, Output, OutputOption, UrlOption, connection
from mda.cli.printing import print_records

app = typer.Typer()

_PERCENTILES: Final = (50, 99, 99.9)


@app.command()
def bench(
    dataset: Annotated[str, typer.Option("--dataset", "-s", help="Where rows are published; it keeps them.")] = "BENCH",
    batch_rows: Annotated[
        int, typer.Option(min=1, max=1 << 16, help="Rows of a batch where as many as possible are published.")
    ] = 1_000,
    per_s: Annotated[
        int, typer.Option(min=1, max=10_000, help="Batches of ten rows a second where delays are measured.")
    ] = 100,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long is published, each time.")] = 5,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Measure publishing, replay and delays through the gateway. Its rows stay in the dataset.

    A single client and its server are measured together. Exit code 1 if what is read back is not what the server has.

    Example: mda bench

    Example: mda bench --batch-rows 10000 --per-s 1000 --output json
    """
    address, key = connection(data, url, key_file)
    figures = asyncio.run(_run(Plan(dataset, batch_rows, per_s, seconds), address, key))
    rows = _rows(figures)
    grouped = "" if output is Output.CSV else ","
    print_records(
        ("measured", "figure", "unit"),
        [(name, f"{figure:{grouped}.{digits}f}", unit) for name, _, figure, digits, unit in rows],
        [{name: figure for _, name, figure, _, _ in rows} | {"digest_agrees": figures.agreed}],
        output,
    )
    if output is Output.TABLE:
        typer.echo("What was read back has the server's digest." if figures.agreed else "What was read back differs.")
    raise typer.Exit(0 if figures.agreed else 1)


async def _run(plan: Plan, url: str, api_key: str) -> Figures:
    console = Console(stderr=True, highlight=False)
    async with Client.connect(url, api_key) as client:
        with console.status("connecting") as status:
            return await run(client, plan, lambda stage: status.update(stage))


def _rows(figures: Figures) -> list[tuple[str, str, float, int, str]]:
    """Return what is shown of each figure: its name, its key in JSON, itself, its digits, its unit."""
    delays = [
        (f"p{percentile:g} of send to receipt", f"delay_p{percentile:g}_ms".replace(".", "_"), float(value), 2, "ms")
        for percentile, value in zip(_PERCENTILES, np.percentile(figures.delays_ms, _PERCENTILES), strict=True)
    ]
    return [
        ("published, durable", "publish_rows_per_s", figures.rows / figures.publish_s, 0, "rows/s"),
        ("read back from a cursor", "replay_rows_per_s", figures.replay_rows / figures.replay_s, 0, "rows/s"),
        *delays,
        ("most of send to receipt", "delay_max_ms", max(figures.delays_ms), 2, "ms"),
    ]
