"""A real OpenBao server for tests, in memory, with a transit key and a token that may do no more than use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.polling import until
from tests.tape.nats_server import free_port

_BINARY = str(Path(sys.executable).with_name("bao"))
_ROOT = "root-token-of-the-test"
_POLICY = """
path "transit/encrypt/mda-auth" { capabilities = ["update"] }
path "transit/decrypt/mda-auth" { capabilities = ["update"] }
"""


class OpenBao:
    """OpenBao in its development mode, on a free port of loopback."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.token_file = folder / "token"
        self._log = folder / "bao.log"
        self._argv = [_BINARY, "server", "-dev", "-dev-no-store-token", f"-dev-listen-address=127.0.0.1:{port}"]
        self._environment = {**os.environ, "BAO_DEV_ROOT_TOKEN_ID": _ROOT, "HOME": str(folder)}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._argv, env=self._environment, stdout=log, stderr=log)
        until(self._answers, within_s=30)
        self.ask("sys/mounts/transit", {"type": "transit"})
        self.ask("transit/keys/mda-auth", {})
        self.ask("sys/policies/acl/mda-auth", {"policy": _POLICY})
        self.token_file.write_text(self.ask("auth/token/create", {"policies": ["mda-auth"]})["auth"]["client_token"])
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask its API with the token of root."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/v1/{path}", data, {"X-Vault-Token": _ROOT})
        with urlopen(request, timeout=10) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            return not self.ask("sys/health")["sealed"]
        except (URLError, OSError):
            return False
