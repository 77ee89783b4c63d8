"""Runs child processes: starts them in order, by readiness; restarts what dies; stops cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

READY_S: Final = 30.0
"""How long a process may take to become ready, in seconds."""

_POLL_S: Final = 0.05
_STOP_S: Final = 8.0
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_HEALTHY_S: Final = 3.0
"""A process that ran for so long before it died, in seconds, is started again at once."""


class StartError(Exception):
    """A process that does not become ready. The message says which, and shows the end of its log."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A process to run.

    Attributes
    ----------
    name
        Its name, unique.
    argv
        What to run.
    env
        What to add to the environment.
    log
        The file that its output is appended to.
    ready
        Tells whether it is ready for what comes after it.
    nice
        How far it stands back where processors are short: 0, not at all, to 19.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    ready: Callable[[], Awaitable[bool]]
    nice: int = 0


@dataclass(slots=True)
class Child:
    """A process that is run.

    Attributes
    ----------
    spec
        What it is.
    state
        `starting`, `running`, `restarting` or `stopped`.
    pid
        Its process id; None while it does not run.
    restarts
        How many times it was started again.
    started_s
        When it was started last, in seconds since the epoch.
    """

    spec: Spec
    state: str = "starting"
    pid: int | None = None
    restarts: int = 0
    started_s: float = field(default_factory=time.time)


class Supervisor:
    """Runs processes until it is told to stop.

    Parameters
    ----------
    stages
        The processes: those of a stage are started together, when those of the stage
        before it are ready.
    changed
        Called after each change of a process's state.
    """

    def __init__(self, stages: Sequence[Sequence[Spec]], changed: Callable[[], None]) -> None:
        self._stages = [[Child(spec) for spec in stage] for stage in stages]
        self.children = [child for stage in self._stages for child in stage]
        self._changed = changed
        self._keepers: list[asyncio.Task[None]] = []
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def start(self) -> None:
        """Start all processes, stage by stage.

        Raises
        ------
        StartError
            If one does not become ready.
        """
        for stage in self._stages:
            self._keepers += [asyncio.create_task(self._keep(child)) for child in stage]
            for child in stage:
                await self._until_ready(child)
                self._set(child, "running")

    async def stop(self) -> None:
        """Stop all processes, the last started first."""
        for child, keeper in reversed(list(zip(self.children, self._keepers, strict=False))):
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            process = self._processes.get(child.spec.name)
            if process is not None:
                await _terminate(process)
            child.pid = None
            self._set(child, "stopped")

    async def _keep(self, child: Child) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            process = await self._spawn(child)
            await process.wait()
            child.pid = None
            if time.time() - child.started_s > _HEALTHY_S:
                pause_s = _FIRST_PAUSE_S
            self._set(child, "restarting")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            child.restarts += 1

    async def _spawn(self, child: Child) -> asyncio.subprocess.Process:
        spec = child.spec
        with spec.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **spec.env},
                # Ctrl-C is for the supervisor, which stops its children in order.
                start_new_session=True,
            )
        if spec.nice:
            _stand_back(process.pid, spec.nice)
        self._processes[spec.name] = process
        child.pid = process.pid
        child.started_s = time.time()
        self._set(child, "running" if child.restarts else "starting")
        return process

    async def _until_ready(self, child: Child) -> None:
        deadline = time.monotonic() + READY_S
        while child.pid is None or not await child.spec.ready():
            if child.restarts >= 2 or time.monotonic() > deadline:
                raise StartError(f"{child.spec.name} does not start. Its log ends with:\n{_tail(child.spec.log)}")
            await asyncio.sleep(_POLL_S)

    def _set(self, child: Child, state: str) -> None:
        child.state = state
        self._changed()


def _stand_back(pid: int, nice: int) -> None:
    with contextlib.suppress(OSError):  # it has ended already, or this kernel has no such groups
        os.setpriority(os.PRIO_PROCESS, pid, nice)
        # Where Linux shares processors among sessions first, the session's own number counts.
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))


async def _terminate(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _tail(path: Path, lines: int = 8) -> str:
    text = path.read_text(errors="replace") if path.exists() else ""
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])
