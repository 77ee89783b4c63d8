"""Access tokens: JSON Web Tokens by the profile of RFC 9068."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import jwt

from mda.auth.keys import ALGORITHM, KeySet
from mda.auth.records import ApiKey

_TYPE: Final = "at+jwt"
_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token, and what its holder should know about it.

    Attributes
    ----------
    token
        The signed token, in JWS compact form.
    expires_in_s
        How long it lives, in seconds.
    """

    token: str = field(repr=False)
    expires_in_s: int


class TokenIssuer:
    """Signs access tokens.

    Parameters
    ----------
    keys
        The key that signs is taken from here.
    issuer, audience
        Who issues the tokens (`iss`), and whom they are for (`aud`).
    ttl
        How long a token lives, at most.
    """

    def __init__(self, keys: KeySet, *, issuer: str, audience: str, ttl: timedelta) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._ttl = ttl

    def issue(self, key: ApiKey, scopes: tuple[str, ...], now: datetime) -> IssuedToken:
        """Return a token for the client of an API key.

        Parameters
        ----------
        key
            The API key that the client has shown; the token does not outlive it.
        scopes
            What the token allows.
        now
            The present time.
        """
        issued_at = int(now.timestamp())
        expires_in_s = int(self._lifetime(key, now).total_seconds())
        # No `nbf`: it would equal `iat`, and refuse the token where a clock is slow.
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": key.client.id,
            "client_id": key.id,
            "scope": " ".join(scopes),
            "tier": key.client.tier.value,
            "quotas": key.client.limits.claim(),
            "datasets": list(key.client.datasets),
            "version": key.client.version,
            "iat": issued_at,
            "exp": issued_at + expires_in_s,
            "jti": secrets.token_urlsafe(_ID_BYTES),
        }
        signing = self._keys.signing_key(now)
        headers = {"kid": signing.kid, "typ": _TYPE}
        token = jwt.encode(claims, signing.private_key, algorithm=ALGORITHM, headers=headers)
        return IssuedToken(token, expires_in_s)

    def _lifetime(self, key: ApiKey, now: datetime) -> timedelta:
        return self._ttl if key.expires_at is None else min(self._ttl, key.expires_at - now)


class TokenReader:
    """Verifies the tokens that an issuer gave, by its keys.

    Parameters
    ----------
    keys
        The keys that sign, or have signed.
    issuer, audience
        What the tokens must say.
    """

    def __init__(self, keys: KeySet, *, issuer: str, audience: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience

    def claims(self, token: str, at: datetime) -> dict[str, Any] | None:
        """Return what a token says; None if it is none of ours, or has ended by a time."""
        try:
            key = self._keys.public_key(str(jwt.get_unverified_header(token).get("kid")))
            if key is None:
                return None
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                # The time is the clock's that is given, not this machine's.
                options={"require": ["exp", "jti"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.PyJWTError:
            return None
        return claims if claims["exp"] > at.timestamp() else None
