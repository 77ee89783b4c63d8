"""The gateway as `mda up` would run it, for the golden rendering and for Envoy."""

from __future__ import annotations

from pathlib import Path

import pytest

from mda.gateway import GatewaySettings, Upstream
from mda.gateway.environment import GatewayEnvironment
from mda.runtime.settings import ServiceSettings

CLUSTER = {
    "MDA_AUDIENCE": "marketdata",
    "MDA_GATEWAY_ARCHIVE": "mda-archive:50051",
    "MDA_GATEWAY_AUTH": "mda-auth:50051",
    "MDA_GATEWAY_CERTIFICATES": "/etc/gateway/tls",
    "MDA_GATEWAY_CORS_ORIGINS": "[]",
    "MDA_GATEWAY_DIRECTORY": "/run/gateway",
    "MDA_GATEWAY_INGESTION": "mda-ingestion:50051",
    "MDA_GATEWAY_LIMITS": "{}",
    "MDA_GATEWAY_MEMORY_BYTES": "1073741824",
    "MDA_GATEWAY_METRICS_PORT": "9464",
    "MDA_GATEWAY_PORT": "8080",
    "MDA_GATEWAY_QUERY": "mda-query:50051",
    "MDA_GATEWAY_TLS_PORT": "8443",
    "MDA_ISSUER": "https://auth.marketdata.local",
    "MDA_REFLECTION": "false",
}
"""What the chart gives the gateway of a release called `mda`; `make chart-test` compares."""


def laptop(state: Path) -> GatewaySettings:
    """Return a laptop's settings, with all files below `state`."""
    return GatewaySettings(
        port=8080,
        tls_port=8443,
        admin_port=9901,
        jwks_socket=state / "jwks.sock",
        archive=Upstream("127.0.0.1", 9104),
        auth=Upstream("127.0.0.1", 9101),
        ingestion=Upstream("127.0.0.1", 9102),
        query=Upstream("127.0.0.1", 9103),
        history=Upstream("127.0.0.1", 9105),
        descriptors=state / "descriptors.binpb",
        sds=state / "tls",
        access_log=state / "access.log",
        issuer="http://127.0.0.1:8080",
        audience="market-data",
        cors_origins=("http://localhost:5173",),
    )


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    return laptop(tmp_path)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> GatewaySettings:
    """Return the settings that the chart's environment makes."""
    for name, value in CLUSTER.items():
        monkeypatch.setenv(name, value)
    return GatewayEnvironment().settings(ServiceSettings())  # pyright: ignore[reportCallIssue]


@pytest.fixture(params=["laptop", "cluster"])
def golden(request: pytest.FixtureRequest, cluster: GatewaySettings) -> tuple[str, GatewaySettings]:
    """Return each golden rendering's name and settings."""
    return request.param, cluster if request.param == "cluster" else laptop(Path("/var/lib/mda/gateway"))
