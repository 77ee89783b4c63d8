"""Bulk history: all rows of a time, in columns, in the order of the tape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc

from marketdata import frames
from marketdata.codec import decode_rows
from marketdata.columns import Batch, Kind, from_message
from marketdata.query.v1.query_service_pb2 import ScanRequest, ScanResponse
from marketdata.resuming import resuming
from marketdata.tables import Prices, pandas_of, polars_of
from marketdata.tokens import TokenSource
from marketdata.wire import parse

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

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

    After a break it goes on from the last cursor, so that each row comes once. `to_arrow`,
    `to_polars` and `to_pandas` read it to its end.

    Attributes
    ----------
    cursor
        The place after the last update.
    connections
        How many connections it took.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        tokens: TokenSource,
        request: ScanRequest,
        symbols: Callable[[str], Awaitable[Mapping[int, str]]],
    ) -> None:
        self._symbols = symbols
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

    async def to_arrow(self, *, prices: Prices = "float", symbols: Mapping[int, str] | None = None) -> pyarrow.Table:
        """Read all rows into an Arrow table. The messages' own memory is what the table has.

        Parameters
        ----------
        prices
            As in `Batch.to_arrow`.
        symbols
            The symbol of each instrument id; the server is asked where None. Without any, `{}`,
            there is no column of symbols.

        Raises
        ------
        ApiError
            If the server refuses for good.
        ImportError
            If pyarrow is not installed.
        ValueError
            If the scan is not of one kind: `scan(…, kinds=[Kind.QUOTE])`.
        """
        kinds = {Kind(value) for value in self._request.kinds}
        if len(kinds) != 1:
            raise ValueError("a table has rows of one kind: scan(…, kinds=[Kind.QUOTE])")
        batches: list[Batch] = []
        async with aclosing(aiter(self)) as updates:
            async for update in updates:
                batches += update.batches
        names = await self._symbols(self._request.dataset) if symbols is None else symbols
        return await asyncio.to_thread(frames.to_arrow, batches, kind=kinds.pop(), prices=prices, symbols=names or None)

    async def to_polars(
        self, *, prices: Prices = "float", symbols: Mapping[int, str] | None = None
    ) -> polars.DataFrame:
        """Read all rows into a Polars frame; otherwise as `to_arrow`."""
        return polars_of(await self.to_arrow(prices=prices, symbols=symbols))

    async def to_pandas(
        self, *, prices: Prices = "float", symbols: Mapping[int, str] | None = None
    ) -> pandas.DataFrame:
        """Read all rows into a pandas frame; otherwise as `to_arrow`."""
        return pandas_of(await self.to_arrow(prices=prices, symbols=symbols))

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
