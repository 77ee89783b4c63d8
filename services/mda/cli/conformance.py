"""`mda conformance`: faults of markets and producers, to prove clients by."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from marketdata.client import Client
from marketdata.columns import FIELDS, NANOS
from marketdata.digest import Digest
from mda.cli.options import DataOption, KeyOption, Output, OutputOption, UrlOption, connection
from mda.cli.printing import print_records
from mda.feeds.conformance_run import Fault, Plan, Report, run

app = typer.Typer()

_WIDE = 120
"""From how many columns of the terminal on sequence numbers are shown, too."""


@app.command()
def conformance(
    dataset: Annotated[str, typer.Option("--dataset", "-s", help="The dataset.")] = "CONFORMANCE",
    seed: Annotated[int, typer.Option(min=0, help="The same seed and --start make the same rows.")] = 1,
    rows: Annotated[int, typer.Option(min=1_000, help="About how many rows.")] = 100_000,
    speed: Annotated[float, typer.Option(min=0, help="1 pauses as scripted, 2 half as long, 0 not at all.")] = 1,
    producer: Annotated[str | None, typer.Option(help="The producer's name; a fresh one where not set.")] = None,
    start: Annotated[
        int | None,
        typer.Option(min=10 * NANOS, max=1 << 62, help="The first row's time, in ns since 1970; now where not set."),
    ] = None,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Publish holes, late rows, crashes and more, and tell what a client must have received.

    Let your client subscribe to the dataset first; it is right if it has the same rows and digests. Exit code 1 if
    the server itself has not.

    Example: mda conformance --seed 7 --speed 2
    """
    address, key = connection(data, url, key_file)
    name = producer or f"conformance-{secrets.token_hex(4)}"
    begin_ns = time.time_ns() if start is None else start
    plan = Plan(dataset=dataset, producer=name, seed=seed, rows=rows, start_ns=begin_ns, speed=speed)
    report = asyncio.run(_run(plan, address, key))
    console = Console(highlight=False, soft_wrap=True)
    if output is Output.JSON:
        console.print_json(json.dumps(_facts(report)))
    elif output is Output.CSV:
        lines = [(name, str(digest.rows), digest.hex) for name, digest in _wanted(report).items()]
        print_records(("of", "rows", "digest"), lines, [], output)
    else:
        _show(console, report)
    raise typer.Exit(0 if report.agreed else 1)


async def _run(plan: Plan, url: str, api_key: str) -> Report:
    async with Client.connect(url, api_key) as client:
        with Console(stderr=True, highlight=False).status(f"publishing {plan.rows:,} rows or so"):
            return await run(client, plan)


def _facts(report: Report) -> dict[str, Any]:
    plan = report.plan
    return {
        "dataset": plan.dataset,
        "producer": plan.producer,
        "seed": plan.seed,
        "speed": plan.speed,
        "start_ns": str(plan.start_ns),  # JSON's numbers are too short for some readers
        **_digest(report.total),
        "kinds": {FIELDS[kind]: _digest(digest) for kind, digest in report.kinds.items()},
        "symbols": {symbol: _digest(digest) for symbol, digest in report.symbols.items()},
        "first_cursor": report.first_cursor,
        "last_cursor": report.last_cursor,
        "server": {FIELDS[kind]: _digest(digest) for kind, digest in report.stored.items()},
        "server_agrees": report.agreed,
        "faults": [_fault(fault) for fault in report.faults],
    }


def _digest(digest: Digest) -> dict[str, Any]:
    return {"rows": digest.rows, "digest": digest.hex}


def _fault(fault: Fault) -> dict[str, Any]:
    return {
        "step": fault.step.name,
        "fault": fault.step.fault,
        "first_row": fault.first_row,
        "last_row": fault.last_row,
        "first_batch": fault.first_batch,
        "last_batch": fault.last_batch,
        "first_sequence": str(fault.first_sequence),
        "last_sequence": str(fault.last_sequence),
        "digest": fault.digest.hex,
        "unacknowledged_rows": fault.unacknowledged_rows,
        "sent_again": fault.sent_again,
        "paused_s": round(fault.paused_s, 3),
    }


def _show(console: Console, report: Report) -> None:
    plan = report.plan
    console.print(_faults(report, wide=console.width >= _WIDE), soft_wrap=False)
    wanted = Table(title="What a client must have received")
    for name in ("of", "rows", "digest"):
        wanted.add_column(name, justify="right" if name == "rows" else "left", no_wrap=True)
    for name, digest in _wanted(report).items():
        wanted.add_row(name, f"{digest.rows:,}", digest.hex)
    console.print(wanted, soft_wrap=False)
    console.print(f"producer {plan.producer}, --seed {plan.seed} --start {plan.start_ns}")
    console.print(f"after cursor {report.first_cursor}, up to {report.last_cursor}")
    console.print(_verdict(report))


def _wanted(report: Report) -> dict[str, Digest]:
    """Return the digests of what a client must have received."""
    kinds = {FIELDS[kind]: digest for kind, digest in report.kinds.items()}
    return {"all": report.total, **kinds, **report.symbols}


def _faults(report: Report, *, wide: bool) -> Table:
    pauses = "" if report.plan.speed else "; --speed 0 left the pauses out"
    caption = f"rows are counted from 1, in the stream's order{pauses}"
    table = Table(title=f"{report.plan.dataset}: what was done", caption=caption)
    table.add_column("step", no_wrap=True)
    for name in ("rows", "sequence") if wide else ("rows",):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what a client meets")
    for fault in report.faults:
        ranges = [f"{fault.first_row:,} to {fault.last_row:,}", f"{fault.first_sequence} to {fault.last_sequence}"]
        table.add_row(fault.step.name, *ranges[: 1 + wide], _sentence(fault))
    return table


def _sentence(fault: Fault) -> str:
    if not fault.unacknowledged_rows:
        return fault.step.fault
    return (
        f"{fault.step.fault} (not acknowledged: {fault.unacknowledged_rows} rows; "
        f"sent again: {fault.sent_again} batches)"
    )


def _verdict(report: Report) -> str:
    if report.agreed:
        return "[green]The server has the same digests.[/]"
    rows = sum(digest.rows for digest in report.stored.values())
    return (
        f"[red]The server has {rows:,} rows there, or others.[/] Does another producer publish in "
        f"{report.plan.dataset}, or does its policy set rows aside?"
    )
