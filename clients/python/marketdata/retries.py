"""Calls that are made again: within a time, with pauses that grow, and within a budget."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import grpc

from marketdata.errors import ApiError, api_error
from marketdata.tokens import TokenSource

T = TypeVar("T")

_RANDOM: Final = random.SystemRandom()
_FIRST_S: Final = 0.1
_MOST_S: Final = 2.0
_BUDGET: Final = 10.0
_PER_SUCCESS: Final = 0.1


class Retries:
    """Makes calls, and makes those again that failed in a way that may pass.

    A pause is twice as long as the one before, from 0.1 s to 2 s, and at least as long as
    the server asks for; each is cut at random by up to a half, so that clients do not come
    back in step. All calls share a budget of ten: a failure takes one from it, a success
    gives a tenth back, and while it is less than half full nothing is tried again. So a
    server that is down or overloaded is not buried under the same calls over and over.

    Parameters
    ----------
    tokens
        What the calls are made with.
    """

    def __init__(self, tokens: TokenSource) -> None:
        self._tokens = tokens
        self._budget = _BUDGET

    async def call(self, attempt: Callable[[str, float], Awaitable[T]], timeout_s: float) -> T:
        """Make a call, which must be one that may be made twice.

        Parameters
        ----------
        attempt
            Makes it, with a token, within so many seconds.
        timeout_s
            How long all attempts may take together, in seconds.

        Raises
        ------
        ApiError
            The newest failure.
        """
        deadline_s = time.monotonic() + timeout_s
        pause_s = _FIRST_S
        while True:
            began_s = time.monotonic()
            try:
                result = await attempt(await self._tokens.token(), max(deadline_s - time.monotonic(), 0.0))
            except grpc.aio.AioRpcError as error:
                failure = api_error(error)
            except ApiError as error:
                failure = error
            else:
                self._budget = min(_BUDGET, self._budget + _PER_SUCCESS)
                return result
            wait_s = max(pause_s * _RANDOM.uniform(0.5, 1.0), failure.retry_after_s or 0.0)
            if not self._again(failure, began_s) or time.monotonic() + wait_s >= deadline_s:
                raise failure
            await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, _MOST_S)

    def _again(self, failure: ApiError, began_s: float) -> bool:
        if failure.code is grpc.StatusCode.UNAUTHENTICATED:
            return self._tokens.refused(began_s)
        if not failure.transient:
            return False
        self._budget = max(0.0, self._budget - 1)
        return self._budget > _BUDGET / 2
