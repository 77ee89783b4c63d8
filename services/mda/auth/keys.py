"""The keys that sign tokens (ES256, P-256), and the set of public keys that others verify them with."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ALGORITHM: Final = "ES256"
_COORDINATE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A signing key, opened.

    Attributes
    ----------
    kid
        Its name in tokens and in the key set: its thumbprint (RFC 7638).
    private_key
        What signs.
    signs_from
        From when on it signs; aware, in UTC.
    """

    kid: str
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)
    signs_from: datetime


class KeySet:
    """The signing keys whose tokens may be about. Safe to use from any thread while keys come and go.

    Parameters
    ----------
    keys
        The keys, in the order in which they sign.
    """

    def __init__(self, keys: Sequence[KeyPair]) -> None:
        self.replace(keys)

    def replace(self, keys: Sequence[KeyPair]) -> None:
        """Take other keys instead."""
        self._held = tuple(keys), _jwks(keys)

    @property
    def jwks(self) -> bytes:
        """The public keys, as the JSON of a JSON Web Key Set (RFC 7517)."""
        return self._held[1]

    def signing_key(self, now: datetime) -> KeyPair:
        """Return the key that signs: the newest whose time has come.

        Raises
        ------
        LookupError
            If there is none.
        """
        for key in reversed(self._held[0]):
            if key.signs_from <= now:
                return key
        raise LookupError("no signing key's time has come")

    def public_key(self, kid: str) -> ec.EllipticCurvePublicKey | None:
        """Return the public key of a name, or None."""
        return next((key.private_key.public_key() for key in self._held[0] if key.kid == kid), None)


def new_key_pair(signs_from: datetime) -> KeyPair:
    """Return a fresh key."""
    private_key = ec.generate_private_key(ec.SECP256R1())
    return KeyPair(_thumbprint(_public_jwk(private_key)), private_key, signs_from)


def to_pem(key: KeyPair) -> bytes:
    """Return the private key: PKCS #8 in PEM, not encrypted."""
    return key.private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def from_pem(pem: bytes, kid: str, signs_from: datetime) -> KeyPair:
    """Return the key that `to_pem` gave the private key of.

    Raises
    ------
    ValueError
        If it is not a P-256 key.
    """
    private_key = serialization.load_pem_private_key(pem, password=None)
    match private_key:
        case ec.EllipticCurvePrivateKey(curve=ec.SECP256R1()):
            return KeyPair(kid, private_key, signs_from)
        case _:
            raise ValueError(f"signing key {kid} is not a P-256 key")


def _jwks(keys: Sequence[KeyPair]) -> bytes:
    published = [_public_jwk(key.private_key) | {"kid": key.kid, "use": "sig", "alg": ALGORITHM} for key in keys]
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
