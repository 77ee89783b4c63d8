"""Who calls: tokens verified by the service itself, and what their holder may do."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import jwt

from marketdata.v1 import error_reason_pb2 as reasons
from mda.market.errors import MarketDataError
from mda.market.quotas import Quotas
from mda.runtime.revocation import Revocations
from mda.runtime.usage.account import Account

_ALGORITHM: Final = "ES256"
LEEWAY_S: Final = 10
"""So much longer than they say tokens are good, in seconds, as clocks differ."""
_MAX_CACHED: Final = 10_000
_REFETCH_S: Final = 5.0
"""An unknown key id makes us ask for the keys again, at most this often, in seconds."""
_KEYS_LIVE_S: Final = 60.0
_WARM_UP_S: Final = 0.5
_ALL_DATASETS: Final = "*"

FetchJwks = Callable[[], Awaitable[bytes]]
"""Returns the issuer's JSON Web Key Set."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a verified token.

    Attributes
    ----------
    client
        The client's id (`sub`).
    scopes
        What it may do.
    tier
        Its tier, for limits.
    expires_s
        When the token ends, in seconds since the epoch.
    datasets
        The datasets it is entitled to; `*` stands for all.
    key, token_id
        The ids of the API key (`client_id`) and of the token (`jti`); empty where the
        token does not say.
    version
        The version of the client that the token was made for: each change of what it
        may do makes the next one.
    quotas
        What it may use; a token that says nothing has no limits.
    """

    client: str
    scopes: frozenset[str]
    tier: str
    expires_s: float
    datasets: frozenset[str] = frozenset()
    key: str = ""
    token_id: str = ""
    version: int = 0
    quotas: Quotas = field(default_factory=Quotas)

    def may_see(self, dataset: str) -> bool:
        """Return whether it is entitled to a dataset."""
        return dataset in self.datasets or _ALL_DATASETS in self.datasets


Renew = Callable[[str], Awaitable[Principal]]
"""Returns the holder of a fresh token, if it may make the call that is being served."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes the call that is being served.

    Attributes
    ----------
    principal
        The holder of its token.
    renew
        How a fresh token is looked at; None where the call takes none.
    revocations
        What may end its streams before their time.
    account
        What its client may still use.
    """

    principal: Principal
    account: Account
    renew: Renew | None = None
    revocations: Revocations | None = None


_current: ContextVar[Caller | None] = ContextVar("caller", default=None)


def current_caller() -> Caller:
    """Return who makes the call that is being served.

    Raises
    ------
    LookupError
        If the method is public.
    """
    caller = _current.get()
    if caller is None:
        raise LookupError("no caller: the method is public")
    return caller


def current_principal() -> Principal:
    """Return the holder of the token of the call that is being served. Errors as in `current_caller`."""
    return current_caller().principal


def client_of_call() -> str | None:
    """Return the client of the call that is being served; None where it is not known."""
    caller = _current.get()
    return caller.principal.client if caller is not None else None


def current_account() -> Account:
    """Return what the client of the call that is being served may still use. Errors as in `current_caller`."""
    return current_caller().account


def rate_headers() -> tuple[tuple[str, str], ...]:
    """Return the `x-ratelimit-*` headers of the call that is being served; none where nothing limits it.

    As Envoy writes them (draft-polli-ratelimit-headers-03).
    """
    caller = _current.get()
    left = caller.account.calls_left if caller is not None else None
    if left is None:
        return ()
    return (
        ("x-ratelimit-limit", f"{left.limit}, {left.limit};w=1"),
        ("x-ratelimit-remaining", str(left.remaining)),
        ("x-ratelimit-reset", str(left.reset_s)),
    )


def set_caller(caller: Caller | None) -> None:
    """Note who makes the call that is being served."""
    _current.set(caller)


class TokenVerifier:
    """Verifies tokens against the issuer's published keys.

    Verified tokens are remembered until they end or the keys change, because a
    signature costs about 100 µs.

    Parameters
    ----------
    fetch_jwks
        Gets the key set.
    issuer, audience
        What the token must say.
    clock
        Seconds since the epoch.
    revocations
        What has been revoked, as far as it is known here; streams are held to it, too.
    """

    def __init__(
        self,
        fetch_jwks: FetchJwks,
        issuer: str,
        audience: str,
        clock: Callable[[], float] = time.time,
        revocations: Revocations | None = None,
    ) -> None:
        self.revocations = revocations or Revocations(clock)
        self._fetch_jwks = fetch_jwks
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_s = float("-inf")
        self._tried_s = float("-inf")
        self._lock = asyncio.Lock()
        self._verified: OrderedDict[str, Principal] = OrderedDict()

    async def warm_up(self) -> None:
        """Get the keys ahead of the first call, however long it takes: the issuer may be away just when that comes."""
        while True:
            with suppress(MarketDataError):
                async with self._lock:
                    await self._refresh()
            if self._keys:  # an issuer that starts may have none yet
                return
            await asyncio.sleep(_WARM_UP_S)

    async def verify(self, authorization: str | None) -> Principal:
        """Return the holder of the token in an `authorization` header.

        Raises
        ------
        MarketDataError
            INVALID_TOKEN with a `problem`: missing, malformed, algorithm, unknown_key,
            signature, expired, issuer, audience, claims, revoked.
        """
        principal = await self._verified_principal(_bearer(authorization))
        if self.revocations.covers(principal):
            raise invalid_token("revoked", "The token, its API key or its client is revoked, or the client changed.")
        return principal

    async def _verified_principal(self, token: str) -> Principal:
        known = self._verified.get(token)
        if known is not None and known.expires_s + LEEWAY_S > self._clock() and not self._stale():
            self._verified.move_to_end(token)
            return known
        key = await self._key(_key_id(token))
        principal = self._check(token, key)
        self._verified[token] = principal
        if len(self._verified) > _MAX_CACHED:
            self._verified.popitem(last=False)
        return principal

    def _stale(self) -> bool:
        return self._clock() - self._fetched_s > _KEYS_LIVE_S

    async def _key(self, key_id: str) -> jwt.PyJWK:
        async with self._lock:
            waited = self._clock() - self._tried_s > _REFETCH_S
            if waited and (self._stale() or key_id not in self._keys):
                await self._refresh()
        key = self._keys.get(key_id)
        if key is None:
            raise invalid_token("unknown_key", "The token is signed by a key that the issuer does not publish.")
        return key

    async def _refresh(self) -> None:
        try:
            document = json.loads(await self._fetch_jwks())
            keys = {entry["kid"]: jwt.PyJWK(entry, algorithm=_ALGORITHM) for entry in document["keys"]}
        except (OSError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
            if self._keys:  # the last good keys serve until the issuer is back
                self._tried_s = self._clock()  # calls do not stand in line for an issuer that is down
                return
            raise MarketDataError(
                reasons.ERROR_REASON_ISSUER_UNAVAILABLE,
                "The token issuer does not answer, so tokens cannot be verified yet. Try again in a second.",
                retry_after_s=1,
            ) from error
        if keys.keys() != self._keys.keys():
            self._verified.clear()
        self._keys = keys
        self._fetched_s = self._tried_s = self._clock()

    def _check(self, token: str, key: jwt.PyJWK) -> Principal:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "sub", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise invalid_token("expired", "The token has expired. Get a fresh one from /oauth2/token.") from None
        except jwt.InvalidAudienceError:
            raise invalid_token("audience", f"The token is not for {self._audience!r}.") from None
        except jwt.InvalidIssuerError:
            raise invalid_token("issuer", f"The token is not from {self._issuer!r}.") from None
        except jwt.InvalidSignatureError:
            raise invalid_token("signature", "The token's signature is not its key's.") from None
        except jwt.PyJWTError as error:
            raise invalid_token("claims", f"The token does not verify: {error}.") from None
        try:
            return _principal(claims)
        except (ValueError, TypeError, AttributeError) as error:
            raise invalid_token("claims", f"The token says what no token of ours says: {error}.") from None


def require_scope(principal: Principal, scope: str) -> None:
    """Check that a principal holds a scope.

    Raises
    ------
    MarketDataError
        MISSING_SCOPE if not.
    """
    if scope not in principal.scopes:
        raise MarketDataError(
            reasons.ERROR_REASON_MISSING_SCOPE,
            f"The token lacks the scope {scope!r}. Ask for it at /oauth2/token with a key that has it.",
            scope=scope,
        )


def require_dataset(principal: Principal, dataset: str, field: str) -> None:
    """Check that a principal is entitled to a dataset.

    Parameters
    ----------
    principal
        Who calls.
    dataset
        What it calls for.
    field
        The path of the request's field that says so.

    Raises
    ------
    MarketDataError
        DATASET_NOT_ENTITLED if not.
    """
    if not principal.may_see(dataset):
        raise MarketDataError(
            reasons.ERROR_REASON_DATASET_NOT_ENTITLED,
            f"The token is not for the dataset {dataset!r}. Ask who runs the service to entitle the client to it.",
            field=field,
            dataset=dataset,
        )


def _principal(claims: Mapping[str, Any]) -> Principal:
    return Principal(
        client=claims["sub"],
        scopes=frozenset(str(claims.get("scope", "")).split()),
        tier=str(claims.get("tier", "")),
        expires_s=float(claims["exp"]),
        datasets=frozenset(map(str, claims.get("datasets") or ())),
        key=str(claims.get("client_id", "")),
        token_id=str(claims.get("jti", "")),
        version=int(claims.get("version", 0)),
        quotas=Quotas.of_claim(claims.get("quotas") or {}),
    )


def _bearer(authorization: str | None) -> str:
    if authorization is None:
        raise invalid_token("missing", "Send `authorization: Bearer <token>`, with a token from /oauth2/token.")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise invalid_token("malformed", "The authorization header is not `Bearer <token>`.")
    return token


def _key_id(token: str) -> str:
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise invalid_token("malformed", "The token is not a JSON Web Token.") from None
    if header.get("alg") != _ALGORITHM:
        raise invalid_token("algorithm", f"The token is not signed with {_ALGORITHM}.")
    return str(header.get("kid", ""))


def invalid_token(problem: str, message: str) -> MarketDataError:
    """Return the error for a token that is not good, with its `problem`."""
    return MarketDataError(reasons.ERROR_REASON_INVALID_TOKEN, message, problem=problem)
