"""Signing keys and the key set."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from mda.auth.engine import open_engine
from mda.auth.keys import KeySet, new_signing_key, open_key_set
from mda.auth.migrations import migrate
from mda.auth.records import SigningKey
from mda.auth.store import Store


@dataclass
class MemoryKeys:
    """Signing keys in memory; `rival` is stored by somebody else just before our first one is."""

    rival: SigningKey | None = None
    keys: list[SigningKey] = field(default_factory=list)

    def list_signing_keys(self) -> list[SigningKey]:
        return list(self.keys)

    def add_active_signing_key(self, key: SigningKey) -> bool:
        if self.rival is not None:
            self.keys.append(self.rival)
            return False
        self.keys.append(key)
        return True


def test_the_first_use_makes_a_key_and_the_next_finds_it(clock: Callable[[], datetime]) -> None:
    store = MemoryKeys()
    first = open_key_set(store, clock)
    second = open_key_set(store, clock)
    assert [key.kid for key in store.keys] == [first.kid] == [second.kid]
    assert store.keys[0].created_at == clock()
    assert first.jwks == second.jwks


def test_who_comes_second_takes_the_key_of_the_first() -> None:
    rival = new_signing_key()
    key_set = open_key_set(MemoryKeys(rival))
    assert key_set.kid == rival.kid


def test_keys_that_no_longer_sign_are_published_and_do_not_sign() -> None:
    old, new = replace(new_signing_key(), active=False), new_signing_key()
    key_set = KeySet([old, new])
    assert key_set.kid == new.kid
    assert [key["kid"] for key in json.loads(key_set.jwks)["keys"]] == [old.kid, new.kid]


def test_the_key_set_holds_what_verifiers_need_and_nothing_private(key_set: KeySet) -> None:
    (jwk,) = json.loads(key_set.jwks)["keys"]
    assert jwk.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (jwk["kty"], jwk["crv"], jwk["use"], jwk["alg"]) == ("EC", "P-256", "sig", "ES256")
    published = jwt.PyJWK(jwk).key
    assert isinstance(published, ec.EllipticCurvePublicKey)
    assert published.public_numbers() == key_set.private_key.public_key().public_numbers()


def test_coordinates_keep_their_leading_zeros() -> None:
    # The private value whose public x begins with a zero byte, found by trying.
    numbers = (ec.derive_private_key(value, ec.SECP256R1()) for value in range(1, 3000))
    short = next(key for key in numbers if key.public_key().public_numbers().x < 1 << 248)
    (jwk,) = json.loads(KeySet([_signing_key(short)]).jwks)["keys"]
    assert len(jwk["x"]) == len(jwk["y"]) == 43
    assert jwk["x"].startswith("A")
    jwt.PyJWK(jwk)


def test_the_kid_is_the_thumbprint_of_rfc_7638() -> None:
    key = new_signing_key()
    (jwk,) = json.loads(KeySet([key]).jwks)["keys"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", key.kid)
    assert key.kid == _thumbprint(jwk)
    assert new_signing_key().kid != key.kid


def test_a_key_of_another_curve_is_refused() -> None:
    with pytest.raises(ValueError, match="signing key odd is not a P-256 key"):
        KeySet([_signing_key(ec.generate_private_key(ec.SECP384R1()))])
    with pytest.raises(ValueError, match="signing key odd is not a P-256 key"):
        KeySet([_signing_key(ed25519.Ed25519PrivateKey.generate())])


def test_exactly_one_key_must_be_active() -> None:
    key = new_signing_key()
    for keys in ([], [replace(key, active=False)], [key, new_signing_key()]):
        with pytest.raises(ValueError, match="unpack"):
            KeySet(keys)


def test_private_keys_do_not_show_in_representations() -> None:
    assert "PRIVATE" not in repr(new_signing_key())


def start(url: str, barrier: Barrier) -> tuple[str, str]:
    barrier.wait(30)
    migrate(url)
    store = Store(open_engine(url))
    return open_key_set(store).kid, store.list_signing_keys()[0].kid


def _work(url: str, barrier: Barrier, answers: Callable[[tuple[str, str]], None]) -> None:
    answers(start(url, barrier))


def test_processes_that_start_at_once_end_with_the_same_key(tmp_path: Path) -> None:
    spawn = get_context("spawn")
    barrier, answers = spawn.Barrier(3), spawn.Queue()
    url = f"sqlite:///{tmp_path / 'auth.db'}"
    processes = [spawn.Process(target=_work, args=(url, barrier, answers.put)) for _ in range(3)]
    for process in processes:
        process.start()
    kids = {kid for _ in processes for kid in answers.get(timeout=60)}
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(kids) == 1


def _signing_key(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> SigningKey:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return replace(new_signing_key(), kid="odd", private_pem=pem)


def _thumbprint(jwk: dict[str, str]) -> str:
    canonical = f'{{"crv":"P-256","kty":"EC","x":"{jwk["x"]}","y":"{jwk["y"]}"}}'
    return base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).decode().rstrip("=")
