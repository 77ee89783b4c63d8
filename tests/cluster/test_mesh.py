"""The mesh: each call that `mesh/calls.yaml` allows passes, each other one is refused."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from cryptography import x509

from marketdata.client import Client
from marketdata.v1.instrument_pb2 import Instrument
from tests.cluster.conftest import DATASET, Gateway
from tests.cluster.kube import (
    CHART,
    MESH,
    NAMESPACE,
    RELEASE,
    SERVICES_IMAGE,
    apply,
    eventually,
    get,
    kubectl,
    pods,
    ready,
    run,
    selector,
    upgrade,
)
from tests.cluster.load import load
from tests.cluster.test_changes import check

pytestmark = [pytest.mark.skipif(not MESH, reason="MDA_CLUSTER_MESH=1 tries the mesh"), pytest.mark.timeout(600)]
ACCESS: Final[dict[str, Any]] = yaml.safe_load((CHART / "files" / "access.yaml").read_text())
CALLERS: Final = ("archive", "auth", "gateway", "ingestion", "nats", "query", "query-history", "test")
CALLEES: Final = ("archive", "auth", "ingestion", "query", "query-history")
OUTSIDE: Final = "outside"
SCRIPT: Final = (Path(__file__).with_name("caller.py")).read_text()


def allowed() -> set[tuple[str, str, str]]:
    """Return caller, callee and path of each call that is allowed."""
    return {
        (who, to, path)
        for to, rules in ACCESS["methods"].items()
        for rule in rules
        for who in rule["from"]
        for path in rule["paths"]
    }


def tries() -> list[tuple[str, str]]:
    """Return callee and path of each call to try: each of theirs, and one that none has."""
    paths = {to: sorted({p for rule in ACCESS["methods"][to] for p in rule["paths"]}) for to in CALLEES}
    return [(to, path) for to in CALLEES for path in [*paths[to], "/no.such.Service/Method"]]


@pytest.fixture(scope="module")
def callers() -> Iterator[None]:
    """Make a pod with the account of each workload, and one outside the mesh."""
    apply("callers-policy.yaml", release=RELEASE)
    for name in (*CALLERS, OUTSIDE):
        account = f"{RELEASE}-{'gateway' if name == OUTSIDE else name}"
        apply("callers.yaml", name=name, account=account, inject=str(name != OUTSIDE).lower(), image=SERVICES_IMAGE)
    try:
        eventually(
            lambda: len(found := get("pods", "-l", "tests=caller")["items"]) > len(CALLERS) and all(map(ready, found)),
            180,
        )
        yield
    finally:
        kubectl("delete", "pod", "-l", "tests=caller", "--wait=false")
        kubectl("delete", "networkpolicy", "tests-callers")


def ask(caller: str, calls: list[tuple[str, str]], ports: list[tuple[str, int]]) -> dict[str, list[str]]:
    """Let a caller try, and return how each ended."""
    wanted = {
        "calls": [[f"{RELEASE}-{to}:50051", path] for to, path in calls],
        "ports": [[f"{RELEASE}-{to}", port] for to, port in ports],
    }
    command = ("exec", "-i", f"caller-{caller}", "-c", "caller", "--", "python", "-c", SCRIPT)
    return json.loads(kubectl(*command, stdin=json.dumps(wanted)))


def test_the_table(callers: None, report: Callable[[object], None]) -> None:
    wrong: list[str] = []
    count = {"passed": 0, "refused": 0}
    expected = allowed()
    eventually(lambda: ask("gateway", [("query", "/grpc.health.v1.Health/Check")], [])["calls"] == ["passed"], 60)
    for caller in CALLERS:
        answers = ask(caller, tries(), [("nats", 4222)])
        rows = zip(tries(), answers["calls"], strict=True)
        for (to, path), answer in rows:
            right = "passed" if (caller, to, path) in expected else "refused"
            count[answer] = count.get(answer, 0) + 1
            if answer != right:
                wrong.append(f"{caller} → {to}{path}: {answer}, not {right}")
        heard = answers["ports"][0] == "passed"
        if heard != (caller in ACCESS["ports"]["nats"]["4222"]):
            wrong.append(f"{caller} → nats:4222: {answers['ports'][0]}")
    report(count)
    assert wrong == []
    assert count["passed"] == len({row for row in expected if row[0] in CALLERS and row[1] in CALLEES})


def test_plaintext_from_outside_the_mesh_is_refused(callers: None) -> None:
    """Even with the gateway's account: without the mesh it proves nothing."""
    answers = ask(OUTSIDE, tries(), [("nats", 4222)])
    assert {answer.partition(":")[0] for answer in answers["calls"]} == {"unreachable"}
    assert answers["ports"][0] != "passed"


