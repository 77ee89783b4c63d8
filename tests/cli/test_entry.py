"""How `mda` begins and ends."""

from __future__ import annotations

import builtins
from importlib import metadata
from typing import Any

import pytest

from mda.cli import __main__ as command
from mda.cli import entry
from mda.cli.folder import StackError


def test_ctrl_c_before_the_command_is_there_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = builtins.__import__

    def interrupted(name: str, *rest: Any) -> Any:
        if name == "mda.cli.__main__":
            raise KeyboardInterrupt
        return whole(name, *rest)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 130


@pytest.mark.parametrize(
    "error",
    [
        StackError("SIM has no [/b], [red]x[/]: ids[0] \\[warning]"),
        OSError(28, "No space left on device"),
    ],
)
def test_what_is_wrong_is_told_to_the_letter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(command, "app", fail)
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: {error}\n"


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.app(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"mda {metadata.version('market-data-agent')}\n"
