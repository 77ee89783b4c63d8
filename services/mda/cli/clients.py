"""`mda clients`: who may have tokens, for what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from marketdata.auth.v1 import client_service_pb2 as pb
from mda.cli.admin import PAGE, AdminKeyOption, Api, as_json, when
from mda.cli.options import DataOption, Output, OutputOption, UrlOption
from mda.cli.printing import print_records

app = typer.Typer(help="Clients: who may have tokens, for what.", no_args_is_help=True)

ClientArgument = Annotated[str, typer.Argument(help="The client's id (mdc_…).")]
DatasetOption = Annotated[
    list[str] | None, typer.Option("--dataset", help="A dataset, or '*' for all; may be given more than once.")
]
RequestsOption = Annotated[
    int | None, typer.Option("--requests-per-second", min=1, help="Calls a second, in place of its tier's.")
]
StreamsOption = Annotated[
    int | None, typer.Option("--streams", min=1, help="Streams open at a time, in place of its tier's.")
]
SymbolsOption = Annotated[
    int | None, typer.Option("--symbols", min=1, help="Symbols of a stream, in place of its tier's.")
]
RowsOption = Annotated[int | None, typer.Option("--rows-per-day", min=1, help="Rows a day, in place of its tier's.")]


class Tier(StrEnum):
    """How much a client may use."""

    FREE = "free"
    PRO = "pro"
    INTERNAL = "internal"

    @property
    def in_contract(self) -> str:
        """Its name in the contract."""
        return f"TIER_{self.name}"


@app.command("list")
def list_clients(
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: AdminKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List all clients.

    Example: mda clients list --output json
    """
    request = pb.ListClientsRequest(page_size=PAGE)
    _print(Api(data, url, key_file).all("ListClients", request, "clients"), output)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    role: Annotated[list[str], typer.Option("--role", help="A role; may be given more than once.")],
    dataset: DatasetOption = None,
    tier: Annotated[Tier, typer.Option(help="How much it may use.")] = Tier.FREE,
    requests_per_second: RequestsOption = None,
    streams: StreamsOption = None,
    symbols: SymbolsOption = None,
    rows_per_day: RowsOption = None,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: AdminKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a client, which gets in with a key of `mda keys create`.

    Example: mda clients create desk --role reader --dataset SIM
    """
    quotas = _quotas(requests_per_second, streams, symbols, rows_per_day)
    request = pb.CreateClientRequest(
        name=name, tier=tier.in_contract, roles=role, datasets=dataset or (), quotas=quotas
    )
    _print([Api(data, url, key_file).call("CreateClient", request).client], output)


@app.command("update")
def update(
    client_id: ClientArgument,
    role: Annotated[list[str] | None, typer.Option("--role", help="A role; may be given more than once.")] = None,
    dataset: DatasetOption = None,
    tier: Annotated[Tier | None, typer.Option(help="How much it may use.")] = None,
    requests_per_second: RequestsOption = None,
    streams: StreamsOption = None,
    symbols: SymbolsOption = None,
    rows_per_day: RowsOption = None,
    of_tier: Annotated[bool, typer.Option("--limits-of-tier", help="Take away limits of its own.")] = False,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: AdminKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change a client: what is given takes the place of what it has, limits all together. Streams that it runs end.

    Example: mda clients update mdc_0123456789abcdef01234567 --tier pro --streams 20
    """
    quotas = _quotas(requests_per_second, streams, symbols, rows_per_day)
    request = pb.UpdateClientRequest(
        client_id=client_id,
        tier=tier.in_contract if tier else None,
        roles=pb.Roles(names=role) if role else None,
        datasets=pb.Datasets(names=dataset) if dataset else None,
        quotas=quotas if quotas != pb.Quotas() or of_tier else None,
    )
    if request == pb.UpdateClientRequest(client_id=client_id):
        raise typer.BadParameter("say what to change, such as --tier pro.", param_hint="OPTIONS")
    _print([Api(data, url, key_file).call("UpdateClient", request).client], output)


@app.command("disable")
def disable(
    client_id: ClientArgument,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: AdminKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Keep a client out. Streams that it runs end.

    Example: mda clients disable mdc_0123456789abcdef01234567
    """
    request = pb.DisableClientRequest(client_id=client_id)
    _print([Api(data, url, key_file).call("DisableClient", request).client], output)


@app.command("enable")
def enable(
    client_id: ClientArgument,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: AdminKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a client in again.

    Example: mda clients enable mdc_0123456789abcdef01234567
    """
    request = pb.EnableClientRequest(client_id=client_id)
    _print([Api(data, url, key_file).call("EnableClient", request).client], output)


def _quotas(requests: int | None, streams: int | None, symbols: int | None, rows: int | None) -> pb.Quotas:
    return pb.Quotas(requests_per_second=requests, streams=streams, symbols_per_subscription=symbols, rows_per_day=rows)


def _print(clients: Sequence[pb.Client], output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps([as_json(client) for client in clients]))
        return
    rows = [
        (
            client.client_id,
            client.name,
            pb.Tier.Name(client.tier).removeprefix("TIER_").lower(),
            " ".join(client.scopes),
            " ".join(client.datasets),
            when(client, "disable_time"),
        )
        for client in clients
    ]
    columns = ("id", "name", "tier", "scopes", "datasets", "disabled")
    print_records(columns, rows, [as_json(client) for client in clients], output)
