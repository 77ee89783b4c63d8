"""The data folder: everything that a stack on this machine keeps."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

_LONGEST_SOCKET_PATH: Final = 100


class StackError(Exception):
    """Something is wrong with the stack on this machine. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Folder:
    """The data folder of one stack.

    Attributes
    ----------
    root
        Where it is, absolute.
    """

    root: Path

    @property
    def logs(self) -> Path:
        """Each process's log."""
        return self.root / "logs"

    @property
    def gateway(self) -> Path:
        """The gateway's rendered configuration."""
        return self.root / "gateway"

    @property
    def tls(self) -> Path:
        """The local CA and the gateway's certificate."""
        return self.root / "tls"

    @property
    def jetstream(self) -> Path:
        """The tapes."""
        return self.root / "nats"

    @property
    def lake(self) -> Path:
        """The lake's tables."""
        return self.root / "lake"

    @property
    def database(self) -> Path:
        """Auth's database."""
        return self.root / "auth.db"

    @property
    def control(self) -> Path:
        """The socket on which the running stack takes requests."""
        return socket_path(self.root / "control.sock")

    @property
    def _state(self) -> Path:
        return self.root / "state.json"

    @property
    def _secrets(self) -> Path:
        return self.root / "secrets.json"

    @property
    def _lock(self) -> Path:
        return self.root / "lock"

    def create(self) -> None:
        """Make the folder and those in it, for this user only.

        Raises
        ------
        StackError
            If that cannot be.
        """
        for path in (self.root, self.logs, self.gateway, self.tls, self.jetstream, self.lake):
            try:
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise StackError(
                    f"{path} cannot be made: {error.strerror or error}. Choose another folder with --data."
                ) from error

    def lock(self) -> IO[str]:
        """Take the folder for a stack that is about to run; it is free again once the file is closed.

        Raises
        ------
        StackError
            If a stack runs in it.
        """
        file = self._lock.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise StackError(
                f"A stack already runs in {self.root}. `mda status` shows it; `mda down` stops it."
            ) from None
        return file

    def runs(self) -> bool:
        """Return whether a stack runs in the folder."""
        if not self._lock.exists():
            return False
        try:
            self.lock().close()
        except StackError:
            return True
        return False

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Write down how the stack stands."""
        _write(self._state, state)

    def read_state(self) -> dict[str, Any]:
        """Return how the stack stood last; empty if it never ran."""
        return _read(self._state)

    def running_state(self) -> dict[str, Any]:
        """Return how the running stack stands.

        Raises
        ------
        StackError
            If none runs.
        """
        if not self.runs():
            raise StackError(f"No stack runs in {self.root}. `mda up` starts one.")
        return self.read_state()

    def write_secrets(self, secrets: Mapping[str, str]) -> None:
        """Write down the API keys and NATS's token."""
        _write(self._secrets, secrets)

    def read_secrets(self) -> dict[str, str]:
        """Return the API keys and NATS's token; empty before the first start."""
        return _read(self._secrets)


def socket_path(wanted: Path) -> Path:
    """Return a path for a unix socket: this one, or a shorter one where it is longer than those may be."""
    if len(os.fsencode(wanted)) <= _LONGEST_SOCKET_PATH:
        return wanted
    digest = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"mda-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{digest}.sock"


def _write(path: Path, content: Mapping[str, Any]) -> None:
    scratch = path.with_suffix(".new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=1)
    scratch.replace(path)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
