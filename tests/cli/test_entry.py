"""How `mda` begins and ends."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from mda.cli import entry


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
