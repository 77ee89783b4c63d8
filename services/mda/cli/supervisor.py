"""Runs child processes: starts them in order, by readiness; restarts what dies, replaces what it is told to; stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

READY_S: Final = 60.0
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
class Takeover:
    """How a process takes over from the one before it, while that one still serves.

    Attributes
    ----------
    argv
        What to add to its arguments, given its epoch: 0 for one that has nobody before it, then 1, 2 …
    done
        Tells, given its epoch, whether it serves. From then on the one before it ends by itself.
    """

    argv: Callable[[int], Sequence[str]]
    done: Callable[[int], Awaitable[bool]]


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
        How far it stands back where processors are short, once it is ready: 0, not at all, to 19. One that does
        leaves the first processor to others, too.
    takeover
        How it takes over from the one before it; None if it starts after that one has ended.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    ready: Callable[[], Awaitable[bool]]
    nice: int = 0
    takeover: Takeover | None = None


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
    epoch
        How many have taken over, one from the other, since one was started with nobody before it.
    """

    spec: Spec
    state: str = "starting"
    pid: int | None = None
    restarts: int = 0
    started_s: float = field(default_factory=time.time)
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class _Leaving:
    """A process from which another took over."""

    process: asyncio.subprocess.Process
    started_s: float


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
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._leaving: dict[str, _Leaving] = {}

    @property
    def leaving(self) -> list[tuple[int, float]]:
        """The process ids of those from which others took over, and when they were started: they end by themselves."""
        return [(one.process.pid, one.started_s) for one in self._leaving.values()]

    async def start(self) -> None:
        """Start all processes, stage by stage.

        Raises
        ------
        StartError
            If one does not become ready.
        """
        for stage in self._stages:
            for child in stage:
                self._keep(child)
            for child in stage:
                await self._until_ready(child)
                self._set(child, "running")

    async def stop(self) -> None:
        """Stop all processes, the last started first."""
        for child in reversed(self.children):
            if child.spec.name in {*self._keepers, *self._processes}:
                await self._end(child)
                self._set(child, "stopped")

    async def replace(self, spec: Spec) -> None:
        """Run a process anew, as its new spec says: it takes over where it can, and else starts when the old one ended.

        Raises
        ------
        StartError
            If it does not become ready. One from which it was to take over serves on.
        """
        child = next(child for child in self.children if child.spec.name == spec.name)
        if spec.takeover is not None and self._processes[spec.name].returncode is None:
            await self._take_over(child, spec, spec.takeover)
            return
        await self._end(child)
        child.spec = spec
        self._set(child, "starting")
        self._keep(child)
        await self._until_ready(child)
        child.restarts += 1
        self._set(child, "running")

    async def _take_over(self, child: Child, spec: Spec, takeover: Takeover) -> None:
        await self._release(child)
        await self._end_leaving(child)
        old, before, started_s = child.spec, self._processes[spec.name], child.started_s
        self._leaving[spec.name] = _Leaving(before, started_s)
        child.spec, child.epoch = spec, child.epoch + 1
        try:
            process = await self._spawn_heir(child, takeover)
        except StartError:
            child.spec, child.epoch, child.pid, child.started_s = old, child.epoch - 1, before.pid, started_s
            self._processes[spec.name] = self._leaving.pop(spec.name).process
            self._keep(child, before)
            self._changed()
            raise
        child.restarts += 1
        self._keep(child, process)
        self._set(child, "running")

    async def _spawn_heir(self, child: Child, takeover: Takeover) -> asyncio.subprocess.Process:
        """Start a process that takes over; return it once it serves."""
        try:
            process = await self._spawn(child)
        except OSError as error:
            raise StartError(f"{child.spec.name} cannot be run: {error}") from error
        try:
            await _until(lambda: takeover.done(child.epoch), lambda: process.returncode is not None, child.spec)
        except StartError:
            await _terminate(process)
            raise
        return process

    def _keep(self, child: Child, process: asyncio.subprocess.Process | None = None) -> None:
        self._keepers[child.spec.name] = asyncio.create_task(self._kept(child, process))

    async def _kept(self, child: Child, process: asyncio.subprocess.Process | None) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            process = process or await self._spawn_at_last(child)
            standing_back = asyncio.create_task(_stand_back_once_ready(process.pid, child.spec))
            try:
                await process.wait()
            finally:
                standing_back.cancel()
            process, child.pid, child.epoch = None, None, 0
            if time.time() - child.started_s > _HEALTHY_S:
                pause_s = _FIRST_PAUSE_S
            self._set(child, "restarting")
            await self._end_leaving(child)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            child.restarts += 1

    async def _spawn_at_last(self, child: Child) -> asyncio.subprocess.Process:
        """Start a process, however often the system refuses: it has no room, or the program is being replaced."""
        while True:
            try:
                return await self._spawn(child)
            except OSError as error:
                with contextlib.suppress(OSError), child.spec.log.open("a") as log:
                    log.write(f"{child.spec.argv[0]} cannot be run: {error}\n")
                await asyncio.sleep(_LONGEST_PAUSE_S)
                child.restarts += 1

    async def _release(self, child: Child) -> None:
        keeper = self._keepers.pop(child.spec.name, None)
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def _end(self, child: Child) -> None:
        await self._release(child)
        await self._end_leaving(child)
        process = self._processes.get(child.spec.name)
        if process is not None:
            await _terminate(process)
        child.pid, child.epoch = None, 0

    async def _end_leaving(self, child: Child) -> None:
        leaving = self._leaving.pop(child.spec.name, None)
        if leaving is not None:
            await _terminate(leaving.process)

    async def _spawn(self, child: Child) -> asyncio.subprocess.Process:
        spec = child.spec
        more = spec.takeover.argv(child.epoch) if spec.takeover is not None else ()
        with spec.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *spec.argv,
                *more,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **spec.env},
                # Ctrl-C is for the supervisor, which stops its children in order.
                start_new_session=True,
            )
        self._processes[spec.name] = process
        child.pid = process.pid
        child.started_s = time.time()
        self._set(child, "running" if child.restarts or child.epoch else "starting")
        return process

    async def _until_ready(self, child: Child) -> None:
        restarts = child.restarts

        async def ready() -> bool:
            return child.pid is not None and await child.spec.ready()

        await _until(ready, lambda: child.restarts >= restarts + 2, child.spec)

    def _set(self, child: Child, state: str) -> None:
        child.state = state
        self._changed()


async def _until(ready: Callable[[], Awaitable[bool]], failed: Callable[[], bool], spec: Spec) -> None:
    deadline = time.monotonic() + READY_S
    while not await ready():
        if failed() or time.monotonic() > deadline:
            raise StartError(f"{spec.name} does not start. Its log ends with:\n{_tail(spec.log)}")
        await asyncio.sleep(_POLL_S)


async def _stand_back_once_ready(pid: int, spec: Spec) -> None:
    # Not before: where processors are short, a start would take minutes.
    if not spec.nice:
        return
    with contextlib.suppress(StartError):  # one that never becomes ready has not much to stand back from
        await _until(spec.ready, lambda: False, spec)
    _stand_back(pid, spec.nice)


def _stand_back(pid: int, nice: int) -> None:
    """Have a process and its threads come after others, and keep off the first processor, if there are more."""
    if sys.platform != "linux":
        os.setpriority(os.PRIO_PROCESS, pid, nice)
        return
    rest = sorted(os.sched_getaffinity(0))[1:]
    with contextlib.suppress(OSError):  # it has ended already, or this kernel has no such groups
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), nice)
            if rest:
                os.sched_setaffinity(int(thread.name), rest)
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
