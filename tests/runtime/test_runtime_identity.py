"""Tokens: which verify, which do not and why, and what happens while the issuer is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from issuing import AUDIENCE, ISSUER, Issuer, eventually

from mda.market.errors import MarketDataError
from mda.runtime import identity
from mda.runtime.identity import Principal, TokenVerifier, current_principal, require_scope, set_caller


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(issuer: Issuer, clock: Clock) -> TokenVerifier:
    return TokenVerifier(issuer.fetch, ISSUER, AUDIENCE, clock)


async def problem(verifier: TokenVerifier, authorization: str | None) -> str:
    with pytest.raises(MarketDataError) as caught:
        await verifier.verify(authorization)
    assert caught.value.reason_name == "INVALID_TOKEN"
    return caught.value.metadata["problem"]


def ago(seconds: int) -> int:
    return int(time.time()) - seconds


GOOD: dict[str, Callable[[Issuer], str]] = {
    "usual": lambda issuer: f"Bearer {issuer.token()}",
    "scheme in lower case": lambda issuer: f"bearer {issuer.token()}",
    "several audiences": lambda issuer: f"Bearer {issuer.token(aud=['x', AUDIENCE])}",
    "expired within the leeway": lambda issuer: f"Bearer {issuer.token(exp=ago(5))}",
    "issued within the leeway": lambda issuer: f"Bearer {issuer.token(iat=ago(-5))}",
}


@pytest.mark.parametrize("case", GOOD)
async def test_a_good_token_gives_its_holder(issuer: Issuer, verifier: TokenVerifier, case: str) -> None:
    principal = await verifier.verify(GOOD[case](issuer))
    assert principal.client == "mdc_1"
    assert principal.scopes == {"quotes:read", "trades:read"}
    assert principal.tier == "pro"


async def test_a_token_without_scope_or_tier_has_none(issuer: Issuer, verifier: TokenVerifier) -> None:
    until = ago(-100)
    principal = await verifier.verify(f"Bearer {issuer.token(drop='scope', tier='', exp=until)}")
    assert principal == Principal("mdc_1", frozenset(), "", until, frozenset({"*"}))


BAD: dict[str, tuple[str, Callable[[Issuer], str | None]]] = {
    "no header": ("missing", lambda _: None),
    "empty": ("malformed", lambda _: ""),
    "another scheme": ("malformed", lambda issuer: f"Basic {issuer.token()}"),
    "no scheme": ("malformed", lambda issuer: issuer.token()),
    "scheme alone": ("malformed", lambda _: "Bearer "),
    "no token": ("malformed", lambda _: "Bearer x.y.z"),
    "two parts": ("malformed", lambda issuer: "Bearer " + issuer.token().rpartition(".")[0]),
    "key id of another type": ("malformed", lambda issuer: f"Bearer {issuer.with_key_id_of_another_type()}"),
    "algorithm none": ("algorithm", lambda issuer: f"Bearer {issuer.unsigned()}"),
    "public key as HS256 secret": ("algorithm", lambda issuer: f"Bearer {issuer.signed_with_public_key()}"),
    "another key's signature": ("signature", lambda issuer: f"Bearer {issuer.token('k2', says='k1')}"),
    "changed claims": ("signature", lambda issuer: f"Bearer {_with_claims_of(issuer.token(), issuer.token(sub='x'))}"),
    "unpublished key": ("unknown_key", lambda issuer: f"Bearer {issuer.token('k2')}"),
    "unknown key id": ("unknown_key", lambda issuer: f"Bearer {issuer.token(says='k9')}"),
    "expired": ("expired", lambda issuer: f"Bearer {issuer.token(exp=ago(11))}"),
    "not yet": ("claims", lambda issuer: f"Bearer {issuer.token(nbf=ago(-60))}"),
    "issued in the future": ("claims", lambda issuer: f"Bearer {issuer.token(iat=ago(-60))}"),
    "wrong audience": ("audience", lambda issuer: f"Bearer {issuer.token(aud='other')}"),
    "wrong issuer": ("issuer", lambda issuer: f"Bearer {issuer.token(iss='https://evil.test')}"),
    "no expiry": ("claims", lambda issuer: f"Bearer {issuer.token(drop='exp')}"),
    "no subject": ("claims", lambda issuer: f"Bearer {issuer.token(drop='sub')}"),
    "no audience": ("claims", lambda issuer: f"Bearer {issuer.token(drop='aud')}"),
    "no issuer": ("claims", lambda issuer: f"Bearer {issuer.token(drop='iss')}"),
    "no time of issue": ("claims", lambda issuer: f"Bearer {issuer.token(drop='iat')}"),
    "subject of another type": ("claims", lambda issuer: f"Bearer {issuer.token(sub=7)}"),
    "expiry of another type": ("claims", lambda issuer: f"Bearer {issuer.token(exp='soon')}"),
    "quotas of another type": ("claims", lambda issuer: f"Bearer {issuer.token(quotas=[7])}"),
    "a quota that is no number": ("claims", lambda issuer: f"Bearer {issuer.token(quotas={'streams': 'many'})}"),
    "datasets of another type": ("claims", lambda issuer: f"Bearer {issuer.token(datasets=7)}"),
    "a version that is no number": ("claims", lambda issuer: f"Bearer {issuer.token(version='x')}"),
}


def _with_claims_of(token: str, other: str) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{other.split('.')[1]}.{signature}"


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_token_is_refused_with_its_problem(issuer: Issuer, verifier: TokenVerifier, case: str) -> None:
    expected, header = BAD[case]
    assert await problem(verifier, header(issuer)) == expected


async def test_keys_are_fetched_once_for_many_tokens(issuer: Issuer, verifier: TokenVerifier) -> None:
    await asyncio.gather(*(verifier.verify(f"Bearer {issuer.token(sub=str(n))}") for n in range(20)))
    assert issuer.fetches == 1


async def test_a_verified_token_is_remembered(issuer: Issuer, verifier: TokenVerifier) -> None:
    header = f"Bearer {issuer.token()}"
    assert await verifier.verify(header) is await verifier.verify(header)


async def test_the_tokens_remembered_are_bounded(
    issuer: Issuer, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_MAX_CACHED", 2)
    headers = [f"Bearer {issuer.token(sub=str(n))}" for n in range(3)]
    first = [await verifier.verify(header) for header in headers]
    again = [await verifier.verify(header) for header in reversed(headers)]
    assert [a is b for a, b in zip(reversed(first), again, strict=True)] == [True, True, False]


async def test_a_remembered_token_ends_too(issuer: Issuer, verifier: TokenVerifier, clock: Clock) -> None:
    header = f"Bearer {issuer.token(exp=ago(9))}"
    first = await verifier.verify(header)
    clock.now = first.expires_s + 10.5
    await eventually(lambda: time.time() > first.expires_s + 10)
    assert await problem(verifier, header) == "expired"


async def test_a_new_key_is_found_when_its_first_token_comes(
    issuer: Issuer, verifier: TokenVerifier, clock: Clock
) -> None:
    await verifier.verify(f"Bearer {issuer.token()}")
    issuer.published.add("k2")
    header = f"Bearer {issuer.token('k2')}"
    assert await problem(verifier, header) == "unknown_key"
    clock.now += 5.5
    assert (await verifier.verify(header)).client == "mdc_1"
    assert issuer.fetches == 2


async def test_unknown_keys_do_not_make_us_ask_again_and_again(
    issuer: Issuer, verifier: TokenVerifier, clock: Clock
) -> None:
    for step in range(20):
        assert await problem(verifier, f"Bearer {issuer.token(says=f'k-{step}')}") == "unknown_key"
        clock.now += 0.5
    assert issuer.fetches == 2


async def test_tokens_of_a_key_that_is_withdrawn_are_refused(
    issuer: Issuer, verifier: TokenVerifier, clock: Clock
) -> None:
    issuer.published.add("k2")
    header = f"Bearer {issuer.token('k1')}"
    await verifier.verify(header)
    issuer.published.remove("k1")
    clock.now += 61
    assert await problem(verifier, header) == "unknown_key"
    assert (await verifier.verify(f"Bearer {issuer.token('k2')}")).client == "mdc_1"


async def test_another_token_makes_a_withdrawal_known(issuer: Issuer, verifier: TokenVerifier, clock: Clock) -> None:
    header = f"Bearer {issuer.token('k1')}"
    await verifier.verify(header)
    issuer.published.symmetric_difference_update({"k1", "k2"})
    clock.now += 6
    await verifier.verify(f"Bearer {issuer.token('k2')}")
    assert await problem(verifier, header) == "unknown_key"


OUTAGES: dict[str, Any] = {
    "no connection": {"failure": ConnectionError("refused")},
    "time out": {"failure": TimeoutError()},
    "no JSON": {"document": b"<html>"},
    "no keys": {"document": b"{}"},
    "keys of another type": {"document": b'{"keys": null}'},
    "a list": {"document": b"[]"},
    "a key without id": {"document": b'{"keys": [{"kty": "EC"}]}'},
    "a key that is none": {"document": b'{"keys": [{"kid": "a", "kty": "EC"}]}'},
}


@pytest.mark.parametrize("outage", OUTAGES)
async def test_without_keys_an_outage_is_told(issuer: Issuer, verifier: TokenVerifier, outage: str) -> None:
    vars(issuer).update(OUTAGES[outage])
    with pytest.raises(MarketDataError) as caught:
        await verifier.verify(f"Bearer {issuer.token()}")
    assert caught.value.reason_name == "ISSUER_UNAVAILABLE"
    assert caught.value.retry_after_s == 1
    issuer.failure = issuer.document = None
    assert (await verifier.verify(f"Bearer {issuer.token()}")).client == "mdc_1"


@pytest.mark.parametrize("outage", OUTAGES)
async def test_the_last_good_keys_serve_through_an_outage(
    issuer: Issuer, verifier: TokenVerifier, clock: Clock, outage: str
) -> None:
    await verifier.verify(f"Bearer {issuer.token()}")
    vars(issuer).update(OUTAGES[outage])
    clock.now += 120
    for number in range(20):
        assert (await verifier.verify(f"Bearer {issuer.token(sub=str(number))}")).client == str(number)
    assert issuer.fetches == 2, "calls stood in line for an issuer that is down"
    issuer.failure = issuer.document = None
    issuer.published.add("k2")
    clock.now += 6
    assert (await verifier.verify(f"Bearer {issuer.token('k2')}")).client == "mdc_1"


def test_a_public_method_has_no_principal() -> None:
    set_caller(None)
    with pytest.raises(LookupError, match="public"):
        current_principal()


def test_the_scope_that_is_missing_is_named() -> None:
    principal = Principal("mdc_1", frozenset({"quotes:read"}), "", 0)
    require_scope(principal, "quotes:read")
    with pytest.raises(MarketDataError) as caught:
        require_scope(principal, "quotes:publish")
    assert caught.value.reason_name == "MISSING_SCOPE"
    assert caught.value.metadata == {"scope": "quotes:publish"}


async def test_keys_are_there_ahead_of_the_first_call(
    issuer: Issuer, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_WARM_UP_S", 0.01)
    issuer.failure = ConnectionError("away")
    warming = asyncio.create_task(verifier.warm_up())
    await eventually(lambda: issuer.fetches > 2)
    issuer.failure = None
    await warming
    issuer.failure = ConnectionError("away")  # just when the first call comes
    assert (await verifier.verify(f"Bearer {issuer.token()}")).client == "mdc_1"


async def test_an_issuer_without_keys_is_not_asked_without_a_pause(
    issuer: Issuer, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_WARM_UP_S", 30)
    issuer.document = b'{"keys": []}'
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(verifier.warm_up(), 0.2)
    assert issuer.fetches == 1
