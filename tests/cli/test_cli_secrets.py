"""The secrets of a stack on this machine."""

from __future__ import annotations

from pathlib import Path

from mda.cli.folder import Folder
from mda.cli.stack import _ensure_secrets


def test_secrets_are_made_once_and_a_folder_of_before_gets_what_it_lacks(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.create()
    made = _ensure_secrets(folder)
    assert _ensure_secrets(folder) == made
    folder.write_secrets({name: value for name, value in made.items() if name != "cursor_key"})
    mended = _ensure_secrets(folder)
    assert mended["cursor_key"]
    assert {**mended, "cursor_key": ""} == {**made, "cursor_key": ""}
    assert _ensure_secrets(folder) == mended
