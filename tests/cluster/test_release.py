"""A release as it stands: it passes its own test, serves callers outside, and its pods may do little."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from marketdata.client import Client
from marketdata.columns import Kind, make_batch
from marketdata.v1.instrument_pb2 import Instrument
from tests.cluster.conftest import DATASET, Gateway
from tests.cluster.kube import (
    CHART,
    MESH,
    NAMESPACE,
    OBJECT_STORE,
    RELEASE,
    SERVICES_IMAGE,
    SETTINGS,
    CommandError,
    apply,
    eventually,
    get,
    helm,
    kubectl,
    node_address,
    pods,
)
from tests.cluster.load import load

WORKLOADS = ("archive", "auth", "gateway", "ingestion", "nats", "query", "query-history")


async def test_the_chart_s_own_test_passes(gateway: Gateway, api_key: str) -> None:
    """With the key, so that it asks for quotes, too."""
    async with Client.connect(gateway.url, api_key, root_certificates=gateway.ca) as client:
        await client.put_instruments(DATASET, [Instrument(symbol="ALFA")])
    settings = f"tests.apiKeySecret=tests-api-key,tests.dataset={DATASET}"
    helm("upgrade", RELEASE, str(CHART), "--reuse-values", "--set", settings, "--wait")
    logs = helm("test", RELEASE, "--logs", "--timeout", "120s")
    assert logs.count("ok: ") == 5, logs
    assert "WRONG" not in logs


async def test_a_client_outside_gets_quotes_over_tls(gateway: Gateway, api_key: str) -> None:
    dataset = f"OUTSIDE-{time.time():.0f}"
    async with Client.connect(gateway.url, api_key, root_certificates=gateway.ca) as client:
        await client.put_instruments(dataset, [Instrument(symbol="ALFA")])
        async with client.publisher(dataset, "producer") as publisher:
            columns = {
                "instrument_id": np.array([1]),
                "ts_event": np.array([time.time_ns()]),
                "sequence": np.array([1]),
                "bid_price": np.array([1_250_000_000]),
                "ask_price": np.array([1_260_000_000]),
            }
            await publisher.publish(make_batch(Kind.QUOTE, columns))
            await publisher.flush()
    with gateway.http() as http:
        path = f"/v1/datasets/{dataset}/quotes:latest?symbols=ALFA"
        answer = http.get(path, headers={"authorization": f"Bearer {gateway.token(api_key)}"})
        assert answer.status_code == 200
        assert answer.json()["quotes"][0]["bid_price"] == "1.25"
        assert http.get(path).status_code == 401


def test_every_object_is_one_to_the_api_server() -> None:
    """Against its own schemas and admission, webhooks of a mesh among them."""
    another = f"{RELEASE}-dry"  # so that nothing of it is there yet
    rendered = helm("template", another, str(CHART), "--no-hooks", *SETTINGS)
    kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=rendered)


ASK = """
import os, socket
def ask(host, port):
    # A sidecar takes every connection: only an answer says that there is somebody.
    with socket.create_connection((host, port), 4) as connection:
        connection.settimeout(4)
        connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        answer = connection.recv(64)
        if not answer or b" 503 " in answer or b" 502 " in answer:
            raise ConnectionError(answer)
try:
    TRY
except OSError as error:
    print("refused", repr(error))
else:
    print("ALLOWED")
