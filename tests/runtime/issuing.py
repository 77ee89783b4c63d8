"""An issuer of tokens, good and bad, and waiting with a deadline."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ISSUER = "https://auth.test"
AUDIENCE = "marketdata-test"


@dataclass
class Issuer:
    """Signs tokens, and publishes its keys while it is up."""

    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    published: set[str] = field(default_factory=set)
    failure: Exception | None = None
    document: bytes | None = None
    fetches: int = 0

    def add(self, key_id: str, *, published: bool = True) -> None:
        self.keys[key_id] = ec.generate_private_key(ec.SECP256R1())
        if published:
            self.published.add(key_id)

    async def fetch(self) -> bytes:
        self.fetches += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return self.jwks() if self.document is None else self.document

    def jwks(self) -> bytes:
        entries = [
            json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.keys[key_id].public_key())) | {"kid": key_id}
            for key_id in sorted(self.published)
        ]
        return json.dumps({"keys": entries}).encode()

    def token(self, key_id: str = "k1", *, says: str | None = None, drop: str | None = None, **claims: Any) -> str:
        """Return a token; `says` is the key id in its header where that is another one."""
        now = int(time.time())
        full = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "mdc_1",
            "iat": now,
            "exp": now + 300,
            "scope": "quotes:read trades:read",
            "tier": "pro",
            "datasets": ["*"],
        } | claims
        if drop is not None:
            del full[drop]
        return jwt.encode(full, self.keys[key_id], algorithm="ES256", headers={"kid": says or key_id})

    def with_key_id_of_another_type(self) -> str:
        """Return a token whose key id is a number."""
        return _unsigned({"alg": "ES256", "typ": "JWT", "kid": 5}, self.token()) + ".c2ln"

    def unsigned(self, key_id: str = "k1") -> str:
        """Return a token with the algorithm none."""
        return _unsigned({"alg": "none", "typ": "JWT", "kid": key_id}, self.token(key_id)) + "."

    def signed_with_public_key(self, key_id: str = "k1") -> str:
        """Return a token whose HS256 secret is the public key."""
        body = _unsigned({"alg": "HS256", "typ": "JWT", "kid": key_id}, self.token(key_id))
        secret = self.keys[key_id].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return f"{body}.{_base64(hmac.digest(secret, body.encode(), hashlib.sha256))}"


def _unsigned(header: dict[str, Any], token: str) -> str:
    return f"{_base64(json.dumps(header).encode())}.{token.split('.')[1]}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


async def eventually(condition: Callable[[], Any] | Callable[[], Awaitable[Any]], timeout_s: float = 15.0) -> Any:
    """Return what a condition gives once it is true; fail if it does not become true in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.01)
