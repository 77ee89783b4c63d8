"""Query is scaled out while streams keep it busy, and in again; nobody loses a row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator

import pytest

from tests.cluster.conftest import Gateway
from tests.cluster.kube import RELEASE, CommandError, eventually, get, kubectl, pods, ready, upgrade
from tests.cluster.load import load
from tests.cluster.test_changes import check

pytestmark = pytest.mark.timeout(600)
# Idle it takes a fifth of that, under the tests' load the whole and more.
SCALING = (
    "query.autoscaling.enabled=true,query.autoscaling.minReplicas=2,query.autoscaling.maxReplicas=3,"
    "query.autoscaling.targetCPU=50,query.resources.requests.cpu=100m"
)


def serving() -> int:
    """Return how many query pods are ready and stay."""
    return sum(map(ready, pods("query")))


@pytest.fixture
def autoscaler() -> Generator[None]:
    """Have an autoscaler of query for the test alone."""
    try:
        kubectl("top", "pods")
    except CommandError as error:
        pytest.skip(f"no metrics here: {error}")
    upgrade("--set", SCALING)
    try:
        yield
    finally:
        upgrade()
        eventually(lambda: serving() == 2, 120)


def wanted() -> int | None:
    """Return how many pods the autoscaler wants; None until it has seen what they take."""
    status = get("hpa", f"{RELEASE}-query").get("status", {})
    return status.get("desiredReplicas") if status.get("currentMetrics") else None


@pytest.mark.usefixtures("autoscaler")
async def test_query_is_scaled_out_and_in(gateway: Gateway, api_key: str, report: Callable[[object], None]) -> None:
    await asyncio.to_thread(eventually, lambda: wanted() == 2, 90)
    await asyncio.sleep(15)
    assert (await asyncio.to_thread(wanted), await asyncio.to_thread(serving)) == (2, 2)  # not without load
    async with load(gateway.url, api_key, gateway.ca, "SCALING") as running:
        out_s = await asyncio.to_thread(eventually, lambda: serving() == 3, 120)
        await asyncio.sleep(5)
        # The load goes on: in again by a target that it does not reach.
        await asyncio.to_thread(
            kubectl, "patch", "hpa", f"{RELEASE}-query", "--type=json",
            '--patch=[{"op":"replace","path":"/spec/metrics/0/containerResource/target/averageUtilization","value":900}]',
        )  # fmt: skip
        # Kubernetes waits five minutes before it scales in, unless told otherwise.
        in_s = await asyncio.to_thread(eventually, lambda: serving() == 2, 420)
        await asyncio.sleep(5)
        seen = running.seen()
        report(f"out after {out_s:.0f} s, in after {in_s:.0f} s: {seen}")
        check(seen)
