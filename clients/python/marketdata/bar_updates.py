"""Bars as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import grpc

from marketdata.query.v1.query_service_pb2 import StreamBarsRequest
from marketdata.query.v1.query_service_pb2_grpc import QueryServiceStub
from marketdata.resuming import resuming
from marketdata.tokens import TokenSource
from marketdata.v1.bar_pb2 import Bar


@dataclass(frozen=True, slots=True)
class BarUpdate:
    """Some bars.

    Attributes
    ----------
    bars
        By symbol's id and start. A bar that was told before takes the place of that: it has
        a greater `last_sequence`, or no rows any more.
    cursor
        The place to go on from later.
    """

    bars: Sequence[Bar]
    cursor: str


class BarUpdates:
    """Iterates over bars as they come; connects again by itself.

    After a break it goes on from the last cursor: no bar is missing. The newest may be
    told twice.

    Attributes
    ----------
    cursor
        The place after the last update.
    connections
        How many connections it took.
    """

    def __init__(self, channel: grpc.aio.Channel, tokens: TokenSource, request: StreamBarsRequest) -> None:
        self._query = QueryServiceStub(channel)
        self._tokens = tokens
        self._request = request
        self.cursor = request.cursor
        self.connections = 0

    def __aiter__(self) -> AsyncGenerator[BarUpdate]:
        """Yield updates for ever.

        Raises
        ------
        ApiError
            If the server refuses for good: RANGE_TOO_LARGE if more intervals have ended
            since the cursor than it tells.
        """
        return resuming(self._tokens, self._connection)

    async def _connection(self) -> AsyncGenerator[BarUpdate]:
        self._request.cursor = self.cursor
        metadata = (("authorization", f"Bearer {await self._tokens.token()}"),)
        call = self._query.StreamBars(self._request, metadata=metadata, wait_for_ready=True)
        self.connections += 1
        try:
            async for message in call:
                self.cursor = message.cursor or self.cursor
                if message.bars:
                    yield BarUpdate(message.bars, message.cursor)
        finally:
            call.cancel()