"""
REACH = {
    "the API server": "ask('kubernetes.default.svc.cluster.local', 443)",
    "another namespace": "ask('{elsewhere}', 8000)",
    "ingestion, past the gateway": "ask('{ingestion}', 50051)",
    "the nodes": "ask('{node}', 10250)",
    "a cloud's metadata": "ask('169.254.169.254', 80)",
}
TRIES = {
    "the root": "open('/opt/venv/x', 'w')",
    "another user": "os.setuid(0)",
    "an account's token": "open('/var/run/secrets/kubernetes.io/serviceaccount/token')",
    "a low port": "socket.create_server(('0.0.0.0', 80))",
    "a raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
}


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """Make a pod in another namespace that answers everybody; return its address."""
    namespace = f"{NAMESPACE}-elsewhere"
    kubectl("create", "namespace", namespace)
    try:
        apply("elsewhere.yaml", namespace=namespace, image=SERVICES_IMAGE)
        kubectl("wait", "--for=condition=Ready", "pod/elsewhere", "--timeout=60s", namespace=namespace)
        if tried(REACH["a cloud's metadata"], "elsewhere", namespace=namespace) != "ALLOWED\n":
            apply("metadata.yaml", namespace=namespace, image=SERVICES_IMAGE)
            kubectl("wait", "--for=condition=Ready", "pod/metadata", "--timeout=60s", namespace=namespace)
        yield get("pod", "elsewhere", namespace=namespace)["status"]["podIP"]
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false")


def tried(code: str, *pod: str, namespace: str = NAMESPACE) -> str:
    """Run code in a pod, and return whether it was refused."""
    return kubectl("exec", *pod, "--", "python", "-c", ASK.replace("TRY", code), namespace=namespace)


@pytest.mark.parametrize("what", REACH)
def test_a_pod_cannot_reach(elsewhere: str, what: str) -> None:
    ingestion = pods("ingestion")[0]["status"]["podIP"]
    code = REACH[what].format(elsewhere=elsewhere, ingestion=ingestion, node=node_address())
    said = tried(code, f"deployment/{RELEASE}-archive", "-c", "archive")
    assert said.startswith("refused"), said
    if what != "ingestion, past the gateway":  # that one is shut to the other side, too
        assert tried(code, "elsewhere", namespace=f"{NAMESPACE}-elsewhere") == "ALLOWED\n"


@pytest.mark.parametrize("what", TRIES)
def test_a_pod_may_not_have(what: str) -> None:
    said = tried(TRIES[what], f"deployment/{RELEASE}-archive", "-c", "archive")
    assert said.startswith("refused"), said


def test_pods_run_as_nobody_with_nothing() -> None:
    code = "import os; print(os.getuid(), open('/proc/self/status').read())"
    for component in ("archive", "auth", "ingestion", "query"):
        said = kubectl("exec", f"deployment/{RELEASE}-{component}", "-c", component, "--", "python", "-c", code)
        uid, _, status = said.partition(" ")
        assert uid == "65532"
        fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
        assert int(fields["CapEff"], 16) == 0
        assert fields["NoNewPrivs"] == "1"
        assert fields["Seccomp"] == "2"


RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


def not_restricted(namespace: str) -> str:
    """Return what Pod Security has against a namespace's pods, as it warns who would restrict it."""
    command = ("kubectl", "label", "--dry-run=server", "--overwrite", "namespace", namespace, RESTRICTED)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "labeled" in done.stdout
    return done.stderr


@pytest.mark.skipif(MESH, reason="the sidecar's init container needs more, unless the mesh has Istio CNI")
def test_the_namespace_may_be_restricted(elsewhere: str) -> None:
    assert not_restricted(NAMESPACE) == ""
    # It does say so where something is wrong.
    assert "elsewhere: allowPrivilegeEscalation != false" in not_restricted(f"{NAMESPACE}-elsewhere")


@pytest.mark.skipif(not OBJECT_STORE, reason="MDA_CLUSTER_OBJECT_STORE=1 puts history into an object store")
async def test_history_is_in_the_object_store(gateway: Gateway, api_key: str) -> None:
    async with load(gateway.url, api_key, gateway.ca, "STORE") as running:
        await asyncio.sleep(5)
    with gateway.http() as http:
        http.headers["authorization"] = f"Bearer {gateway.token(api_key)}"
        path = f"/v1/datasets/{running.dataset}/archive"
        eventually(lambda: (told := http.get(path).json())["archived_sequence"] == told["tape_sequence"] != "0")
        assert all(table["uri"].startswith("s3://lake/tests/") for table in http.get(path).json()["tables"])
        verified = http.post(f"{path}:verify", json={}).raise_for_status().json()
    assert verified["equal"]
    assert int(verified["lake_rows"]) == running.producer.rows
    files = kubectl("exec", "tests-object-store", "--", "find", "/data/lake/tests", "-name", "*.parquet")
    assert running.dataset in files


def taken() -> dict[tuple[str, str], tuple[int, int]]:
    """Return the most that a container of each workload takes: CPU in thousandths, memory in MiB."""
    most: dict[tuple[str, str], tuple[int, int]] = {}
    components = {
        p["metadata"]["name"]: p["metadata"]["labels"].get("app.kubernetes.io/component") for p in get("pods")["items"]
    }
    for line in kubectl("top", "pods", "--containers", "--no-headers").splitlines():
        pod, container, cpu, memory = line.split()
        if component := components.get(pod):
            before = most.get((component, container), (0, 0))
            most[component, container] = (
                max(before[0], int(cpu.removesuffix("m"))),
                max(before[1], int(memory.removesuffix("Mi"))),
            )
    return most


async def test_what_it_takes(gateway: Gateway, api_key: str, report: Callable[[object], None]) -> None:
    """For the table in docs/cluster.md; that nobody nears its limit is the condition."""
    try:
        idle = taken()
    except CommandError as error:
        pytest.skip(f"no metrics here: {error}")
    async with load(gateway.url, api_key, gateway.ca, "TAKEN"):
        await asyncio.sleep(45)  # metrics are of the last 15 s or so
        busy = await asyncio.to_thread(taken)
    for key in sorted(busy):
        report(f"{key[0]}/{key[1]}: idle {idle.get(key)}, under load {busy[key]} (m, MiB)")
    assert {component for component, _ in busy} >= set(WORKLOADS)
    assert all(memory < 500 for _, memory in busy.values())
