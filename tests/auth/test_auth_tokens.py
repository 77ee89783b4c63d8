"""Access tokens, read as a service reads them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import jwt
import pytest

from mda.auth.keys import KeySet, new_key_pair
from mda.auth.records import ApiKey
from mda.auth.tokens import TokenIssuer

NOW = datetime.fromisoformat("2026-03-02T14:30:00.250+00:00")
NOW_S = 1_772_461_800


def claims_of(token: str, key_set: KeySet, **options: Any) -> dict[str, Any]:
    (key,) = jwt.PyJWKSet.from_json(key_set.jwks.decode()).keys
    wanted: dict[str, Any] = {"audience": "marketdata-test", "issuer": "https://auth.test"} | options
    return jwt.decode(token, key, algorithms=["ES256"], options={"verify_exp": False, "verify_iat": False}, **wanted)


def test_claims(issuer: TokenIssuer, key_set: KeySet, key: ApiKey) -> None:
    issued = issuer.issue(key, ("quotes:read", "trades:read"), NOW)
    claims = claims_of(issued.token, key_set)
    assert len(claims.pop("jti")) == 22
    assert claims == {
        "iss": "https://auth.test",
        "aud": "marketdata-test",
        "sub": "mdc_1",
        "client_id": "mdk_1",
        "scope": "quotes:read trades:read",
        "tier": "pro",
        "quotas": {
            "requests_per_second": 200,
            "streams": 100,
            "symbols_per_subscription": 5_000,
            "rows_per_day": 10_000_000_000,
        },
        "datasets": ["GLBX.MDP3", "SIM"],
        "version": 0,
        "iat": NOW_S,
        "exp": NOW_S + 900,
    }
    assert issued.expires_in_s == 900


def test_header(issuer: TokenIssuer, key_set: KeySet, key: ApiKey) -> None:
    header = jwt.get_unverified_header(issuer.issue(key, (), NOW).token)
    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": key_set.signing_key(NOW).kid}


def test_every_token_has_an_id_of_its_own(issuer: TokenIssuer, key_set: KeySet, key: ApiKey) -> None:
    ids = {claims_of(issuer.issue(key, (), NOW).token, key_set)["jti"] for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.parametrize(("left_s", "expires_in_s"), [(1.0, 1), (10.9, 10), (900.0, 900), (901.0, 900)])
def test_a_token_does_not_outlive_its_key(
    issuer: TokenIssuer, key_set: KeySet, key: ApiKey, left_s: float, expires_in_s: int
) -> None:
    issued = issuer.issue(replace(key, expires_at=NOW + timedelta(seconds=left_s)), (), NOW)
    assert issued.expires_in_s == expires_in_s
    assert claims_of(issued.token, key_set)["exp"] == NOW_S + expires_in_s


@pytest.mark.parametrize("options", [{"audience": "other"}, {"issuer": "https://other"}])
def test_for_others_it_is_not_valid(issuer: TokenIssuer, key_set: KeySet, key: ApiKey, options: Any) -> None:
    with pytest.raises(jwt.InvalidTokenError):
        claims_of(issuer.issue(key, (), NOW).token, key_set, **options)


def test_other_keys_do_not_verify_it(issuer: TokenIssuer, key: ApiKey) -> None:
    with pytest.raises(jwt.InvalidSignatureError):
        claims_of(issuer.issue(key, (), NOW).token, KeySet([new_key_pair(NOW)]))


def test_tokens_do_not_show_in_representations(issuer: TokenIssuer, key: ApiKey) -> None:
    issued = issuer.issue(key, (), NOW)
    assert issued.token not in repr(issued)
