"""A stack to abuse, a client that behaves while others do not, and sockets to say anything on."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import numpy as np
import psutil
import pytest

from tests.polling import until
from tests.stack.conftest import Stack, start

PATH = "/v1/datasets/SIM/quotes:latest?symbols=ALFA"


@dataclass
class Neighbour:
    """A client that makes a call every 20 ms, and notes how long each takes."""

    url: str
    headers: dict[str, str]
    taken_s: list[float] = field(default_factory=list[float])
    failed: list[str] = field(default_factory=list[str])
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Call until it is told to stop."""
        with httpx.Client(base_url=self.url, headers=self.headers, timeout=10) as http:
            while not self._stop.wait(0.02):
                began = time.perf_counter()
                try:
                    answer = http.get(PATH)
                    if answer.status_code != 200:
                        self.failed.append(answer.text)
                except httpx.HTTPError as error:
                    self.failed.append(repr(error))
                self.taken_s.append(time.perf_counter() - began)

    def stop(self) -> None:
        """Call no more."""
        self._stop.set()

    def p99_s(self, since: int = 0) -> float:
        """Return how long the slowest hundredth of calls takes, in seconds, from some call on."""
        return float(np.percentile(self.taken_s[since:], 99))


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


@pytest.fixture
def unharmed(target: Target) -> Callable[..., object]:
    """Give what checks that nobody else is harmed meanwhile: no call fails, none hangs, and memory stays bounded."""

    @contextmanager
    def checking(*, memory_mib: int = 150) -> Generator[Neighbour]:
        neighbour = Neighbour(target.stack.url, target.headers())
        before, restarts = target.memory(), target.restarts()
        thread = threading.Thread(target=neighbour.run)
        thread.start()
        try:
            yield neighbour
            # A few more calls: what was done may show late.
            enough = len(neighbour.taken_s) + 20
            deadline = time.monotonic() + 30
            while len(neighbour.taken_s) < enough:
                assert time.monotonic() < deadline, "the neighbour hangs"
                time.sleep(0.02)
        finally:
            neighbour.stop()
            thread.join()
        assert neighbour.failed == []
        assert max(neighbour.taken_s) < 5
        after = target.memory()
        grown = {name: (after[name] - held) >> 20 for name, held in before.items() if name in after}
        assert all(mib < memory_mib for mib in grown.values()), grown
        assert after.keys() == before.keys()
        assert target.restarts() == restarts

    return checking
