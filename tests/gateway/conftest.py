"""The gateway as `mda up` would run it, for the golden rendering and for Envoy."""

from __future__ import annotations

from pathlib import Path

import pytest

from mda.gateway import GatewaySettings, Upstream


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
def golden_settings() -> GatewaySettings:
    return laptop(Path("/var/lib/mda/gateway"))
