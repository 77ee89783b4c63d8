"""`mda`: the command."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from marketdata.errors import ApiError
from mda.cli import (
    audit,
    bench,
    clients,
    conformance,
    connect,
    doctor,
    export,
    feed,
    gaps,
    ingest,
    keys,
    quarantine,
    query,
    replay,
    up,
    usage,
    watch,
)
from mda.cli.folder import StackError


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mda {metadata.version('market-data-agent')}")
        raise typer.Exit


app = typer.Typer(
    name="mda",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (up, connect, ingest, watch, export, replay, gaps, usage, conformance, bench, doctor):
    app.registered_commands += module.app.registered_commands
GROUPS = (
    ("query", query),
    ("feed", feed),
    ("quarantine", quarantine),
    ("clients", clients),
    ("keys", keys),
    ("audit", audit),
)
for name, group in GROUPS:
    app.add_typer(group.app, name=name)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version, and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Market data whose subscriptions are cursors on a tape."""


def main() -> None:
    """Run the command; what is wrong is one line on stderr, and exit code 1."""
    try:
        app()
    except (StackError, ApiError, ValueError, OSError) as error:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print("[red]error:[/]", escape(str(error)))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
