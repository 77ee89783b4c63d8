"""`mda keys`: API keys, by which clients get tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from marketdata.auth.v1 import client_service_pb2 as pb
from mda.cli.admin import PAGE, AdminKeyOption, Api, as_json, duration, when
from mda.cli.options import DataOption, Output, OutputOption, UrlOption
from mda.cli.printing import print_records

app = typer.Typer(help="API keys: how clients get tokens.", no_args_is_help=True)

KeyArgument = Annotated[str, typer.Argument(help="The API key's id (mdk_…).")]
LifetimeOption = Annotated[
    str | None, typer.Option(help="How long it works, such as 90d; until it is revoked where not set.")
]


@app.command("list")
def list_keys(
    client_id: Annotated[str, typer.Argument(help="The client's id; all where none is given.")] = "-",
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: AdminKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List API keys, without their secrets.

    Example: mda keys list mdc_0123456789abcdef01234567
    """
    request = pb.ListApiKeysRequest(client_id=client_id, page_size=PAGE)
    _print(Api(data, url, key_file).all("ListApiKeys", request, "keys"), output)


@app.command("create")
def create(
    client_id: Annotated[str, typer.Argument(help="Whose: the client's id (mdc_…).")],
    lifetime: LifetimeOption = None,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: AdminKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make an API key, and print it: it is shown this once.

    Example: mda keys create mdc_0123456789abcdef01234567 --lifetime 90d > desk.key
    """
    request = pb.CreateApiKeyRequest(client_id=client_id, lifetime=duration(lifetime, "--lifetime"))
    _print_new(Api(data, url, key_file).call("CreateApiKey", request), output)


@app.command("rotate")
def rotate(
    key_id: KeyArgument,
    overlap: Annotated[
        str | None, typer.Option(help="How long the old one works on, such as 2h; a day where not set.")
    ] = None,
    lifetime: LifetimeOption = None,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: AdminKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make an API key in the place of another, which works on for a while. The new one is shown this once.

    Example: mda keys rotate mdk_0123456789abcdef01234567 --overlap 2h > desk.key
    """
    request = pb.RotateApiKeyRequest(
        key_id=key_id, overlap=duration(overlap, "--overlap"), lifetime=duration(lifetime, "--lifetime")
    )
    _print_new(Api(data, url, key_file).call("RotateApiKey", request), output)


@app.command("revoke")
def revoke(
    key_id: KeyArgument,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: AdminKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """End an API key for ever. Streams that run by it end.

    Example: mda keys revoke mdk_0123456789abcdef01234567
    """
    request = pb.RevokeApiKeyRequest(key_id=key_id)
    _print([Api(data, url, key_file).call("RevokeApiKey", request).key], output)


def _print(keys: Sequence[pb.ApiKey], output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps([as_json(key) for key in keys]))
        return
    times = ("create_time", "expire_time", "revoke_time", "last_use_time")
    rows = [(key.key_id, key.client_id, f"…{key.hint}", *(when(key, field) for field in times)) for key in keys]
    columns = ("id", "client id", "secret", "created", "expires", "revoked", "last used")
    print_records(columns, rows, [as_json(key) for key in keys], output)


def _print_new(answer: pb.CreateApiKeyResponse | pb.RotateApiKeyResponse, output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps(as_json(answer)))
        return
    if output is Output.CSV:
        key = answer.key.key
        row = (key.key_id, key.client_id, answer.key.api_key, when(key, "expire_time"))
        print_records(("id", "client id", "api key", "expires"), [row], [], output)
        return
    # The key alone on stdout, so that it can be put where it belongs without being seen.
    typer.echo(answer.key.api_key)
    typer.echo("This is shown once. Keep it where secrets are kept.", err=True)
