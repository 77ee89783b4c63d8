"""How long a stream may live: as long as its token, and those that come after it, are good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager

from marketdata.v1 import error_reason_pb2 as reasons
from mda.market.errors import MarketDataError
from mda.runtime.identity import LEEWAY_S, Caller, Principal, current_caller, invalid_token


class Lease:
    """How long a stream may live: as long as its token, and the fresh ones that come after it, are good.

    Attributes
    ----------
    expires_s
        When its token ends, in seconds since the epoch.
    revoked
        Whether its token is revoked, so that it ends now.
    """

    def __init__(self, caller: Caller, limit: asyncio.Timeout) -> None:
        self._caller = caller
        self._limit = limit
        self._held = ExitStack()
        self.revoked = False
        self._notice: tuple[float, Callable[[], None]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.expires_s = caller.principal.expires_s

    def before_end(self, notice_s: float, tell: Callable[[], None]) -> None:
        """Call something so many seconds before the token ends, each time that one is about to."""
        self._notice = (notice_s, tell)
        self._schedule()

    async def renew(self, token: str) -> None:
        """Live as long as a fresh token of the same client.

        Raises
        ------
        MarketDataError
            INVALID_TOKEN; MISSING_SCOPE if it could not have opened the stream;
            TOKEN_REVOKED if the client has changed since.
        """
        if self._caller.renew is None:
            raise invalid_token("client", "This call takes no fresh token.")
        opened, fresh = self._caller.principal, await self._caller.renew(token)
        if fresh.client != opened.client:
            raise invalid_token("client", "The fresh token is another client's. Send one of this stream's client.")
        if fresh.version != opened.version:  # it may be entitled to less than what the stream gives
            raise _revoked()
        self.expires_s = fresh.expires_s
        self.hold(fresh)
        self._schedule()

    def hold(self, principal: Principal) -> None:
        """End when the token of a principal is revoked, instead of with the one before."""
        self._held.close()
        if self._caller.revocations is not None:
            self._held.enter_context(self._caller.revocations.held(principal, self._revoke))

    def end(self) -> None:
        """Give no more notice, and end with nothing more."""
        self._held.close()
        self._silence()

    def _revoke(self) -> None:
        self.revoked = True
        self._end_at(asyncio.get_running_loop().time())

    def _end_at(self, when: float) -> None:
        if not self._limit.expired():  # it ends already
            self._limit.reschedule(when)

    def _silence(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        if self.revoked:
            return
        loop = asyncio.get_running_loop()
        left_s = self.expires_s - time.time()
        self._end_at(loop.time() + left_s + LEEWAY_S)
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
    caller = current_caller()
    limit = asyncio.timeout(caller.principal.expires_s + LEEWAY_S - time.time())
    lease = Lease(caller, limit)
    try:
        async with limit:
            lease.hold(caller.principal)
            try:
                yield lease
            finally:
                lease.end()
    except TimeoutError:
        if not limit.expired():
            raise
        if lease.revoked:
            raise _revoked() from None
        raise MarketDataError(
            reasons.ERROR_REASON_TOKEN_EXPIRED,
            "The stream outlived its token. Connect again with a fresh one from /oauth2/token.",
        ) from None


def _revoked() -> MarketDataError:
    return MarketDataError(
        reasons.ERROR_REASON_TOKEN_REVOKED,
        "The stream's token, its API key or its client has been revoked, or the client changed. "
        "Connect again with a fresh token from /oauth2/token.",
    )
