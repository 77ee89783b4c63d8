"""What `mda ingest` shows before anything is put on the tape."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from mda.cli.folder import StackError
from mda.cli.ingest import ingest


def test_names_with_brackets_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "[bold]x.csv"
    path.write_text("timestamp,bid,ask,price [/oz]\n2026-01-01T00:00:00Z,1,2,3\n")
    with pytest.raises(StackError, match="This was guessed"):
        ingest([path], dataset="TEST", symbol="A")
    shown = capsys.readouterr().err
    assert "[bold]x.csv: quotes" in shown
    assert "not taken: price [/oz]" in shown


def test_what_is_missing_is_asked_for_before_what_is_guessed(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("timestamp,bid,ask\n2026-01-01T00:00:00Z,1,2\n")
    with pytest.raises(StackError, match=r"x\.csv is not understood: nothing says whose the rows are.* --symbol"):
        ingest([path], dataset="TEST")


def test_a_guess_that_is_not_taken_puts_nothing_on_the_tape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.csv"
    path.write_text("timestamp,bid,ask\n2026-01-01T00:00:00Z,1,2\n")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: False)
    with pytest.raises(StackError, match=r"Nothing was ingested\. --save-mapping"):
        ingest([path], dataset="TEST", symbol="A")

    def interrupted(*_: object, **__: object) -> bool:
        raise typer.Abort

    monkeypatch.setattr(typer, "confirm", interrupted)
    with pytest.raises(typer.Exit) as ended:
        ingest([path], dataset="TEST", symbol="A")
    assert ended.value.exit_code == 130
