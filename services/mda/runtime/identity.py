"""Who calls: tokens verified by the service itself, and what their holder may do."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import jwt

from marketdata.v1 import error_reason_pb2 as reasons
from mda.market.errors import MarketDataError
from mda.runtime.revocation import Revocations

_ALGORITHM: Final = "ES256"
_LEEWAY_S: Final = 10
_MAX_CACHED: Final = 10_000
_REFETCH_S: Final = 5.0
"""An unknown key id makes us ask for the keys again, at most this often, in seconds."""
_KEYS_LIVE_S: Final = 60.0
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
        The version of the client that the token was made for: each change that takes
        something away makes the next one.
    """

    client: str
    scopes: frozenset[str]
    tier: str
    expires_s: float
    datasets: frozenset[str] = frozenset()
    key: str = ""
    token_id: str = ""
    version: int = 0

    def may_see(self, dataset: str) -> bool:
        """Return whether it is entitled to a dataset."""
        return dataset in self.datasets or _ALL_DATASETS in self.datasets


Renew = Callable[[str], Awaitable[Principal]]
"""Returns the holder of a fresh token, if it may make the call that is being served."""

_current: ContextVar[Principal | None] = ContextVar("principal", default=None)
_renew: ContextVar[Renew | None] = ContextVar("renew", default=None)
_revocations: ContextVar[Revocations | None] = ContextVar("revocations", default=None)


def current_principal() -> Principal:
    """Return who makes the call that is being served.

    Raises
    ------
    LookupError
        If the method is public.
    """
    principal = _current.get()
    if principal is None:
        raise LookupError("no principal: the method is public")
    return principal


def set_principal(
    principal: Principal | None, renew: Renew | None = None, revocations: Revocations | None = None
) -> None:
    """Note who makes the call that is being served, how a fresh token is looked at, and what may end it."""
    _current.set(principal)
    _renew.set(renew)
    _revocations.set(revocations)


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
            raise _invalid("revoked", "The token, its API key or its client has been revoked, or the client changed.")
        return principal

    async def _verified_principal(self, token: str) -> Principal:
        known = self._verified.get(token)
        if known is not None and known.expires_s + _LEEWAY_S > self._clock() and not self._stale():
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
            raise _invalid("unknown_key", "The token is signed by a key that the issuer does not publish.")
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
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "sub", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise _invalid("expired", "The token has expired. Get a fresh one from /oauth2/token.") from None
        except jwt.InvalidAudienceError:
            raise _invalid("audience", f"The token is not for {self._audience!r}.") from None
        except jwt.InvalidIssuerError:
            raise _invalid("issuer", f"The token is not from {self._issuer!r}.") from None
        except jwt.InvalidSignatureError:
            raise _invalid("signature", "The token's signature is not its key's.") from None
        except jwt.PyJWTError as error:
            raise _invalid("claims", f"The token does not verify: {error}.") from None
        return Principal(
            client=claims["sub"],
            scopes=frozenset(str(claims.get("scope", "")).split()),
            tier=str(claims.get("tier", "")),
            expires_s=float(claims["exp"]),
            datasets=frozenset(map(str, claims.get("datasets") or ())),
            key=str(claims.get("client_id", "")),
            token_id=str(claims.get("jti", "")),
            version=int(claims.get("version", 0)),
        )


class Lease:
    """How long a stream may live: as long as its token, and the fresh ones that come after it, are good.

    Attributes
    ----------
    expires_s
        When its token ends, in seconds since the epoch.
    revoked
        Whether its token is revoked, so that it ends now.
    """

    def __init__(self, principal: Principal, limit: asyncio.Timeout) -> None:
        self._client = principal.client
        self._limit = limit
        self._held = ExitStack()
        self.revoked = False
        self._notice: tuple[float, Callable[[], None]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.expires_s = principal.expires_s

    def before_end(self, notice_s: float, tell: Callable[[], None]) -> None:
        """Call something so many seconds before the token ends, each time that one is about to."""
        self._notice = (notice_s, tell)
        self._schedule()

    async def renew(self, token: str) -> None:
        """Live as long as a fresh token of the same client.

        Raises
        ------
        MarketDataError
            INVALID_TOKEN; MISSING_SCOPE if it could not have opened the stream.
        """
        renew = _renew.get()
        if renew is None:
            raise _invalid("client", "This call takes no fresh token.")
        principal = await renew(token)
        if principal.client != self._client:
            raise _invalid("client", "The fresh token is another client's. Send one of this stream's client.")
        self.expires_s = max(self.expires_s, principal.expires_s)
        self.hold(principal)
        self._schedule()

    def hold(self, principal: Principal) -> None:
        """End when the token of a principal is revoked, instead of with the one before."""
        self._held.close()
        revocations = _revocations.get()
        if revocations is not None:
            self._held.enter_context(revocations.held(principal, self._revoke))

    def end(self) -> None:
        """Give no more notice, and end with nothing more."""
        self._held.close()
        self._silence()

    def _revoke(self) -> None:
        self.revoked = True
        self._limit.reschedule(asyncio.get_running_loop().time())

    def _silence(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        if self.revoked:
            return
        loop = asyncio.get_running_loop()
        left_s = self.expires_s - time.time()
        self._limit.reschedule(loop.time() + left_s + _LEEWAY_S)
        self._silence()
        if self._notice is not None:
            notice_s, tell = self._notice
            self._timer = loop.call_later(max(0.0, left_s - notice_s), tell)


@asynccontextmanager
async def while_token_lives() -> AsyncGenerator[Lease]:
    """Hold what a stream does to the life of its token, which may be renewed by the lease that this gives.

    Raises
    ------
    MarketDataError
        TOKEN_EXPIRED or TOKEN_REVOKED, when the token ends or is revoked while the body
        runs; the body is cancelled.
    """
    principal = current_principal()
    limit = asyncio.timeout(principal.expires_s + _LEEWAY_S - time.time())
    lease = Lease(principal, limit)
    try:
        async with limit:
            lease.hold(principal)
            try:
                yield lease
            finally:
                lease.end()
    except TimeoutError:
        if not limit.expired():
            raise
        if lease.revoked:
            raise MarketDataError(
                reasons.ERROR_REASON_TOKEN_REVOKED,
                "The stream's token, its API key or its client has been revoked, or the client changed. "
                "Connect again with a fresh token from /oauth2/token.",
            ) from None
        raise MarketDataError(
            reasons.ERROR_REASON_TOKEN_EXPIRED,
            "The stream outlived its token. Connect again with a fresh one from /oauth2/token.",
        ) from None


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


def _bearer(authorization: str | None) -> str:
    if authorization is None:
        raise _invalid("missing", "Send `authorization: Bearer <token>`, with a token from /oauth2/token.")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise _invalid("malformed", "The authorization header is not `Bearer <token>`.")
    return token


def _key_id(token: str) -> str:
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise _invalid("malformed", "The token is not a JSON Web Token.") from None
    if header.get("alg") != _ALGORITHM:
        raise _invalid("algorithm", f"The token is not signed with {_ALGORITHM}.")
    return str(header.get("kid", ""))


def _invalid(problem: str, message: str) -> MarketDataError:
    return MarketDataError(reasons.ERROR_REASON_INVALID_TOKEN, message, problem=problem)
