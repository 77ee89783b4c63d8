"""The mesh: each call that `mesh/calls.yaml` allows passes, each other one is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

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
    ready,
    run,
)

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


def test_certificates_are_short_lived_and_of_the_workload() -> None:
    name = get("pods", "-l", f"app.kubernetes.io/component=query,app.kubernetes.io/instance={RELEASE}")["items"][0]
    said = json.loads(
        run("istioctl", "proxy-config", "secret", name["metadata"]["name"], "-n", NAMESPACE, "-o", "json")
    )
    (own,) = [s for s in said["dynamicActiveSecrets"] if s["name"] == "default"]
    import base64
    from datetime import timedelta

    from cryptography import x509

    chain = base64.b64decode(own["secret"]["tlsCertificate"]["certificateChain"]["inlineBytes"])
    certificate = x509.load_pem_x509_certificate(chain)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert uri == f"spiffe://cluster.local/ns/{NAMESPACE}/sa/{RELEASE}-query"
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(hours=25)


def test_istio_has_nothing_to_say() -> None:
    said = json.loads(run("istioctl", "analyze", "-n", NAMESPACE, "-o", "json") or "[]")
    assert [message for message in said or [] if RELEASE in str(message.get("origin", ""))] == []
