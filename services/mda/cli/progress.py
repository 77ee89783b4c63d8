"""How far long work is: bytes or rows of how many, how fast, and how much longer."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column


def name_column() -> TextColumn:
    """Return the column of names: on a narrow terminal these are cut, and no figures."""
    return TextColumn("{task.description}", markup=False, table_column=Column(overflow="ellipsis"))


class RowProgress:
    """A progress bar of rows, on a terminal; nothing elsewhere.

    Parameters
    ----------
    console
        Where it is shown.

    Attributes
    ----------
    rows
        How many rows were told of.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            name_column(),
            BarColumn(),
            TaskProgressColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f} rows/s"),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[left]}"),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, rows=0, rate=0.0, left="", visible=False)
        self._began_s = time.monotonic()
        self.rows = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, name: str, total: int | None) -> None:
        """Begin a piece of work: its name, and how much it is; None where nobody knows."""
        self._began_s = time.monotonic()
        self.rows = 0
        left = "" if total is None else "left"
        self._progress.reset(self._task, description=name, total=total, visible=True, rows=0, rate=0.0, left=left)

    def advance(self, rows: int, completed: int | None = None) -> None:
        """Take in that so many more rows are done; and how much of the total, where that is not rows."""
        self.rows += rows
        self._progress.update(
            self._task,
            completed=self.rows if completed is None else completed,
            rows=self.rows,
            rate=self.rows / max(time.monotonic() - self._began_s, 1e-9),
        )

    @property
    def seconds(self) -> float:
        """How long the work has taken."""
        return time.monotonic() - self._began_s
