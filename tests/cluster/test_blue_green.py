"""Another release's services take over, and give back: by weight, under load, and nobody notices."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Generator

import pytest

from tests.cluster.conftest import Gateway
from tests.cluster.kube import (
    OBJECT_STORE,
    POSTGRESQL,
    RELEASE,
    CommandError,
    eventually,
    get,
    helm,
    kubectl,
    pods,
    ready,
    selector,
    upgrade,
)
from tests.cluster.load import CALLS_PER_S, Load, load
from tests.cluster.test_changes import SETTLE_S, check

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (POSTGRESQL and OBJECT_STORE),
        reason="two releases must share database and lake: MDA_CLUSTER_POSTGRESQL=1 MDA_CLUSTER_OBJECT_STORE=1",
    ),
]
GREEN = f"{RELEASE}-green"
SERVICES = ("archive", "auth", "ingestion", "query", "query-history")
SIBLINGS = ("--set", f"siblings={{{GREEN}}}")
AS_GREEN = (
    *("--set", f"gateway.enabled=false,nats.enabled=false,nats.url=nats://{RELEASE}-nats:4222"),
    *("--set", f"secrets.existingSecret={RELEASE}-keys,siblings={{{RELEASE}}},logLevel=debug"),
)
WATCHED_S = 10
_CALLS = re.compile(r"^mda_grpc_calls_total\{.*GetLatestQuotes.*\} (\S+)$", re.MULTILINE)
_READ = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9464/metrics').read().decode())"


def weights(blue: int, green: int) -> tuple[str, ...]:
    """Return the settings that share calls out so."""
    return (*SIBLINGS, "--set", f"gateway.backends.{RELEASE}={blue},gateway.backends.{GREEN}={green}")


def calls(release: str) -> float:
    """Return how many calls the query pods of a release have answered."""
    total = 0.0
    for pod in pods("query", release):
        said = kubectl("exec", pod["metadata"]["name"], "-c", "query", "--", "python", "-c", _READ)
        total += sum(float(found) for found in _CALLS.findall(said))
    return total


async def share_of_green() -> float:
    """Return how much of the calls of some seconds the other release answers."""
    before = [await asyncio.to_thread(calls, release) for release in (RELEASE, GREEN)]
    await asyncio.sleep(WATCHED_S)
    after = [await asyncio.to_thread(calls, release) for release in (RELEASE, GREEN)]
    blue, green = (now - was for was, now in zip(before, after, strict=True))
    assert blue + green > 0.8 * CALLS_PER_S * WATCHED_S
    return green / (blue + green)


def old_gateways_are_gone() -> bool:
    """Tell whether no gateway with other weights is left: it drains on after an upgrade."""
    return not any("deletionTimestamp" in pod["metadata"] for pod in get("pods", "-l", selector("gateway"))["items"])


@pytest.fixture
def afterwards() -> Generator[None]:
    """Leave one release, whatever comes."""
    try:
        yield
    finally:
        upgrade()
        try:
            helm("uninstall", GREEN, "--wait")
        except CommandError as error:
            if "not found" not in str(error):
                raise


@pytest.mark.usefixtures("afterwards")
async def test_blue_green(gateway: Gateway, api_key: str, report: Callable[[object], None]) -> None:
    async with load(gateway.url, api_key, gateway.ca, "BLUE-GREEN") as running:

        async def step(what: str, *settings: str) -> None:
            running.begin()
            await asyncio.to_thread(upgrade, *settings)
            await asyncio.to_thread(eventually, old_gateways_are_gone, 90)
            await seen(what, running)

        async def seen(what: str, running: Load) -> None:
            await asyncio.sleep(SETTLE_S)
            cost = running.seen()
            report(f"{what}: {cost}")
            check(cost)

        await step("siblings are let through", *SIBLINGS)
        running.begin()
        await asyncio.to_thread(lambda: upgrade(*AS_GREEN, release=GREEN))
        await seen("green is installed", running)
        assert await share_of_green() == 0
        await step("a fifth to green", *weights(80, 20))
        fifth = await share_of_green()
        report(f"green answers {fifth:.0%}")
        assert 0.1 < fifth < 0.3  # 1,000 calls: a few hundredths either way is chance
        await step("all to green", *weights(0, 100))
        assert await share_of_green() == 1
        # Blue goes, and comes back as the next release would.
        await step("blue goes", *weights(0, 100), "--set", "services.enabled=false")
        assert not any(pods(component) for component in SERVICES)
        await step("blue comes", *weights(0, 100))
        assert all(map(ready, pods("query")))
        await step("all to blue", *weights(100, 0))
        assert await share_of_green() == 0
        running.begin()
        await asyncio.to_thread(helm, "uninstall", GREEN, "--wait")
        await seen("green goes", running)
    assert pods("query", GREEN) == []
