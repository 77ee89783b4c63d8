"""Tokens: how many auth issues a second, and what it costs a service to verify one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from google.api.httpbody_pb2 import HttpBody

from bench.report import Report
from bench.stack import Running
from marketdata.auth.v1.auth_service_pb2 import GetJwksRequest
from marketdata.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from mda.runtime.identity import TokenVerifier

_SECONDS: Final = 4.0
_CALLERS: Final = 8
_TOKENS: Final = 1_000
_REPEATED: Final = 20_000


async def run(running: Running, report: Report) -> None:
    """Measure issue, by auth's process without the gateway's limits, and verification, in this process."""
    key_id, secret = running.secrets["api_key"].split(".")
    fields = {"grant_type": "client_credentials", "client_id": key_id, "client_secret": secret}
    form = HttpBody(content_type="application/x-www-form-urlencoded", data=urlencode(fields).encode())
    async with running.channel("auth", gateway=False) as (channel, _):
        stub: Any = AuthServiceStub(channel)
        answers: list[HttpBody] = []

        async def issue() -> None:
            answers.append(await stub.Token(form, timeout=10))

        rate = await _rate(issue)
        tokens = [json.loads(answer.data)["access_token"] for answer in answers]
        jwks = (await stub.GetJwks(GetJwksRequest(), timeout=5)).data
    group = "tokens, ES256"
    report.add(group, f"issued by auth, {_CALLERS} callers at once", rate, "/s", 1 / _seconds_to_sign())
    fresh, again = await _verified(jwks, tokens[:_TOKENS])
    report.add(group, "verified in a service, each a new one", 1 / fresh, "/s", 1 / _seconds_to_verify())
    report.add(group, "verified in a service, one that it knows", 1 / again, "/s")


async def _rate(work: Callable[[], Awaitable[None]]) -> float:
    """Return how often a second it is done, by several at once."""
    until = time.perf_counter() + _SECONDS
    done = 0

    async def repeat() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await work()
            done += 1

    await asyncio.gather(*(repeat() for _ in range(_CALLERS)))
    return done / _SECONDS


async def _verified(jwks: bytes, tokens: Sequence[str]) -> tuple[float, float]:
    """Return how long a token takes that was not seen before, and one that was, in seconds."""

    async def fetch() -> bytes:
        return jwks

    claims = jwt.decode(tokens[0], options={"verify_signature": False})
    verifier = TokenVerifier(fetch, claims["iss"], claims["aud"])
    await verifier.verify(f"Bearer {tokens[0]}")  # fetches the keys
    headers = [f"Bearer {token}" for token in tokens[1:]]
    began = time.perf_counter()
    for header in headers:
        await verifier.verify(header)
    fresh = (time.perf_counter() - began) / len(headers)
    began = time.perf_counter()
    for _ in range(_REPEATED):
        await verifier.verify(headers[-1])
    return fresh, (time.perf_counter() - began) / _REPEATED


def _seconds_to_sign() -> float:
    key = ec.generate_private_key(ec.SECP256R1())
    return _each(lambda: key.sign(b"x" * 500, ec.ECDSA(hashes.SHA256())))


def _seconds_to_verify() -> float:
    key = ec.generate_private_key(ec.SECP256R1())
    signature = key.sign(b"x" * 500, ec.ECDSA(hashes.SHA256()))
    public = key.public_key()
    return _each(lambda: public.verify(signature, b"x" * 500, ec.ECDSA(hashes.SHA256())))


def _each(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(_TOKENS):
        work()
    return (time.perf_counter() - began) / _TOKENS
