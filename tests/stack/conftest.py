"""A whole stack, started as a user starts it: real NATS, real services, real Envoy."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from marketdata.client import Client
from mda.auth.admin import create_api_key, ensure_client
from mda.auth.keys import to_pem
from mda.auth.opening import open_store
from mda.auth.rotation import KeyRotation
from mda.auth.sealing import KekSealer
from mda.auth.settings import AuthSettings
from mda.auth.tiers import Tier

MDA = str(Path(sys.executable).with_name("mda"))
COVERAGE = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
SYMBOLS = ("AAA", "BBB", "CCC/USD")


def free_port() -> int:
    """Return a port that no other test process takes, nor the system for a connection or a port 0."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = random.SystemRandom().randrange(12_000 + 4_000 * (worker % 5), 16_000 + 4_000 * (worker % 5))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass(frozen=True)
class Stack:
    """A running stack."""

    data: Path

    def mda(self, *args: str, check: bool = True, **given: Any) -> subprocess.CompletedProcess[str]:
        """Run `mda` on the stack, given an environment or input, if any."""
        command = [MDA, *args, "--data", str(self.data)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=90, **given)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    @property
    def state(self) -> dict[str, Any]:
        return json.loads((self.data / "state.json").read_text())

    @property
    def secrets(self) -> dict[str, str]:
        return json.loads((self.data / "secrets.json").read_text())

    @property
    def url(self) -> str:
        return self.state["url"]

    @property
    def target(self) -> str:
        return self.url.removeprefix("http://")

    def pid(self, name: str) -> int | None:
        return next(process["pid"] for process in self.state["processes"] if process["name"] == name)

    def api_key(self, name: str, scopes: Iterable[str], tier: Tier = Tier.INTERNAL) -> str:
        """Make an API key for a client of this name."""
        store = self._store()
        try:
            return create_api_key(store, ensure_client(store, name, tier, scopes)).text
        finally:
            store.close()

    def signing_key(self) -> tuple[str, str]:
        """Return the key id and the private key (PEM) that auth signs with."""
        store = self._store()
        try:
            keys = KeyRotation(store, [KekSealer([self.secrets["auth_kek"]])], AuthSettings().schedule).refresh()
        finally:
            store.close()
        key = keys.signing_key(datetime.now(UTC))
        return key.kid, to_pem(key).decode()

    def token(self, api_key: str) -> str:
        """Exchange an API key for a token, over REST."""
        key_id, secret = api_key.split(".")
        form = {"grant_type": "client_credentials", "client_id": key_id, "client_secret": secret}
        return httpx.post(f"{self.url}/oauth2/token", data=form).raise_for_status().json()["access_token"]

    def _store(self) -> Any:
        return open_store(AuthSettings.model_validate({"database_url": f"sqlite:///{self.data / 'auth.db'}"}))


def start(data: Path, *options: str, covered: bool = True, settings: Mapping[str, str] | None = None) -> Stack:
    """Start a stack on free ports, with settings of its services; where speed matters, without measuring coverage."""
    env = {name: value for name, value in os.environ.items() if covered or name not in COVERAGE} | dict(settings or {})
    for _ in range(2):  # the ports within it are chosen by `mda up`: another process may come first
        ports = ["--port", str(free_port()), "--tls-port", str(free_port())]
        command = [MDA, "up", "--detach", "--data", str(data), *ports, *options]
        done = subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=120)
        if done.returncode == 0:
            return Stack(data)
    pytest.fail(done.stdout + done.stderr)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stack]:
    """Give a stack with the synthetic feed, and the dataset TEST with three instruments."""
    running = start(tmp_path_factory.mktemp("stack"))
    try:
        token = running.token(running.secrets["api_key"])
        instruments = [{"symbol": symbol} for symbol in SYMBOLS]
        put = httpx.post(
            f"{running.url}/v1/datasets/TEST/instruments",
            json={"instruments": instruments},
            headers={"authorization": f"Bearer {token}"},
        )
        assert put.status_code == 200, put.text
        yield running
    finally:
        running.mda("down")


@pytest.fixture
async def client(stack: Stack) -> AsyncGenerator[Client]:
    """Give a client of the stack with all rights."""
    async with Client.connect(stack.url, stack.secrets["api_key"]) as connected:
        yield connected


@pytest.fixture(scope="module")
def tokens(stack: Stack) -> dict[str, str | None]:
    """Give tokens of every sort, by name; to each module its own, as they expire."""
    kid, private = stack.signing_key()
    public = serialization.load_pem_private_key(private.encode(), None).public_key()
    public_pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": "https://auth.marketdata.local",
        "aud": "marketdata",
        "sub": "mdc_test",
        "scope": "quotes:read quotes:publish instruments:write",
        "tier": "internal",
        "iat": now,
        "exp": now + 600,
    }
    head = {"kid": kid}
    forged_key = _new_private_pem()
    return {
        "good": stack.token(stack.secrets["api_key"]),
        "reader": stack.token(stack.api_key("reader", ["quotes:read"])),
        "publisher": stack.token(stack.api_key("publisher", ["quotes:publish"])),
        "none": None,
        "expired": jwt.encode({**claims, "iat": now - 900, "exp": now - 300}, private, "ES256", head),
        "wrong_audience": jwt.encode({**claims, "aud": "somebody"}, private, "ES256", head),
        "wrong_issuer": jwt.encode({**claims, "iss": "https://elsewhere"}, private, "ES256", head),
        "alg_none": jwt.encode(claims, None, "none", head),
        # PyJWT refuses to make this one: the public key as the secret of an HMAC.
        "hs256_public_key": _hs256(claims, kid, public_pem),
        "forged": jwt.encode(claims, forged_key, "ES256", head),
        "unknown_key": jwt.encode(claims, forged_key, "ES256", {"kid": "nobody"}),
        "garbage": "not.a.token",
    }


def _new_private_pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode()


def _hs256(claims: dict[str, Any], kid: str, secret: bytes) -> str:
    def encode(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    head = encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": kid}).encode())
    signed = head + b"." + encode(json.dumps(claims).encode())
    return (signed + b"." + encode(hmac.digest(secret, signed, hashlib.sha256))).decode()


@pytest.fixture(scope="session")
def instruments(stack: Stack) -> dict[str, int]:
    """Give the ids of the instruments of TEST."""
    token = stack.token(stack.secrets["api_key"])
    listed = httpx.get(f"{stack.url}/v1/datasets/TEST/instruments", headers={"authorization": f"Bearer {token}"}).json()
    return {entry["symbol"]: entry["instrument_id"] for entry in listed["instruments"]}
