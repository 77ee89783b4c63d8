"""Who works on queries of the past, and how many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from marketdata.v1 import error_reason_pb2 as reasons
from mda.lake.errors import LakeError
from mda.market.errors import MarketDataError, archive_unavailable

_THREADS: Final = 2
_MOST_WAITING: Final = 64
T = TypeVar("T")


class Workers:
    """The threads of all queries of the past: few, so that live readers have their share of the processors.

    Parameters
    ----------
    threads
        How many queries are worked on at the same time; so many have rows in memory, of three files each
        (see `Lake.rows`).
    most_waiting
        How many more may wait; others are refused.
    """

    def __init__(self, threads: int = _THREADS, most_waiting: int = _MOST_WAITING) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="history")
        self._turns = asyncio.Semaphore(threads)
        self._most = threads + most_waiting
        self._under_way = 0

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait for a query's turn, and have it.

        Raises
        ------
        MarketDataError
            OVERLOADED if too many wait.
        """
        if self._under_way >= self._most:
            raise MarketDataError(
                reasons.ERROR_REASON_OVERLOADED,
                "Too many queries of the past are under way. Try again in a second, and send fewer at once.",
                retry_after_s=1,
            )
        self._under_way += 1
        try:
            async with self._turns:
                yield
        finally:
            self._under_way -= 1

    async def run(self, dataset: str, work: Callable[[], T]) -> T:
        """Run work that blocks; return what it returns.

        Raises
        ------
        MarketDataError
            ARCHIVE_UNAVAILABLE if the lake fails.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except LakeError as error:
            raise archive_unavailable(dataset, str(error)) from error

    def close(self) -> None:
        """Take no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)
