"""Streams that go on through whatever breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

import grpc

from marketdata.backoff import Backoff
from marketdata.errors import ApiError, api_error
from marketdata.tokens import TokenSource

T = TypeVar("T")


async def resuming(tokens: TokenSource, connect: Callable[[], AsyncGenerator[T]]) -> AsyncGenerator[T]:
    """Yield what a stream gives until it ends well; after each break that may pass, connect again.

    Parameters
    ----------
    tokens
        What the stream connects with.
    connect
        Opens the stream, after what came last.

    Raises
    ------
    ApiError
        If the server refuses for good.
    """
    backoff = Backoff()
    while True:
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
        anew = failure.code is grpc.StatusCode.UNAUTHENTICATED and tokens.refused()
        if not anew and not failure.transient:
            raise failure
        await asyncio.sleep(backoff.next_s())
