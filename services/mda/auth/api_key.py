"""API keys: their ids, their secrets, how they are hashed, and how people paste them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

KEY_ID_PREFIX: Final = "mdk_"
_KEY_ID_BYTES: Final = 12
_SECRET_BYTES: Final = 32
_HINT_LENGTH: Final = 4
_SEPARATOR: Final = "."


def new_key_id() -> str:
    """Return a fresh API key id."""
    return KEY_ID_PREFIX + secrets.token_hex(_KEY_ID_BYTES)


def new_secret() -> str:
    """Return a fresh secret: 256 random bits in base64url, 43 characters, never with a `.`."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def hash_secret(secret: str) -> str:
    """Return what is stored of a secret: its SHA-256, in lower-case hex."""
    # A slow hash (Argon2, bcrypt) makes guessing dear where people choose the secret.
    # 256 random bits cannot be guessed at any speed, so a slow hash would only slow us.
    return hashlib.sha256(secret.encode()).hexdigest()


def verify_secret(secret: str, secret_hash: str) -> bool:
    """Say whether a secret has a hash, in a time that tells nothing about either."""
    return hmac.compare_digest(hash_secret(secret), secret_hash)


def hint_of(secret: str) -> str:
    """Return the part of a secret that may be shown: its last four characters."""
    return secret[-_HINT_LENGTH:]


def format_api_key(key_id: str, secret: str) -> str:
    """Return an API key as people paste it: `<id>.<secret>`."""
    return f"{key_id}{_SEPARATOR}{secret}"


def parse_api_key(text: str) -> tuple[str, str]:
    """Return the id and the secret of an API key as people paste it.

    Parameters
    ----------
    text
        `<id>.<secret>`; white space around it is ignored.

    Raises
    ------
    ValueError
        If it is not an API key. The message does not repeat it.
    """
    key_id, separator, secret = text.strip().partition(_SEPARATOR)
    if not key_id.startswith(KEY_ID_PREFIX) or not separator or not secret:
        raise ValueError(f"not an API key: it should read {KEY_ID_PREFIX}<id>{_SEPARATOR}<secret>")
    return key_id, secret
