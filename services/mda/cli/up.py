"""`mda up`, `mda status`, `mda logs`, `mda down`: a stack on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import psutil
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from mda.cli.control import request_restart, taking_requests
from mda.cli.folder import Folder, StackError
from mda.cli.options import DataOption, Output, OutputOption, command_path
from mda.cli.printing import print_records
from mda.cli.supervisor import StartError, Supervisor

if TYPE_CHECKING:  # imported where it is used: it takes a second, and most commands do not need it
    from mda.cli.stack import Stack

_DETACH_S: Final = 90.0
_DOWN_S: Final = 60.0
_RESTART_S: Final = 60.0

app = typer.Typer()


@app.command()
def up(
    data: DataOption = Path(".mda"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="The gateway's port.")] = 8080,
    tls_port: Annotated[int, typer.Option(min=1, max=65535, help="The gateway's port for TLS.")] = 8443,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when all is ready.")] = False,
    feed: Annotated[bool, typer.Option(help="Run the synthetic feed, dataset SIM.")] = True,
    seed: Annotated[int, typer.Option(help="The synthetic feed's seed.")] = 1,
    query_replicas: Annotated[int, typer.Option(min=1, max=8, help="How many query services to run.")] = 1,
    otlp: Annotated[
        str | None, typer.Option(envvar="MDA_OTLP_ENDPOINT", help="Send traces to this OTLP/gRPC address (host:port).")
    ] = None,
) -> None:
    """Start everything: NATS, the services, the gateway, and a synthetic feed.

    Example: mda up --detach

    Example: mda up --data other --port 9080 --tls-port 9443
    """
    if port == tls_port:
        raise typer.BadParameter("is another than --port.", param_hint="--tls-port")
    folder = Folder(data.absolute())
    folder.create()
    if detach:
        _detach(folder)
        return
    from mda.cli.stack import plan

    with folder.lock():
        _end_leftovers(folder)
        stack = plan(folder, port, tls_port, feed=feed, seed=seed, query_replicas=query_replicas, otlp_endpoint=otlp)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(stack))


@app.command()
def status(data: DataOption = Path(".mda"), output: OutputOption = Output.TABLE) -> None:
    """Show the processes of the stack. Exits with 1 if it does not run, or not wholly.

    Example: mda status --output json
    """
    folder = Folder(data.absolute())
    runs = folder.runs()
    state = folder.read_state() if runs else {}
    processes: list[dict[str, Any]] = state.get("processes", [])
    whole = runs and bool(state.get("ready")) and all(process["state"] == "running" for process in processes)
    if output is Output.JSON:
        typer.echo(json.dumps({"running": runs, "url": state.get("url"), "processes": processes}))
    elif output is Output.CSV:
        columns = ("name", "state", "pid", "restarts")
        rows = [[str(process.get(column, "")) for column in columns] for process in processes]
        print_records(columns, rows, processes, output)
    elif not runs:
        raise StackError(f"No stack runs in {folder.root}. `mda up` starts one.")
    else:
        _print_processes(processes)
    raise typer.Exit(0 if whole else 1)


@app.command()
def logs(
    names: Annotated[list[str] | None, typer.Argument(help="Names of logs; all where none is named.")] = None,
    data: DataOption = Path(".mda"),
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines to show.")] = 20,
) -> None:
    """Show the logs of the stack's processes, and `access`: the calls that the gateway took.

    Example: mda logs ingestion query --follow
    """
    folder = Folder(data.absolute())
    paths = {path.stem: path for path in sorted(folder.logs.glob("*.log"))}
    for name in names or ():
        if name not in paths:
            raise StackError(f"There is no log of {name!r}. There is: {', '.join(paths) or 'none'}.")
    if not paths:
        raise StackError(f"No stack runs in {folder.root}, nor did one. `mda up` starts one.")
    tail = ["tail", "-n", str(lines), *(["-F"] if follow else []), *(str(paths[name]) for name in names or paths)]
    os.execvp("tail", tail)  # noqa: S606, S607


@app.command()
def restart(
    names: Annotated[list[str] | None, typer.Argument(help="Processes; all, in order, where none is named.")] = None,
    data: DataOption = Path(".mda"),
) -> None:
    """Run processes anew, one after the other, each when the one before it is ready.

    The gateway's successor takes its connections over: no call fails. Readers go on by their cursors.

    Example: mda restart gateway query
    """
    folder = Folder(data.absolute())
    running = [process["name"] for process in folder.running_state()["processes"]]
    for name in names or ():
        if name not in running:
            raise StackError(f"There is no process {name!r}. There is: {', '.join(running)}.")
    for name in names or running:
        asyncio.run(request_restart(folder, name, _RESTART_S))
        typer.echo(f"Restarted {name}.")


@app.command()
def down(data: DataOption = Path(".mda")) -> None:
    """Stop the stack; what it keeps stays.

    Example: mda down
    """
    folder = Folder(data.absolute())
    if not folder.runs():
        typer.echo(f"No stack runs in {folder.root}.")
        return
    os.kill(folder.read_state()["supervisor"], signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_S
    while folder.runs():
        if time.monotonic() > deadline:
            raise StackError(f"The stack in {folder.root} does not stop. `mda logs` may tell why.")
        time.sleep(0.05)
    typer.echo("Stopped.")


async def _run(stack: Stack) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    console = Console(stderr=True)
    from mda.cli.stack import prepare

    stages = await asyncio.to_thread(prepare, stack)
    ready = False

    def write_state() -> None:
        stack.folder.write_state(_state(stack, supervisor, ready=ready))

    supervisor = Supervisor(stages, write_state)
    write_state()

    async def restart(name: str) -> None:
        renewed = await asyncio.to_thread(prepare, stack)
        try:
            await supervisor.replace(next(spec for stage in renewed for spec in stage if spec.name == name))
        except StartError as error:
            raise StackError(str(error)) from None

    try:
        with console.status("Starting …"):
            start = asyncio.create_task(supervisor.start())
            stop = asyncio.create_task(stopping.wait())
            await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
        if start.done():
            start.result()
            ready = True
            write_state()
            console.print(_welcome(stack), highlight=False, soft_wrap=True)
            async with taking_requests(stack.folder, restart):
                await stopping.wait()
        else:
            start.cancel()
        console.print("Stopping …")
    except StartError as error:
        raise StackError(str(error)) from None
    finally:
        await supervisor.stop()


def _state(stack: Stack, supervisor: Supervisor, *, ready: bool) -> dict[str, Any]:
    return {
        "supervisor": os.getpid(),
        "ready": ready,
        "url": stack.url,
        "tls_url": stack.tls_url,
        "ports": dict(stack.ports),
        "leaving": [{"pid": pid, "started": started_s} for pid, started_s in supervisor.leaving],
        "processes": [
            {
                "name": child.spec.name,
                "pid": child.pid,
                "state": child.state,
                "restarts": child.restarts,
                "started": child.started_s,
                "log": str(child.spec.log),
            }
            for child in supervisor.children
        ],
    }


def _welcome(stack: Stack) -> str:
    """Return what to tell once all is ready: lines to paste stand unbroken and by themselves."""
    data = "" if stack.folder.root == Path(".mda").absolute() else f" --data {stack.folder.root}"
    lines = [
        "[bold green]Market Data Agent is ready.[/]",
        "",
        f"  [bold]{stack.url}[/]    gRPC, gRPC-Web, REST",
        f"  [bold]{stack.tls_url}[/]   the same by TLS; its CA is {stack.folder.tls / 'ca.crt'}",
        "",
        "Paste into another terminal:",
        "",
        f'[cyan]eval "$({command_path()} env{data})"[/]',
    ]
    if stack.feed:
        bearer = '-H "Authorization: Bearer $(mda token)"'
        url = "$MDA_URL/v1/datasets/SIM"
        lines += [
            "[cyan]mda watch ALFA ECHO/USD[/]",
            f'[cyan]curl {bearer} "{url}/quotes:latest?symbols=ALFA"[/]',
            f'[cyan]curl -N {bearer} -H "Accept: text/event-stream" "{url}/quotes:stream?symbols=ALFA"[/]',
            "",
            "The dataset SIM is synthetic: its prices mean nothing.",
        ]
    else:
        lines.append("[cyan]mda ingest FILE.dbn.zst[/]")
    lines += ["", f"State is in {stack.folder.root}. Ctrl-C or `mda down{data}` stops everything."]
    return "\n".join(lines)


def _print_processes(processes: list[dict[str, Any]]) -> None:
    table = Table("process", "pid", "state", "restarts", "up for")
    for process in processes:
        up_for = f"{time.time() - process['started']:.0f} s" if process["pid"] else "-"
        table.add_row(process["name"], str(process["pid"] or "-"), process["state"], str(process["restarts"]), up_for)
    Console().print(table)


def _detach(folder: Folder) -> None:
    if folder.runs():
        folder.lock()  # says that one runs
    argv = [argument for argument in sys.argv[1:] if argument not in {"--detach", "-d"}]
    log = folder.logs / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mda.cli", *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + _DETACH_S
    while not _is_ready(folder, process.pid):
        if process.poll() is not None:
            raise StackError(log.read_text(errors="replace").strip().removeprefix("error: "))
        if time.monotonic() > deadline:
            raise StackError(f"The stack is not ready after {_DETACH_S:.0f} s. See {log}.")
        time.sleep(0.05)
    typer.echo(f"Ready: {folder.read_state()['url']}")


def _is_ready(folder: Folder, supervisor: int) -> bool:
    state = folder.read_state()
    return state.get("supervisor") == supervisor and bool(state.get("ready"))


def _end_leftovers(folder: Folder) -> None:
    """Kill what an earlier supervisor, itself killed, has left running."""
    state = folder.read_state()
    for process in (*state.get("processes", ()), *state.get("leaving", ())):
        try:
            child = psutil.Process(process["pid"]) if process["pid"] else None
            # Process ids are used again: only one that began when ours did is ours.
            if child is not None and abs(child.create_time() - process["started"]) < 2:
                child.kill()
                child.wait(5)
        except psutil.Error:
            continue
