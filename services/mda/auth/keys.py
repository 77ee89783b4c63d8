"""The keys that sign tokens (ES256, P-256), and the set of public keys that others verify them with."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Final, Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mda.auth.clock import Clock, utc_now
from mda.auth.records import SigningKey

ALGORITHM: Final = "ES256"
_COORDINATE_BYTES: Final = 32


class SigningKeyStore(Protocol):
    """Where signing keys are kept."""

    def list_signing_keys(self) -> Sequence[SigningKey]:
        """Return all signing keys, the oldest first."""
        ...

    def add_active_signing_key(self, key: SigningKey) -> bool:
        """Add a key that signs tokens, if no key does yet; say whether it was added."""
        ...


class KeySet:
    """The signing keys that there are, one of which signs.

    Parameters
    ----------
    keys
        All keys whose tokens may be about, the oldest first; exactly one is active.

    Raises
    ------
    ValueError
        If not exactly one is active, or one is not a P-256 key.
    """

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        (active,) = (key for key in keys if key.active)
        self._kid = active.kid
        self._private_key = _load(active)
        self._public_keys = {key.kid: _load(key).public_key() for key in keys}
        self._jwks = _jwks(keys)

    @property
    def kid(self) -> str:
        """The name of the key that signs."""
        return self._kid

    @property
    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """The key that signs."""
        return self._private_key

    def public_key(self, kid: str) -> ec.EllipticCurvePublicKey | None:
        """Return the public key of a name, or None."""
        return self._public_keys.get(kid)

    @property
    def jwks(self) -> bytes:
        """The public keys, as the JSON of a JSON Web Key Set (RFC 7517)."""
        return self._jwks


def open_key_set(store: SigningKeyStore, clock: Clock = utc_now) -> KeySet:
    """Return the keys of a store; on first use, make one.

    Processes that do this at the same time end with the same key.
    """
    keys = store.list_signing_keys()
    if not any(key.active for key in keys):
        store.add_active_signing_key(new_signing_key(clock))
        # Read again, as another process may have been first.
        keys = store.list_signing_keys()
    return KeySet(keys)


def new_signing_key(clock: Clock = utc_now) -> SigningKey:
    """Return a fresh active key; its `kid` is its thumbprint (RFC 7638)."""
    private_key = ec.generate_private_key(ec.SECP256R1())
    pem = private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    kid = _thumbprint(_public_jwk(private_key))
    return SigningKey(kid=kid, private_pem=pem.decode(), created_at=clock(), active=True)


def _load(key: SigningKey) -> ec.EllipticCurvePrivateKey:
    private_key = serialization.load_pem_private_key(key.private_pem.encode(), password=None)
    match private_key:
        case ec.EllipticCurvePrivateKey(curve=ec.SECP256R1()):
            return private_key
        case _:
            raise ValueError(f"signing key {key.kid} is not a P-256 key")


def _jwks(keys: Sequence[SigningKey]) -> bytes:
    published = [_public_jwk(_load(key)) | {"kid": key.kid, "use": "sig", "alg": ALGORITHM} for key in keys]
    return json.dumps({"keys": published}).encode()


def _public_jwk(private_key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    point = private_key.public_key().public_numbers()
    return {"crv": "P-256", "kty": "EC", "x": _coordinate(point.x), "y": _coordinate(point.y)}


def _coordinate(value: int) -> str:
    # RFC 7518, section 6.2.1.2: always as long as the curve's field, with leading zeros.
    return _base64url(value.to_bytes(_COORDINATE_BYTES, "big"))


def _thumbprint(jwk: dict[str, str]) -> str:
    canonical = json.dumps(jwk, sort_keys=True, separators=(",", ":"))
    return _base64url(hashlib.sha256(canonical.encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
