"""`mda audit`: every change, what auth refused, and whether the log of that is whole."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from marketdata.auth.v1 import client_service_pb2 as pb
from mda.cli.admin import PAGE, AdminKeyOption, Api, as_json, when
from mda.cli.options import DataOption, Output, OutputOption, UrlOption
from mda.cli.printing import print_records

app = typer.Typer(help="The audit log: every change, and what auth refused.", no_args_is_help=True)


@app.command("list")
def list_entries(
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=PAGE, help="How many of the newest.")] = 20,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: AdminKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the newest entries of the audit log, the newest last.

    Example: mda audit list --lines 50
    """
    answer = Api(data, url, key_file).call("ListAuditEntries", pb.ListAuditEntriesRequest(page_size=lines))
    entries: list[pb.AuditEntry] = list(reversed(answer.entries))
    if output is Output.JSON:
        typer.echo(json.dumps([as_json(entry) for entry in entries]))
        return
    rows = [
        (
            str(entry.sequence),
            when(entry, "time"),
            entry.actor,
            f"{entry.action}{' refused' if entry.refused else ''}",
            entry.subject,
            " ".join(f"{name}={value}" for name, value in sorted(entry.details.items())),
        )
        for entry in entries
    ]
    columns = ("#", "time", "actor", "action", "subject", "details")
    print_records(columns, rows, [as_json(entry) for entry in entries], output)


@app.command("verify")
def verify(
    known: Annotated[str | None, typer.Option(help="An entry noted earlier, as `<sequence>:<hash>`.")] = None,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: AdminKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check the audit log from its first entry on. Exits with 1 if somebody has been at it.

    Example: mda audit verify
    """
    sequence, _, noted = (known or "0:").partition(":")
    if not sequence.isdecimal() or re.fullmatch(r"([0-9a-f]{64})?", noted) is None:
        raise typer.BadParameter("takes `<sequence>:<hash>`, as this command prints it.", param_hint="--known")
    answer = _verified(Api(data, url, key_file), pb.VerifyAuditRequest(known_sequence=int(sequence), known_hash=noted))
    end = f"{answer.entries}:{answer.head_hash}"
    if output is Output.JSON:
        typer.echo(json.dumps(as_json(answer)))
    elif output is Output.CSV:
        cells = ("yes" if answer.intact else "no", str(answer.entries), answer.head_hash, answer.problem)
        print_records(("intact", "entries", "head hash", "problem"), [cells], [], output)
    elif answer.intact:
        typer.echo(f"The audit log is whole. Its end, to note for next time: {end}")
    else:
        typer.echo(f"The audit log is damaged: {answer.problem}. It is good up to {end}")
    raise typer.Exit(0 if answer.intact else 1)


def _verified(api: Api, request: pb.VerifyAuditRequest) -> pb.VerifyAuditResponse:
    while True:
        answer: pb.VerifyAuditResponse = api.call("VerifyAudit", request)
        if answer.complete:
            return answer
        request.after_sequence, request.after_hash = answer.entries, answer.head_hash
