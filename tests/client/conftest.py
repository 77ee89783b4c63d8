"""Services for the tests of the client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.client.services import Connection, Services, connected


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    running = Services(tmp_path_factory.mktemp("services"))
    try:
        running.start_all()
        yield running
    finally:
        running.stop_all()


@pytest.fixture(scope="session")
def api_key(services: Services) -> str:
    return services.api_key("tests")


@pytest.fixture
async def connection(services: Services, api_key: str) -> AsyncIterator[Connection]:
    async with connected(services, api_key) as opened:
        yield opened
