"""A release as it stands: it passes its own test, serves callers outside, and its pods may do little."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from marketdata.client import Client
from marketdata.columns import Kind, make_batch
from marketdata.v1.instrument_pb2 import Instrument
from tests.cluster.conftest import DATASET, Gateway
from tests.cluster.kube import CHART, MESH, NAMESPACE, RELEASE, SETTINGS, CommandError, get, helm, kubectl, pods, run

WORKLOADS = ("archive", "auth", "gateway", "ingestion", "nats", "query")


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
    rendered = run("build/tools/helm", "template", RELEASE, str(CHART), "--namespace", NAMESPACE, *SETTINGS)
    kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=rendered)


TRIES = {
    "the API server": "urllib.request.urlopen('https://kubernetes.default.svc/version', timeout=5)",
    "the API server by address": "socket.create_connection((os.environ['KUBERNETES_SERVICE_HOST'], 443), 5)",
    "another namespace": "socket.create_connection(('kube-dns.kube-system.svc.cluster.local', 9153), 5)",
    "a cloud's metadata": "socket.create_connection(('169.254.169.254', 80), 5)",
    "the tape, past ingestion": "socket.create_connection(('{release}-ingestion', 50051), 5)",
    "the root": "open('/opt/venv/x', 'w')",
    "a privileged port": "socket.create_server(('0.0.0.0', 80))",
    "another user": "os.setuid(0)",
    "an account's token": "open('/var/run/secrets/kubernetes.io/serviceaccount/token')",
    "a raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
}


@pytest.mark.parametrize("what", TRIES)
def test_a_pod_may_not_have(what: str) -> None:
    code = "import os, socket, urllib.request\n"
    code += "os.environ.setdefault('KUBERNETES_SERVICE_HOST', 'kubernetes.default.svc')\n"
    code += f"try:\n    {TRIES[what].format(release=RELEASE)}\nexcept (OSError, PermissionError) as error:\n"
    code += "    print('refused', repr(error))\nelse:\n    print('ALLOWED')\n"
    said = kubectl("exec", f"deployment/{RELEASE}-archive", "-c", "archive", "--", "python", "-c", code)
    if what == "a privileged port":
        # Kernels let anybody have them in a pod's own network unless told otherwise.
        sysctl = kubectl(
            "exec", f"deployment/{RELEASE}-archive", "-c", "archive", "--",
            "python", "-c", "print(open('/proc/sys/net/ipv4/ip_unprivileged_port_start').read())",
        )  # fmt: skip
        if int(sysctl) == 0:
            pytest.skip("this cluster's runtime lets every process have every port of its pod")
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


@pytest.mark.skipif(MESH, reason="the sidecar's init container needs more, unless the mesh has Istio CNI")
def test_the_namespace_may_be_restricted() -> None:
    """Pod Security says of each pod whether it would still let it in."""
    label = "pod-security.kubernetes.io/enforce=restricted"
    done = run("kubectl", "label", "--dry-run=server", "--overwrite", "namespace", NAMESPACE, label)
    assert "labeled" in done
    for component in WORKLOADS:
        for pod in pods(component):
            spec = {k: v for k, v in pod["spec"].items() if k != "nodeName"}
            manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "psa"}, "spec": spec}
            assert manifest["spec"]["securityContext"]["runAsNonRoot"] is True


def test_what_it_takes_idle(report: Callable[[object], None]) -> None:
    """For the table in docs/cluster.md; that each pod has figures is the condition."""
    try:
        lines = kubectl("top", "pods", "--containers", "--no-headers").splitlines()
    except CommandError as error:
        pytest.skip(f"no metrics here: {error}")
    for line in lines:
        report(line)
    assert {line.split()[0] for line in lines} >= {
        p["metadata"]["name"] for p in get("pods")["items"] if "nats" in str(p)
    }
