"""Signing keys and the key set."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from mda.auth.keys import KeyPair, KeySet, from_pem, new_key_pair, to_pem
from tests.auth.conftest import NOW

DAY = timedelta(days=1)


def test_the_newest_key_whose_time_has_come_signs() -> None:
    old, present, coming = (new_key_pair(NOW + days * DAY) for days in (-2, 0, 2))
    keys = KeySet([old, present, coming])
    assert [keys.signing_key(NOW + days * DAY) for days in (-1, 0, 1, 2)] == [old, present, present, coming]
    with pytest.raises(LookupError):
        keys.signing_key(NOW - 3 * DAY)


def test_all_keys_are_published_and_found() -> None:
    first, second = new_key_pair(NOW), new_key_pair(NOW + DAY)
    keys = KeySet([first])
    assert keys.public_key(second.kid) is None
    keys.replace([first, second])
    assert [key["kid"] for key in json.loads(keys.jwks)["keys"]] == [first.kid, second.kid]
    assert keys.public_key(second.kid) == second.private_key.public_key()


def test_the_key_set_holds_what_verifiers_need_and_nothing_private() -> None:
    pair = new_key_pair(NOW)
    (jwk,) = json.loads(KeySet([pair]).jwks)["keys"]
    assert jwk.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (jwk["kty"], jwk["crv"], jwk["use"], jwk["alg"]) == ("EC", "P-256", "sig", "ES256")
    published = jwt.PyJWK(jwk).key
    assert isinstance(published, ec.EllipticCurvePublicKey)
    assert published.public_numbers() == pair.private_key.public_key().public_numbers()


def test_coordinates_keep_their_leading_zeros() -> None:
    # The private value whose public x begins with a zero byte, found by trying.
    numbers = (ec.derive_private_key(value, ec.SECP256R1()) for value in range(1, 3000))
    short = next(key for key in numbers if key.public_key().public_numbers().x < 1 << 248)
    (jwk,) = json.loads(KeySet([KeyPair("k", short, NOW)]).jwks)["keys"]
    assert len(jwk["x"]) == len(jwk["y"]) == 43
    assert jwk["x"].startswith("A")
    jwt.PyJWK(jwk)


def test_the_kid_is_the_thumbprint_of_rfc_7638() -> None:
    pair = new_key_pair(NOW)
    (jwk,) = json.loads(KeySet([pair]).jwks)["keys"]
    canonical = f'{{"crv":"P-256","kty":"EC","x":"{jwk["x"]}","y":"{jwk["y"]}"}}'
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", pair.kid)
    assert pair.kid == base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).decode().rstrip("=")
    assert new_key_pair(NOW).kid != pair.kid


def test_a_key_comes_back_from_its_pem() -> None:
    pair = new_key_pair(NOW)
    back = from_pem(to_pem(pair), pair.kid, NOW)
    assert back.private_key.private_numbers() == pair.private_key.private_numbers()
    assert (back.kid, back.signs_from) == (pair.kid, NOW)


def test_a_key_of_another_kind_is_refused() -> None:
    for key in (ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()):
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with pytest.raises(ValueError, match="signing key odd is not a P-256 key"):
            from_pem(pem, "odd", NOW)


def test_private_keys_do_not_show_in_representations() -> None:
    assert "private" not in repr(new_key_pair(NOW)).lower()
