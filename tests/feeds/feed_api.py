"""Where the API under a test is."""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Api:
    """Where the API is, and a key for it."""

    url: str
    api_key: str


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
