"""Options that several commands share."""

from __future__ import annotations

import os
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from mda.auth.api_key import format_api_key, parse_api_key
from mda.cli.folder import Folder, StackError

STREAM: Final = Path("-")
"""Instead of a file: standard input, or output."""


class Output(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


KEY_VARIABLE: Final = "MDA_API_KEY"

DataOption = Annotated[Path, typer.Option("--data", envvar="MDA_DATA", help="The stack's data folder.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]
UrlOption = Annotated[
    str | None, typer.Option("--url", envvar="MDA_URL", help="The gateway; that of the stack in --data where not set.")
]
# No option takes the key itself: everybody on the machine can read command lines.
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        envvar="MDA_API_KEY_FILE",
        help=f"Where the API key stands, `-` for stdin; where not set {KEY_VARIABLE},"
        " or else that of the stack in --data.",
    ),
]


def command_path() -> str:
    """Return how to call `mda` from here: by its name, where the shell finds it by that."""
    return "mda" if shutil.which("mda") else str(Path(sys.executable).with_name("mda"))


def connection(
    data: Path,
    url: str | None,
    key_file: Path | None,
    *,
    variable: str = KEY_VARIABLE,
    name: str = "api_key",
) -> tuple[str, str]:
    """Return the gateway's address and an API key: as given, or those of the stack on this machine.

    Parameters
    ----------
    data, url, key_file
        The command's options.
    variable
        Which variable of the environment holds a key.
    name
        Which of the stack's keys.

    Raises
    ------
    StackError
        If they are not given and no stack runs, or the key's file cannot be read.
    """
    api_key = os.environ.get(variable) if key_file is None else _read_key(key_file)
    folder = Folder(data.absolute())
    if url is None:
        url = str(folder.running_state()["url"])
    api_key = api_key or folder.read_secrets().get(name)
    if not api_key:
        raise StackError(f"There is no API key. Set {variable}, or give --api-key-file.")
    return url, api_key


def _read_key(file: Path) -> str:
    try:
        text = sys.stdin.read() if file == STREAM else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise StackError(f"The API key cannot be read: {error}.") from error
    return format_api_key(*parse_api_key(text))
