"""Progress bars on terminals of 80 columns."""

from __future__ import annotations

import io

from rich.console import Console

from mda.cli.export import _progress
from mda.cli.progress import RowProgress

NAME = "[es]-futures.mbp-1.2024-07-01.dbn.zst"


def _console() -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)


def _shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_long_name_is_cut_and_no_figure() -> None:
    console = _console()
    with RowProgress(console) as progress:
        progress.begin(NAME, 100)
        progress.advance(2_288, 100)
    shown = _shown(console)
    assert "[es]-fut" in shown
    assert "100% 2,288 rows, " in shown
    assert "left 0:00:00" in shown


def test_a_long_name_of_an_export_is_cut_and_no_figure() -> None:
    console = _console()
    with _progress(console) as progress:
        progress.add_task(NAME * 2, total=100, completed=100, rate="1,273,000 rows/s")
    assert "100 rows, 1,273,000 rows/s 0:00:00 left -:--:--" in _shown(console)


def test_nobody_is_told_how_far_work_of_unknown_length_is() -> None:
    console = _console()
    with RowProgress(console) as progress:
        progress.begin("SIM → TEST", None)
        progress.advance(2_288)
    shown = _shown(console)
    assert "2,288 rows, " in shown
    assert "%" not in shown
    assert "left" not in shown
