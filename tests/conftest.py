"""What all tests share."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest
from hypothesis import settings

# No deadline: machines that run tests are busy.
settings.register_profile("mda", deadline=None, max_examples=50)
settings.load_profile("mda")


@pytest.fixture
def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Wait until something is true; fail if it is not in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not true within {within_s} s")
        time.sleep(0.02)
