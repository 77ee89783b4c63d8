"""A stack to abuse, a client that behaves while others do not, and sockets to say anything on."""

from __future__ import annotations

import logging
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self

import httpx
import numpy as np
import psutil
import pytest

from tests.abuse.neighbour import PATH
from tests.polling import until
from tests.stack.conftest import Stack, start

LOG: Final = logging.getLogger("abuse")
NOTICED_S: Final = 0.25
"""Who does harm has the same two processors: the ratio is of machines that do not share theirs."""


class Neighbour:
    """A client that makes a call every 20 ms while the body runs, and notes how long each takes."""

    def __init__(self, url: str, token: str) -> None:
        self.taken_s: list[float] = []
        self.failed: list[str] = []
        # A process of its own: how busy this one is makes it no slower.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.abuse.neighbour", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._tell(f"{token}\n")
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._listening.join(20)
        assert self._process.wait(5) == 0

    def until_called(self, times: int) -> None:
        """Wait until it has made some more calls."""
        enough = len(self.taken_s) + times
        until(lambda: len(self.taken_s) >= enough, within_s=30 + times / 20)

    def p99_s(self, since: int = 0) -> float:
        """Return how long the slowest hundredth of its calls takes, in seconds, from some call on."""
        return float(np.percentile(self.taken_s[since:], 99))

    def next_p99_s(self) -> float:
        """Return the same of calls from now on, over some seconds."""
        since = len(self.taken_s)
        self.until_called(200)
        return self.p99_s(since)

    def _tell(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            taken, _, wrong = line.rstrip("\n").partition(" ")
            self.taken_s.append(float(taken))
            if wrong:
                self.failed.append(wrong)


@dataclass(frozen=True)
class Target:
    """What is abused.

    Attributes
    ----------
    stack
        The stack.
    token
        A good token.
    """

    stack: Stack
    token: str

    @property
    def port(self) -> int:
        """The gateway's plain port."""
        return int(self.stack.url.rpartition(":")[2])

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=15)

    def say(self, *parts: bytes) -> bytes:
        """Say something on a connection of its own, and return all that comes back until it ends or is quiet."""
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            return hear(connection)

    def headers(self) -> dict[str, str]:
        """Return the header of a good token."""
        return {"authorization": f"Bearer {self.token}"}

    def memory(self) -> dict[str, int]:
        """Return how many bytes each process of the stack holds."""
        held: dict[str, int] = {}
        for process in self.stack.state["processes"]:
            with_children = psutil.Process(process["pid"])
            held[process["name"]] = with_children.memory_info().rss
        return held

    def restarts(self) -> dict[str, int]:
        """Return how often each process of the stack was started again."""
        return {process["name"]: process["restarts"] for process in self.stack.state["processes"]}


def hear(connection: socket.socket, quiet_s: float = 1.0) -> bytes:
    """Return what comes until the other side closes, or is quiet for some seconds."""
    connection.settimeout(quiet_s)
    heard = b""
    try:
        while data := connection.recv(65536):
            heard += data
    except (TimeoutError, ConnectionResetError, ssl.SSLError):
        pass
    return heard


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Generator[Target]:
    running = start(tmp_path_factory.mktemp("abused"), covered=False)
    try:
        made = Target(running, running.token(running.secrets["api_key"]))
        until(lambda: httpx.get(running.url + PATH, headers=made.headers()).status_code == 200)
        yield made
    finally:
        running.mda("down")


@pytest.fixture(scope="session")
def usual_p99_s(target: Target) -> float:
    """How long the slowest hundredth of a good client's calls takes while nobody does harm, in seconds."""
    with Neighbour(target.stack.url, target.token) as neighbour:
        neighbour.until_called(300)
    return neighbour.p99_s()


@pytest.fixture
def unharmed(
    target: Target, usual_p99_s: float, record_property: Callable[[str, object], None]
) -> Callable[..., object]:
    """Give what checks that nobody else is harmed meanwhile: no call fails, few are slower, memory is bounded."""

    @contextmanager
    def checking(*, memory_mib: int = 150) -> Generator[Neighbour]:
        before, restarts = target.memory(), target.restarts()
        with Neighbour(target.stack.url, target.token) as neighbour:
            neighbour.until_called(1)
            yield neighbour
            neighbour.until_called(20)  # what was done may show late
        assert neighbour.failed == []
        ratio = neighbour.p99_s() / usual_p99_s
        record_property("p99_ratio", round(ratio, 2))
        LOG.info("p99 %.1f ms of %d calls, %.2f x", 1e3 * neighbour.p99_s(), len(neighbour.taken_s), ratio)
        assert neighbour.p99_s() < max(2 * usual_p99_s, NOTICED_S)
        after = target.memory()
        grown = {name: (after[name] - held) >> 20 for name, held in before.items() if name in after}
        assert all(mib < memory_mib for mib in grown.values()), grown
        assert after.keys() == before.keys()
        assert target.restarts() == restarts

    return checking
