"""`mda usage`: what a client may use, and what of it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marketdata.auth.v1 import client_service_pb2 as pb
from mda.cli.admin import Api, as_json, when
from mda.cli.options import DataOption, KeyOption, Output, OutputOption, UrlOption
from mda.cli.printing import print_records

app = typer.Typer()


@app.command()
def usage(
    client_id: Annotated[
        str | None, typer.Argument(help="A client's id (mdc_…), as an admin; where not given, the caller itself.")
    ] = None,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show limits and use: calls, streams, rows of today, all replicas together.

    Example: mda usage
    """
    if client_id is None:
        found = Api(data, url, key_file, admin=False).call("GetUsage", pb.GetUsageRequest()).usage
    else:
        request = pb.GetClientUsageRequest(client_id=client_id)
        found = Api(data, url, key_file).call("GetClientUsage", request).usage
    if output is Output.TABLE:
        tier = pb.Tier.Name(found.tier).removeprefix("TIER_").lower()
        typer.echo(f"{found.client_id}, {tier}; the day ends at {when(found, 'day_end_time')}")
    rows = _rows(found)
    if output is Output.CSV:  # numbers for programs
        rows = [(what, limit.replace(",", ""), used.replace(",", "")) for what, limit, used in rows]
    print_records(("what", "limit", "used"), rows, [as_json(found)], output)


def _rows(found: pb.Usage) -> list[tuple[str, str, str]]:
    calls = f"{found.requests_left:,} left now" if found.HasField("requests_left") else "-"
    return [
        ("calls a second", _limit(found.limits, "requests_per_second"), calls),
        ("streams", _limit(found.limits, "streams"), f"{found.streams:,} open"),
        ("symbols of a stream", _limit(found.limits, "symbols_per_subscription"), "-"),
        ("rows a day", _limit(found.limits, "rows_per_day"), f"{found.rows_today:,} today"),
    ]


def _limit(limits: pb.Quotas, name: str) -> str:
    return f"{getattr(limits, name):,}" if limits.HasField(name) else "none"
