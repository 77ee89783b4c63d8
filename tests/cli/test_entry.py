"""How `mda` begins and ends."""

from __future__ import annotations

import builtins
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


def test_what_is_wrong_is_told_to_the_letter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise StackError("SIM has no [/b], [red]x[/]: ids[0] \\[warning]")

    monkeypatch.setattr(command, "app", fail)
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: SIM has no [/b], [red]x[/]: ids[0] \\[warning]\n"
