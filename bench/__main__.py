"""`python -m bench`: all measurements, or those that are named."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench import (
    client,
    codec,
    fanout,
    gateway,
    lake,
    latency,
    memory,
    publish,
    queries,
    replay,
    slow,
    tokens,
    validation,
    visible,
)
from bench.report import Report
from bench.stack import put_instruments, running_stack

_ON_A_STACK = (publish, latency, replay, slow, fanout, queries, client, gateway, tokens, visible)
_NAMES = ("codec", "validation", "lake", *(module.__name__.removeprefix("bench.") for module in _ON_A_STACK))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(_NAMES)}; all where none is named. And memory"
    )
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"), help="where the JSON goes")
    parser.add_argument("--lake-rows", type=int, default=10_000_000, help="how many rows the lake has")
    parser.add_argument("--arcticdb", metavar="PYTHON", help="the Python of an environment with ArcticDB and DuckDB")
    parser.add_argument(
        "--questdb", metavar="JAR", help="QuestDB's server; needs Java, and asyncpg in this environment"
    )
    parser.add_argument("--minutes", type=float, default=60, help="how long memory is looked at")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - {*_NAMES, "memory"}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    names = arguments.names or _NAMES
    report = Report()
    if "codec" in names:
        codec.run(report)
    if "validation" in names:
        validation.run(report)
    if "lake" in names:
        lake.run(report, arguments.lake_rows, arguments.arcticdb, arguments.questdb)
    if set(names) - {"codec", "validation", "lake"}:
        _with_stack(names, report, arguments.minutes)
    report.print()
    report.write(arguments.output)


def _with_stack(names: Sequence[str], report: Report, minutes: float) -> None:
    with running_stack() as running, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(put_instruments(running))
        for module in _ON_A_STACK:
            if module.__name__.removeprefix("bench.") in names:
                runner.run(module.run(running, report))
        if "memory" in names:
            runner.run(memory.run(running, report, minutes))


if __name__ == "__main__":
    main()
