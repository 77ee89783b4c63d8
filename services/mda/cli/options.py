"""Options that several commands share."""

from __future__ import annotations

import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mda.cli.folder import Folder, StackError


class Output(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"


DataOption = Annotated[Path, typer.Option("--data", envvar="MDA_DATA", help="The stack's data folder.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]
UrlOption = Annotated[
    str | None, typer.Option("--url", envvar="MDA_URL", help="The gateway; that of the stack in --data where not set.")
]
KeyOption = Annotated[
    str | None,
    typer.Option("--api-key", envvar="MDA_API_KEY", help="The API key; that of the stack in --data where not set."),
]


def command_path() -> str:
    """Return how to call `mda` from here: by its name, where the shell finds it by that."""
    return "mda" if shutil.which("mda") else str(Path(sys.executable).with_name("mda"))


def connection(
    data: Path,
    url: str | None,
    api_key: str | None,
    name: str = "api_key",
    how: str = "Set MDA_API_KEY, or give --api-key.",
) -> tuple[str, str]:
    """Return the gateway's address and an API key: as given, or those of the stack on this machine.

    Parameters
    ----------
    data, url, api_key
        The command's options.
    name
        Which of the stack's keys.
    how
        What to do where there is no API key.

    Raises
    ------
    StackError
        If they are not given and no stack runs.
    """
    folder = Folder(data.absolute())
    if url is None:
        url = str(folder.running_state()["url"])
    if api_key is None:
        api_key = folder.read_secrets().get(name)
    if api_key is None:
        raise StackError(f"There is no API key. {how}")
    return url, api_key
