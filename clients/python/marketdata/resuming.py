"""Streams that go on through whatever breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

import grpc

from marketdata.backoff import Backoff
from marketdata.errors import ApiError, api_error
from marketdata.tokens import TokenSource

T = TypeVar("T")


async def resuming(
    tokens: TokenSource,
    connect: Callable[[], AsyncGenerator[T]],
    *,
    patience_s: float | None = None,
    on_break: Callable[[ApiError], object] | None = None,
) -> AsyncGenerator[T]:
    """Yield what a stream gives until it ends well; after each break that may pass, connect again.

    Parameters
    ----------
    tokens
        What the stream connects with.
    connect
        Opens the stream, after what came last.
    patience_s
        How long to try without anything coming, in seconds, until the error comes out; for
        ever, where None.
    on_break
        Called with each error after which it goes on.

    Raises
    ------
    ApiError
        If the server refuses for good, or patience ends.
    """
    backoff = Backoff()
    while True:
        began_s = time.monotonic()
        try:
            async with aclosing(connect()) as items:
                async for item in items:
                    backoff.reset()
                    yield item
        except grpc.aio.AioRpcError as error:
            failure = api_error(error)
        except ApiError as error:
            failure = error
        else:
            return
        anew = failure.code is grpc.StatusCode.UNAUTHENTICATED and tokens.refused(began_s)
        if not anew and not failure.transient:
            raise failure
        wait_s = max(backoff.next_s(), failure.retry_after_s or 0.0)
        if patience_s is not None and backoff.failing_s + wait_s > patience_s:
            raise failure
        if on_break is not None:
            on_break(failure)
        await asyncio.sleep(wait_s)
