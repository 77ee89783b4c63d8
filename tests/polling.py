"""Waiting for something to become true."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest


def until(condition: Callable[[], bool], *, within_s: float = 30.0) -> None:
    """Wait until something is true; fail if it is not in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not true within {within_s} s")
        time.sleep(0.02)
