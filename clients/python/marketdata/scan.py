"""Bulk history: all rows of a time, in columns, in the order of the tape."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc

from marketdata.codec import decode_rows
from marketdata.columns import Batch, from_message
from marketdata.query.v1.query_service_pb2 import ScanRequest, ScanResponse
from marketdata.resuming import resuming
from marketdata.tokens import TokenSource
from marketdata.wire import parse

_METHOD: Final = "/marketdata.query.v1.QueryService/Scan"


@dataclass(frozen=True, slots=True)
class ScanUpdate:
    """One message of a scan.

    Attributes
    ----------
    batches
        Rows, in the order of the tape.
    cursor
        The place after them.
    """

    batches: Sequence[Batch]
    cursor: str


class Scan:
    """Iterates over the rows of a scan, once; connects again by itself.

    After a break it goes on from the last cursor, so that each row comes once.

    Attributes
    ----------
    cursor
        The place after the last update.
    connections
        How many connections it took.
    """

    def __init__(self, channel: grpc.aio.Channel, tokens: TokenSource, request: ScanRequest) -> None:
        self._channel = channel
        self._tokens = tokens
        self._request = request
        self.cursor = request.cursor
        self.connections = 0

    def __aiter__(self) -> AsyncGenerator[ScanUpdate]:
        """Yield updates until all rows came.

        Raises
        ------
        ApiError
            If the server refuses for good.
        """
        return resuming(self._tokens, self._connection)

    async def _connection(self) -> AsyncGenerator[ScanUpdate]:
        self._request.cursor = self.cursor
        metadata = (("authorization", f"Bearer {await self._tokens.token()}"),)
        method: Any = self._channel.unary_stream(_METHOD, request_serializer=ScanRequest.SerializeToString)
        call: Any = method(self._request, metadata=metadata, wait_for_ready=True)
        self.connections += 1
        try:
            while (data := await call.read()) is not grpc.aio.EOF:
                update = _update(data)
                self.cursor = update.cursor
                yield update
        finally:
            call.cancel()


def _update(data: bytes) -> ScanUpdate:
    rows = decode_rows(data)
    if rows is not None:
        return ScanUpdate(*rows)
    message = parse(ScanResponse, data)
    return ScanUpdate([from_message(batch) for batch in message.batches], message.cursor)
