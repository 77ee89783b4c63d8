"""Records for people and programs: a table, JSON or CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from typing import Any

import typer

from mda.cli.options import Output


def print_records(
    columns: Sequence[str], rows: Sequence[Sequence[str]], objects: Sequence[Any], output: Output
) -> None:
    """Print records on standard output.

    Parameters
    ----------
    columns, rows
        What a table and CSV show.
    objects
        What JSON shows, in their place.
    output
        Which of them.
    """
    if output is Output.JSON:
        typer.echo(json.dumps(objects))
    elif output is Output.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(column.replace(" ", "_") for column in columns)
        writer.writerows(rows)
    else:
        _print_table(columns, rows)


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns that are aligned and never cut: ids are there to be pasted."""
    lines = [tuple(column.upper() for column in columns), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
