"""What was measured: a table on the screen, JSON in a file."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes
    ----------
    group, name
        What was measured.
    value, unit
        How much.
    bare, ratio
        The figure of the bare counterpart in the same run, and `value / bare`; None where
        it is itself a bare one.
    """

    group: str
    name: str
    value: float
    unit: str
    bare: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the bare figure."""
        return None if self.bare is None else self.value / self.bare


@dataclass(slots=True)
class Report:
    """The figures of a run."""

    figures: list[Figure] = field(default_factory=list)

    def add(self, group: str, name: str, value: float, unit: str, bare: float | None = None) -> None:
        """Take in a figure."""
        self.figures.append(Figure(group, name, value, unit, bare))

    def print(self) -> None:
        """Print the table."""
        table = Table("measured", "", "figure", "bare", "ratio", title=f"{os.cpu_count()} cores, {platform.machine()}")
        for column in table.columns[2:]:
            column.justify = "right"
        group = ""
        for figure in self.figures:
            if figure.group != group:
                table.add_section()
            bare = "" if figure.bare is None else f"{figure.bare:,.3g} {figure.unit}"
            ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
            head = figure.group if figure.group != group else ""
            table.add_row(head, figure.name, f"{figure.value:,.3g} {figure.unit}", bare, ratio)
            group = figure.group
        Console(width=120).print(table)

    def write(self, path: Path) -> None:
        """Write the figures as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{**asdict(figure), "ratio": figure.ratio} for figure in self.figures]
        path.write_text(json.dumps({"cores": os.cpu_count(), "figures": rows}, indent=1))
