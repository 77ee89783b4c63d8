"""The connection to NATS."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

_LOG: Final = structlog.stdlib.get_logger("mda.tape")
_RECONNECT_S: Final[Any] = 0.2  # typed int by the library, which takes fractions
_PENDING_BYTES: Final = 64 * 1024 * 1024
_CLOSE_S: Final = 2.0


@asynccontextmanager
async def connect(url: str, token: str | None, name: str) -> AsyncGenerator[Client]:
    """Connect to NATS, and again whenever the connection breaks; close at the end.

    Waits for as long as NATS does not answer: services may start in any order.

    Parameters
    ----------
    url
        Such as `nats://127.0.0.1:4222`.
    token
        NATS's token, if it wants one.
    name
        Names the connection in NATS's monitoring.
    """
    client = Client()

    async def on_error(error: Exception) -> None:
        _LOG.warning("nats error", error=repr(error))

    async def on_disconnect() -> None:
        _LOG.warning("nats disconnected")

    async def on_reconnect() -> None:
        _LOG.info("nats connected again")

    while True:
        try:
            await client.connect(
                url,
                token=token,
                name=name,
                max_reconnect_attempts=-1,
                reconnect_time_wait=_RECONNECT_S,
                connect_timeout=2,
                ping_interval=5,
                max_outstanding_pings=2,
                pending_size=_PENDING_BYTES,
                error_cb=on_error,
                disconnected_cb=on_disconnect,
                reconnected_cb=on_reconnect,
            )
            break
        except (TimeoutError, OSError, NatsError) as error:
            _LOG.warning("nats does not answer yet", url=url, error=repr(error))
            await asyncio.sleep(0.5)
    try:
        yield client
    finally:
        # In Python 3.11 a reconnection that is cancelled at the wrong moment goes on; let it find no server.
        client.options["max_reconnect_attempts"] = 1
        # While it is disconnected, what it has yet to send cannot go.
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await client.close()
