"""The supervisor, with small processes."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import psutil
import pytest

from mda.cli import supervisor as module
from mda.cli.supervisor import Child, Spec, StartError, Supervisor, Takeover

FOREVER = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


def _python(name: str, code: str, folder: Path, ready: Callable[[], Awaitable[bool]] | None = None) -> Spec:
    log = folder / f"{name}.log"

    async def says_up() -> bool:
        return log.exists() and b"up" in log.read_bytes()

    return Spec(name, [sys.executable, "-c", code], {"NAME": name}, log, ready or says_up)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def _states(children: Sequence[Child]) -> dict[str, str]:
    return {child.spec.name: child.state for child in children}


async def test_a_stage_starts_when_the_one_before_is_ready(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def ready() -> bool:
        return go.is_set()

    stages = [[_python("first", FOREVER, tmp_path, ready)], [_python("second", FOREVER, tmp_path)]]
    supervisor = Supervisor(stages, lambda: None)
    starting = asyncio.create_task(supervisor.start())
    first, second = supervisor.children
    await _until(lambda: first.pid is not None)
    assert _states(supervisor.children) == {"first": "starting", "second": "starting"}
    assert second.pid is None
    go.set()
    await starting
    assert _states(supervisor.children) == {"first": "running", "second": "running"}
    await supervisor.stop()
    assert _states(supervisor.children) == {"first": "stopped", "second": "stopped"}


async def test_what_dies_is_started_again_with_the_same_environment(tmp_path: Path) -> None:
    changes: list[str] = []
    supervisor = Supervisor(
        [[_python("one", "import os; print('up', os.environ['NAME'], flush=True);" + FOREVER, tmp_path)]],
        lambda: changes.append(supervisor.children[0].state),
    )
    await supervisor.start()
    child = supervisor.children[0]
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await _until(lambda: child.restarts == 1 and child.pid not in {None, first})
    assert changes == ["starting", "running", "restarting", "running"]
    await _until(lambda: (tmp_path / "one.log").read_text().count("up one") == 2)
    await supervisor.stop()


async def test_what_cannot_be_run_for_a_while_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 0.05)
    spec = _python("one", FOREVER, tmp_path)
    program, away = tmp_path / "program", tmp_path / "away"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "$@"\n')
    program.chmod(0o700)
    supervisor = Supervisor([[dataclasses.replace(spec, argv=[str(program), FOREVER])]], lambda: None)
    await supervisor.start()
    child = supervisor.children[0]
    first = child.pid
    assert first is not None
    program.rename(away)
    os.kill(first, signal.SIGKILL)
    await _until(lambda: "cannot be run: " in spec.log.read_text())
    assert _states(supervisor.children) == {"one": "restarting"}
    away.rename(program)
    await _until(lambda: child.pid not in {None, first})
    await supervisor.stop()


async def test_what_does_not_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    supervisor = Supervisor([[_python("bad", "print('no such thing'); raise SystemExit(3)", tmp_path)]], lambda: None)
    with pytest.raises(StartError, match=r"bad does not start\. Its log ends with:\n  no such thing"):
        await supervisor.start()
    await supervisor.stop()


async def test_what_never_becomes_ready_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> bool:
        return False

    monkeypatch.setattr(module, "READY_S", 0.2)
    supervisor = Supervisor([[_python("slow", FOREVER, tmp_path, never)]], lambda: None)
    with pytest.raises(StartError, match="slow does not start"):
        await supervisor.start()
    await supervisor.stop()


async def test_what_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STOP_S", 0.2)
    supervisor = Supervisor([[_python("stubborn", STUBBORN, tmp_path)]], lambda: None)
    await supervisor.start()
    pid = supervisor.children[0].pid
    assert pid is not None
    await supervisor.stop()
    assert not psutil.pid_exists(pid)


async def test_stopping_before_all_is_started_stops_what_is(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    stages = [[_python("first", FOREVER, tmp_path, never)], [_python("second", FOREVER, tmp_path)]]
    supervisor = Supervisor(stages, lambda: None)
    starting = asyncio.create_task(supervisor.start())
    first = supervisor.children[0]
    await _until(lambda: first.pid is not None)
    pid = first.pid
    assert pid is not None
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await supervisor.stop()
    assert not psutil.pid_exists(pid)


def _heir(name: str, code: str, folder: Path) -> Spec:
    """Return a process that says its epoch, and takes over once it has said it."""
    spec = _python(name, code, folder)

    async def done(epoch: int) -> bool:
        return f"up {epoch}" in spec.log.read_text()

    return dataclasses.replace(spec, takeover=Takeover(lambda epoch: (str(epoch),), done))


SAYS_EPOCH = "import sys, time; print('up', sys.argv[1], flush=True); time.sleep(600)"


async def _started(spec: Spec) -> tuple[Supervisor, Child]:
    supervisor = Supervisor([[spec]], lambda: None)
    await supervisor.start()
    return supervisor, supervisor.children[0]


async def test_a_replacement_starts_after_the_old_one_has_ended(tmp_path: Path) -> None:
    supervisor, child = await _started(_python("one", FOREVER, tmp_path))
    first = child.pid
    assert first is not None
    again = dataclasses.replace(child.spec, argv=[sys.executable, "-c", "print('up anew', flush=True);" + FOREVER])
    await supervisor.replace(again)
    assert not psutil.pid_exists(first)
    assert (child.state, child.restarts, child.pid) == ("running", 1, supervisor.children[0].pid)
    await _until(lambda: "up anew" in (tmp_path / "one.log").read_text())
    await supervisor.stop()


async def test_a_successor_takes_over_while_the_old_one_still_runs(tmp_path: Path) -> None:
    supervisor, child = await _started(_heir("heir", SAYS_EPOCH, tmp_path))
    pids = [child.pid]
    for _ in range(2):
        before, started_s = child.pid, child.started_s
        await supervisor.replace(child.spec)
        assert supervisor.leaving == [(before, started_s)]
        pids.append(child.pid)
    first, second, third = (pid for pid in pids if pid is not None)
    assert (tmp_path / "heir.log").read_text().split() == ["up", "0", "up", "1", "up", "2"]
    assert not psutil.pid_exists(first), "two old ones at a time are one too many"
    assert psutil.pid_exists(second)
    assert (child.state, child.restarts) == ("running", 2)
    await supervisor.stop()
    assert not psutil.pid_exists(second)
    assert not psutil.pid_exists(third)


async def test_a_successor_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    supervisor, child = await _started(_heir("heir", SAYS_EPOCH, tmp_path))
    first, started_s = child.pid, child.started_s
    with pytest.raises(StartError, match=r"heir does not start\. Its log ends with:\n(.*\n)*  broken"):
        await supervisor.replace(_heir("heir", "print('broken'); raise SystemExit(1)", tmp_path))
    assert (child.pid, child.state, child.restarts) == (first, "running", 0)
    assert child.started_s == started_s  # by which the next `mda up` knows that the process is ours
    await supervisor.replace(child.spec)
    assert child.pid != first
    await supervisor.stop()


async def test_a_successor_that_cannot_be_run_leaves_the_old_one(tmp_path: Path) -> None:
    supervisor, child = await _started(_heir("heir", SAYS_EPOCH, tmp_path))
    first, spec = child.pid, child.spec
    assert first is not None
    with pytest.raises(StartError, match="heir cannot be run: "):
        await supervisor.replace(dataclasses.replace(spec, argv=[str(tmp_path / "nothing")]))
    assert (child.pid, child.spec, child.state) == (first, spec, "running")
    os.kill(first, signal.SIGKILL)
    await _until(lambda: child.pid not in {None, first})  # it is kept still
    await supervisor.stop()


async def test_a_successor_that_dies_is_started_with_nobody_before_it(tmp_path: Path) -> None:
    supervisor, child = await _started(_heir("heir", SAYS_EPOCH, tmp_path))
    first = child.pid
    await supervisor.replace(child.spec)
    second = child.pid
    assert first is not None
    assert second is not None
    os.kill(second, signal.SIGKILL)
    await _until(lambda: (tmp_path / "heir.log").read_text().split()[-1] == "0" and child.restarts == 2)
    assert not psutil.pid_exists(first)
    await supervisor.stop()


async def test_what_stands_back_does_so_once_it_is_ready(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def ready() -> bool:
        return go.is_set()

    supervisor = Supervisor([[dataclasses.replace(_python("back", FOREVER, tmp_path, ready), nice=7)]], lambda: None)
    starting = asyncio.create_task(supervisor.start())
    child = supervisor.children[0]
    await _until(lambda: child.pid is not None)
    process = psutil.Process(child.pid)
    assert process.nice() == 0
    go.set()
    await starting
    await _until(lambda: process.nice() == 7)
    usable = sorted(os.sched_getaffinity(0))
    await _until(lambda: process.cpu_affinity() == (usable[1:] or usable))
    await supervisor.stop()