def certificate(component: str) -> x509.Certificate:
    """Return the certificate with which a pod of a workload goes about."""
    name = pods(component)[0]["metadata"]["name"]
    said = json.loads(run("istioctl", "proxy-config", "secret", name, "-n", NAMESPACE, "-o", "json"))
    (own,) = [s for s in said["dynamicActiveSecrets"] if s["name"] == "default"]
    chain = base64.b64decode(own["secret"]["tlsCertificate"]["certificateChain"]["inlineBytes"])
    return x509.load_pem_x509_certificate(chain)


def test_certificates_are_short_lived_and_of_the_workload() -> None:
    query = certificate("query")
    names = query.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert uri == f"spiffe://cluster.local/ns/{NAMESPACE}/sa/{RELEASE}-query"
    assert query.not_valid_after_utc - query.not_valid_before_utc <= timedelta(hours=25)


@pytest.fixture
def settings() -> Iterator[Callable[[str], object]]:
    """Let a test change the release, and change it back."""
    try:
        yield lambda changes: upgrade("--set-string", changes)
    finally:
        upgrade()


async def test_certificates_are_renewed_while_streams_go_on(
    gateway: Gateway, api_key: str, settings: Callable[[str], object], report: Callable[[object], None]
) -> None:
    """With certificates of two minutes: all are renewed, and then the first ones have expired."""
    await asyncio.to_thread(settings, "mesh.certificateLifetime=2m")
    workloads = ("gateway", "ingestion", "query", "auth", "nats")
    async with load(gateway.url, api_key, gateway.ca, "CERTIFICATES") as running:
        first = {name: await asyncio.to_thread(certificate, name) for name in workloads}
        last = max(c.not_valid_after_utc for c in first.values())
        assert last - datetime.now(UTC) < timedelta(minutes=3)
        await asyncio.sleep((last - datetime.now(UTC)).total_seconds() + 5)
        then = {name: await asyncio.to_thread(certificate, name) for name in workloads}
        seen = running.seen()
        report(seen)
        check(seen)
        assert seen.readers_waited_s < 5  # nothing was broken off for it
    assert all(then[name].serial_number != first[name].serial_number for name in workloads)


async def test_services_log_who_called_them(gateway: Gateway, api_key: str, settings: Callable[[str], object]) -> None:
    """The gateway's identity, as the mesh has proved it; of answered calls where one looks closely."""
    await asyncio.to_thread(settings, "ingestion.extraEnv[0].name=MDA_LOG_LEVEL,ingestion.extraEnv[0].value=debug")
    await asyncio.to_thread(eventually, lambda: no_pod_ends("ingestion"), 60)  # one that does may still answer
    async with Client.connect(gateway.url, api_key, root_certificates=gateway.ca) as client:
        await client.put_instruments(DATASET, [Instrument(symbol="ALFA")])
    with gateway.http() as http:
        http.headers["authorization"] = f"Bearer {gateway.token(api_key)}"
        refused = http.get("/v1/datasets/NO-SUCH-DATASET/instruments")
        answered = http.get(f"/v1/datasets/{DATASET}/instruments")
    assert (refused.status_code, answered.status_code) == (404, 200)
    for event, answer in (("refused", refused), ("answered", answered)):
        request_id = answer.headers["x-request-id"]
        await asyncio.to_thread(eventually, lambda id_=request_id, event=event: bool(peers_of(id_, event)), 15)
        assert peers_of(request_id, event) == [f"spiffe://cluster.local/ns/{NAMESPACE}/sa/{RELEASE}-gateway"]


def no_pod_ends(component: str) -> bool:
    """Return whether no pod of before a change is there any more."""
    return not any("deletionTimestamp" in pod["metadata"] for pod in get("pods", "-l", selector(component))["items"])


def peers_of(request_id: str, event: str) -> list[str]:
    """Return whom ingestion's pods have logged as the caller of a call."""
    said = kubectl("logs", "-l", selector("ingestion"), "-c", "ingestion", "--tail=2000")
    lines = [json.loads(line) for line in said.splitlines() if request_id in line]
    return [line["peer"] for line in lines if line["event"] == event]


def test_istio_has_nothing_to_say() -> None:
    said = json.loads(run("istioctl", "analyze", "-n", NAMESPACE, "-o", "json") or "[]")
    assert [message for message in said or [] if RELEASE in str(message.get("origin", ""))] == []
