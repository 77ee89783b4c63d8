"""A release that `make cluster-install` has installed, and a client outside the cluster."""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.cluster.kube import RELEASE, get, kubectl, node_address, secret

DATASET = "CLUSTER"


@dataclass(frozen=True)
class Gateway:
    """The gateway, as callers outside the cluster see it."""

    url: str
    ca: bytes

    def http(self) -> httpx.Client:
        """Return a client that trusts the gateway's certificate."""
        return httpx.Client(base_url=self.url, verify=_trusting(self.ca), timeout=20)

    def token(self, api_key: str) -> str:
        """Return a token for an API key."""
        client, _, key_secret = api_key.partition(".")
        with self.http() as http:
            answer = http.post(
                "/oauth2/token", data={"grant_type": "client_credentials"}, auth=(client, key_secret)
            ).raise_for_status()
        return answer.json()["access_token"]


def _trusting(ca: bytes) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca.decode())
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the chart's certificate signs itself
    return context


@pytest.fixture(scope="session")
def gateway() -> Gateway:
    """Return the gateway at a port of the first node."""
    service = get("service", f"{RELEASE}-gateway")
    port = next(p["nodePort"] for p in service["spec"]["ports"] if p["name"] == "https")
    return Gateway(f"https://{node_address()}:{port}", secret(f"{RELEASE}-gateway-tls", "tls.crt"))


@pytest.fixture(scope="session")
def api_key(gateway: Gateway) -> str:
    """Make an admin in auth's own pod, and a client by it; return the client's key."""
    name = f"tests-{time.time():.0f}"
    admin = kubectl(
        "exec", f"deployment/{RELEASE}-auth", "-c", "auth", "--", "python", "-m", "mda.auth.bootstrap", f"admin-{name}"
    ).strip()
    with gateway.http() as http:
        http.headers["authorization"] = f"Bearer {gateway.token(admin)}"
        wanted = {"name": name, "tier": "TIER_INTERNAL", "roles": ["publisher", "steward"], "datasets": ["*"]}
        client: Any = http.post("/v1/clients", json=wanted).raise_for_status().json()["client"]
        made = http.post(f"/v1/clients/{client['client_id']}/keys", json={}).raise_for_status().json()
    key = made["key"]["api_key"]
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "tests-api-key"},
        "data": {"api-key": base64.b64encode(key.encode()).decode()},
    }
    import json

    kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    return key


@pytest.fixture
def report(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[[object], None]:
    """Print a line that is seen whatever becomes of the test."""

    def tell(line: object) -> None:
        with capsys.disabled():
            print(f"\n  {request.node.name}: {line}")  # noqa: T201

    return tell
