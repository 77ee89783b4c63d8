"""Changes that nobody notices: no call fails in the end, no row is lost or comes twice, all go on within 10 s."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.cluster.conftest import Gateway
from tests.cluster.kube import (
    POSTGRESQL,
    RELEASE,
    CommandError,
    eventually,
    helm,
    kubectl,
    pods,
    ready,
    roll_back,
    upgrade,
)
from tests.cluster.load import Seen, load

pytestmark = pytest.mark.timeout(600)
WORKLOADS = ("auth", "ingestion", "query", "query-history", "archive", "gateway")
RECOVERY_S = 10.0
# Where the test itself waits for a processor most of the time, so does everything on its node.
SHORT_OF_CPU = 3.0
RECOVERY_SHORT_OF_CPU_S = 30.0
SETTLE_S = 3.0


def check(seen: Seen) -> None:
    """Compare what a change cost with what it may."""
    assert seen.failed == []
    assert seen.calls > 10 * seen.seconds
    assert seen.recovery_s < (RECOVERY_S if seen.short_of_cpu < SHORT_OF_CPU else RECOVERY_SHORT_OF_CPU_S)


def wait_ready(component: str, replicas: int) -> None:
    """Wait until a component has all its pods, and all are ready."""
    eventually(lambda: len(found := pods(component)) == replicas and all(map(ready, found)), 120)


async def restart(kind: str, component: str) -> None:
    """Replace all pods of a workload, as an upgrade does."""
    await asyncio.to_thread(kubectl, "rollout", "restart", f"{kind}/{RELEASE}-{component}")
    await asyncio.to_thread(kubectl, "rollout", "status", f"{kind}/{RELEASE}-{component}", "--timeout=180s")
    # Old pods drain on after that.
    await asyncio.to_thread(
        eventually, lambda: not any("deletionTimestamp" in p["metadata"] for p in _all_pods(component)), 90
    )


def _all_pods(component: str) -> list[dict[str, dict[str, str]]]:
    from tests.cluster.kube import get, selector

    return get("pods", "-l", selector(component))["items"]


@pytest.mark.parametrize("component", WORKLOADS)
async def test_a_rolling_update(
    gateway: Gateway, api_key: str, component: str, report: Callable[[object], None]
) -> None:
    async with load(gateway.url, api_key, gateway.ca, f"ROLL-{component.upper()}") as running:
        await restart("deployment", component)
        await asyncio.sleep(SETTLE_S)
        seen = running.seen()
        report(seen)
        check(seen)


async def test_nats_restarts(gateway: Gateway, api_key: str, report: Callable[[object], None]) -> None:
    async with load(gateway.url, api_key, gateway.ca, "ROLL-NATS") as running:
        await restart("statefulset", "nats")
        await asyncio.sleep(SETTLE_S)
        seen = running.seen()
        report(seen)
        check(seen)


@pytest.mark.parametrize("component", [*WORKLOADS, "nats"])
async def test_a_pod_is_deleted(
    gateway: Gateway, api_key: str, component: str, report: Callable[[object], None]
) -> None:
    """At once, as where its node is lost: nothing drains."""
    replicas = len(await asyncio.to_thread(pods, component))
    async with load(gateway.url, api_key, gateway.ca, f"KILL-{component.upper()}") as running:
        victim = (await asyncio.to_thread(pods, component))[0]["metadata"]["name"]
        await asyncio.to_thread(kubectl, "delete", "pod", victim, "--grace-period=0", "--force")
        await asyncio.to_thread(wait_ready, component, replicas)
        await asyncio.sleep(SETTLE_S)
        seen = running.seen()
        report(seen)
        check(seen)


async def test_an_upgrade_of_all_and_a_rollback(
    gateway: Gateway, api_key: str, report: Callable[[object], None]
) -> None:
    async with load(gateway.url, api_key, gateway.ca, "UPGRADE") as running:
        await asyncio.to_thread(upgrade, "--set", "logLevel=debug")
        await asyncio.sleep(SETTLE_S)
        forward = running.seen()
        report(f"upgrade: {forward}")
        running.begin()
        await asyncio.to_thread(helm, "rollback", RELEASE, "--wait", "--timeout", "180s")
        await asyncio.sleep(SETTLE_S)
        back = running.seen()
        report(f"rollback: {back}")
        check(forward)
        check(back)


@pytest.mark.skipif(not POSTGRESQL, reason="MDA_CLUSTER_POSTGRESQL=1 tries migrations ahead of a release")
async def test_a_migration_that_fails_changes_nothing(
    gateway: Gateway, api_key: str, report: Callable[[object], None]
) -> None:
    before = {p["metadata"]["name"] for component in WORKLOADS for p in pods(component)}
    async with load(gateway.url, api_key, gateway.ca, "MIGRATION") as running:
        with pytest.raises(CommandError, match="migrations"):
            await asyncio.to_thread(lambda: upgrade("--set", "auth.database.key=broken-url", wait_s=30))
        seen = running.seen()
        report(seen)
        check(seen)
    assert {p["metadata"]["name"] for component in WORKLOADS for p in pods(component)} == before
    roll_back()


BROKEN = {
    "an image that is not there": ("query", "image.tag=there-is-none"),
    "a command that ends": ("query", "query.extraEnv[0].name=MDA_QUERY_RING_BYTES,query.extraEnv[0].value=none"),
    "a pod that is never ready": ("query", "query.extraEnv[0].name=MDA_PORT,query.extraEnv[0].value=50052"),
    "a gateway that cannot listen": (
        "gateway",
        "gateway.extraEnv[0].name=MDA_GATEWAY_ADMIN_PORT,gateway.extraEnv[0].value=8443",
    ),
}


@pytest.mark.parametrize(("component", "settings"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_release_stops_and_the_old_one_serves_on(
    gateway: Gateway, api_key: str, component: str, settings: str, report: Callable[[object], None]
) -> None:
    before = {p["metadata"]["name"] for p in pods(component)}
    async with load(gateway.url, api_key, gateway.ca, "BROKEN") as running:
        try:
            with pytest.raises(CommandError):
                await asyncio.to_thread(lambda: upgrade("--set-string", settings, wait_s=30))
            now = {p["metadata"]["name"]: ready(p) for p in await asyncio.to_thread(pods, component)}
        finally:
            await asyncio.to_thread(roll_back)
        assert {name for name, is_ready in now.items() if is_ready} == before
        # It did try; but where migrations come first, they want the image, too.
        assert (set(now) > before) == (not POSTGRESQL or not settings.startswith("image."))
        await asyncio.sleep(SETTLE_S)
        seen = running.seen()
        report(seen)
        check(seen)
    assert {p["metadata"]["name"] for p in pods(component) if ready(p)} == before
