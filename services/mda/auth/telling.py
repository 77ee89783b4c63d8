"""Tells the services what has been revoked, by the log that they follow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from mda.auth.clients import LONGEST_TOKEN
from mda.auth.clock import Clock, utc_now
from mda.auth.errors import StoreUnavailableError
from mda.auth.store import Store
from mda.market.errors import MarketDataError
from mda.runtime.revocation import STREAM, SUBJECTS, Revocation
from mda.runtime.settings import ServiceSettings
from mda.tape.connection import connect
from mda.tape.log import Log

_LOOK_S: Final = 0.5
"""What other processes have put down is looked for this often, in seconds."""
_MAX_BYTES: Final = 64 << 20

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Teller:
    """Sends revocations from the store to the services, each at least once, in order.

    A revocation is put down together with the change that it is about, so none is lost;
    what is sent twice changes nothing.

    Parameters
    ----------
    store
        Where they stand.
    replicas
        On how many NATS servers the log is.
    clock
        The present time.
    """

    def __init__(self, store: Store, *, replicas: int, clock: Clock = utc_now) -> None:
        self._store = store
        self._replicas = replicas
        self._clock = clock
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look at once for what is to be sent."""
        self._wake.set()

    async def run(self, settings: ServiceSettings) -> None:
        """Send for ever; outages of NATS and of the store are waited out."""
        token = settings.nats_token.get_secret_value() if settings.nats_token else None
        async with connect(settings.nats_url, token, "mda-auth") as client:
            log = Log(client, STREAM, SUBJECTS)
            while True:
                await self._tried(lambda: self._send(log))
                await self._pause()

    async def _tried(self, attempt: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await attempt()
            except (MarketDataError, StoreUnavailableError) as error:
                _log.warning("revocations wait", error=str(error))
                await asyncio.sleep(_LOOK_S)
            else:
                return

    async def _send(self, log: Log) -> None:
        # Services look there; and whoever loses the log, loses only what is told again here.
        if await log.create(max_bytes=_MAX_BYTES, replicas=self._replicas, keep_s=LONGEST_TOKEN.total_seconds()):
            await asyncio.to_thread(self._store.send_revocations_again)
        while unsent := await asyncio.to_thread(self._store.unsent_revocations):
            for _, revocation in unsent:
                await log.append(revocation.subject, revocation.encode(), {}, None)
            await asyncio.to_thread(self._sent, unsent)

    def _sent(self, revocations: Sequence[tuple[int, Revocation]]) -> None:
        self._store.revocations_sent([number for number, _ in revocations])
        self._store.forget_revocations(self._clock())

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()
