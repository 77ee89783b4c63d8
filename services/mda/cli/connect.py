"""`mda env`, `mda token`: what other programs need to connect."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

import typer

from marketdata.client import Client
from mda.cli.folder import Folder
from mda.cli.options import DataOption, KeyOption, UrlOption, command_path, connection

app = typer.Typer()


@app.command()
def env(data: DataOption = Path(".mda")) -> None:
    """Print `export` lines for a shell.

    Example: eval "$(mda env)"
    """
    folder = Folder(data.absolute())
    state = folder.running_state()
    values = {
        "MDA_URL": state["url"],
        "MDA_TLS_URL": state["tls_url"],
        "MDA_CA_CERT": str(folder.tls / "ca.crt"),
        "MDA_API_KEY": folder.read_secrets()["api_key"],
    }
    for name, value in values.items():
        typer.echo(f"export {name}={shlex.quote(value)}")
    if command_path() != "mda":
        typer.echo(f'export PATH={shlex.quote(str(Path(command_path()).parent))}:"$PATH"')


@app.command()
def token(data: DataOption = Path(".mda"), url: UrlOption = None, key_file: KeyOption = None) -> None:
    """Print a token, for programs that have no client of ours.

    Example: curl -H "Authorization: Bearer $(mda token)" "$MDA_URL/v1/datasets"
    """
    address, key = connection(data, url, key_file)
    typer.echo(asyncio.run(_token(address, key)))


async def _token(url: str, api_key: str) -> str:
    async with Client.connect(url, api_key) as client:
        return await client.token()
