"""A real NATS server that tests start, kill, pause and start again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.polling import until

_BINARY = str(Path(sys.executable).with_name("nats-server"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class NatsServer:
    """NATS with JetStream that syncs before it acknowledges.

    Parameters
    ----------
    folder
        Where it keeps its streams.
    token
        The token that it wants, if any.
    """

    def __init__(self, folder: Path, token: str | None = None) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        authorization = f"authorization {{ token: {token} }}\n" if token else ""
        (folder / "nats.conf").write_text(
            f"listen: 127.0.0.1:{self.port}\nmax_payload: 8388608\nmax_pending: 268435456\n{authorization}"
            f'jetstream {{ store_dir: "{folder / "streams"}", sync_interval: always, max_file_store: 1TB }}\n'
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with (self._folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen([_BINARY, "-c", str(self._folder / "nats.conf")], stdout=log, stderr=log)
        until(self._accepts)

    def kill(self) -> None:
        """Kill it without warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Let it answer nothing, while its connections stay."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "nats.log").read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False
