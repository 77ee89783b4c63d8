"""Waiting for the archive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from marketdata.v1 import error_reason_pb2 as reasons
from mda.market.errors import MarketDataError
from mda.tape.tape import Tape

_WITHIN_S: Final = 60.0
"""How long the archive may take to tell of something new, in seconds: it commits every few seconds."""


async def archived_places(tape: Tape) -> AsyncGenerator[int]:
    """Yield the sequence number of the newest entry that the archive has of a tape, whenever it has more."""
    bounds = await tape.bounds()
    async with aclosing(tape.archived.follow()) as places:
        async for place in places:
            if bounds is not None and place.epoch == bounds.epoch:
                yield place.sequence


async def next_place(places: AsyncGenerator[int], dataset: str) -> int:
    """Return the next of `archived_places`.

    Raises
    ------
    MarketDataError
        ARCHIVE_UNAVAILABLE, if it does not come within a minute.
    """
    try:
        async with asyncio.timeout(_WITHIN_S):
            return await anext(places)
    except TimeoutError:
        raise MarketDataError(
            reasons.ERROR_REASON_ARCHIVE_UNAVAILABLE,
            f"The archive of {dataset} does not go on. What was sent is durable: send what is not acknowledged "
            "again, or publish with a level that does not wait for the archive.",
            retry_after_s=5,
            dataset=dataset,
        ) from None
