"""What all tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings
from nats.aio.client import Client

from mda.tape.connection import connect
from tests.tape.nats_server import NatsServer

# No deadline: machines that run tests are busy.
settings.register_profile("mda", deadline=None, max_examples=50)
settings.load_profile("mda")

# Tracebacks as Python writes them: the ones with colours and locals take seconds where processors are short.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=50, help="How many times tests/kill kills a process at random.")
    parser.addoption("--rotate-keys", action="store_true", help="Whether tests/kill waits for signing keys to change.")
    parser.addoption(
        "--bad-network-s", type=float, default=30, help="How long tests/kill lets the network be bad, in seconds."
    )


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Give a server that the tests of a module share."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
async def client(nats: NatsServer) -> AsyncIterator[Client]:
    async with connect(nats.url, None, "tests") as connected:
        yield connected


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[NatsServer]:
    """Give a server of the test's own, which it may kill."""
    with NatsServer(tmp_path) as server:
        yield server


@pytest.fixture
async def own_client(own_nats: NatsServer) -> AsyncIterator[Client]:
    async with connect(own_nats.url, None, "tests") as connected:
        yield connected
