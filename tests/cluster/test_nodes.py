"""What goes on on nodes: drains, and servers of the tape that are lost while they lead it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.conftest import Gateway
from tests.cluster.kube import NAMESPACE, RELEASE, CommandError, eventually, get, kubectl, pods, ready, selector
from tests.cluster.load import load
from tests.cluster.test_changes import SETTLE_S, check

pytestmark = pytest.mark.timeout(600)
WORKLOADS = ("auth", "ingestion", "query", "query-history", "archive", "gateway")
HELD_BACK = "Cannot evict pod as it would violate the pod's disruption budget"


def evict(pod: str) -> bool:
    """Ask for a pod to go, as `kubectl drain` does; return whether its budget lets it."""
    wanted = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}}
    try:
        kubectl(
            "create",
            "--raw",
            f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction",
            "-f",
            "-",
            stdin=json.dumps(wanted),
        )
    except CommandError as error:
        if HELD_BACK not in str(error):
            raise
        return False
    return True


def drain(victims: list[str]) -> int:
    """Evict all, again and again where a budget holds one back; return how often one did."""
    refusals, began = 0, time.monotonic()
    while victims:
        left = [pod for pod in victims if not evict(pod)]
        refusals += len(left)
        victims = left
        if time.monotonic() - began > 180:
            raise TimeoutError(f"still there: {victims}")
        time.sleep(1)
    return refusals


def with_several(component: str) -> bool:
    """Tell whether a workload has more than one pod."""
    return len(pods(component)) > 1


async def test_a_drain_takes_one_pod_of_each_workload_at_a_time(
    gateway: Gateway, api_key: str, report: Callable[[object], None]
) -> None:
    """All of them, as where the node that has them is drained. Where they go is the scheduler's to say.

    But for the only server of NATS, if there is but one: that is gone until it is back, which is tried by itself.
    """
    workloads = (*WORKLOADS, "nats") if with_several("nats") else WORKLOADS
    several = [name for name in workloads if with_several(name)]
    assert {"auth", "ingestion", "query", "gateway"} <= set(several)
    everyone = [pod["metadata"]["name"] for name in workloads for pod in pods(name)]
    count = {name: len(pods(name)) for name in workloads}
    fewest = dict.fromkeys(several, 9)
    async with load(gateway.url, api_key, gateway.ca, "DRAIN") as running:
        draining = asyncio.create_task(asyncio.to_thread(drain, everyone))
        while not draining.done():
            for name in several:
                fewest[name] = min(fewest[name], sum(map(ready, await asyncio.to_thread(pods, name))))
            await asyncio.sleep(0.2)
        held_back = await draining
        await asyncio.to_thread(eventually, lambda: all(_whole(name, count[name]) for name in count), 120)
        await asyncio.sleep(SETTLE_S)
        seen = running.seen()
        report(f"budgets held {held_back} evictions back; never fewer pods than {fewest}: {seen}")
        check(seen)
    assert held_back >= len(several)  # at the least each one's second pod, once
    assert all(fewest[name] >= count[name] - 1 for name in several)
    now = {pod["metadata"]["name"] for name in workloads for pod in pods(name)}
    assert {name for name in now if "-nats-" not in name}.isdisjoint(everyone)  # those of NATS keep their names


def _whole(component: str, replicas: int) -> bool:
    found: list[Any] = get("pods", "-l", selector(component))["items"]
    return len(found) == replicas and all(map(ready, found))


LEADER = """
import asyncio, os, nats
async def main():
    client = await nats.connect(os.environ["MDA_NATS_URL"], token=os.environ["MDA_NATS_TOKEN"])
    print((await client.jetstream().stream_info("STREAM")).cluster.leader)
    await client.close()
asyncio.run(main())
"""


def leader(dataset: str) -> str:
    """Return the NATS server that leads a tape, which is also the name of its pod."""
    code = LEADER.replace("STREAM", f"TAPE_{dataset}")
    return kubectl("exec", f"deployment/{RELEASE}-ingestion", "-c", "ingestion", "--", "python", "-c", code).strip()


async def test_the_server_that_leads_a_tape_is_killed(
    gateway: Gateway, api_key: str, report: Callable[[object], None]
) -> None:
    if not with_several("nats"):
        pytest.skip("one NATS server has no followers: MDA_CLUSTER_SETTINGS=nats.replicas=3")
    async with load(gateway.url, api_key, gateway.ca, "LEADER") as running:
        first = await asyncio.to_thread(leader, running.dataset)
        await asyncio.to_thread(kubectl, "delete", "pod", first, "--grace-period=0", "--force")
        await asyncio.to_thread(eventually, lambda: leader(running.dataset) not in {first, "None"}, 60)
        await asyncio.to_thread(eventually, lambda: _whole("nats", 3), 120)
        await asyncio.sleep(SETTLE_S)
        seen = running.seen()
        report(seen)
        check(seen)
