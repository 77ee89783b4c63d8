"""A subscription that goes on by its cursor through whatever breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from marketdata.codec import decode_rows
from marketdata.columns import NANOS, Batch, Kind, from_message
from marketdata.errors import ApiError
from marketdata.query.v1.query_service_pb2 import SubscribeRequest, SubscribeResponse, SubscriptionStatus, Watermark
from marketdata.resuming import resuming
from marketdata.tokens import TokenSource
from marketdata.v1.batch_pb2 import TradeView
from marketdata.v1.gap_pb2 import Gap
from marketdata.v1.instrument_pb2 import Instrument
from marketdata.wire import parse

_METHOD: Final = "/marketdata.query.v1.QueryService/Subscribe"
_HEARTBEAT_S: Final = 2
_SILENCE_S: Final = 3 * _HEARTBEAT_S
"""A stream that is silent for this long, in seconds, is broken: watermarks come more often."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a subscription begins.

    Attributes
    ----------
    snapshot
        With the latest row of each symbol.
    cursor
        After this place; empty for now.
    time_ns
        With the first row that came to the tape at or after this time, in nanoseconds
        since the epoch; None for now.
    kinds
        The wanted kinds; empty for all.
    conflate_s
        Instead of every row: the newest of each instrument and kind, once in so many
        seconds, 0.01 to 60; None for every row.
    corrected
        Trades as they stand when they are sent (`TRADE_VIEW_CORRECTED`), not as they came.
    """

    snapshot: bool = False
    cursor: str = ""
    time_ns: int | None = None
    kinds: frozenset[Kind] = field(default_factory=frozenset)
    conflate_s: float | None = None
    corrected: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """One message of a subscription.

    Attributes
    ----------
    batches
        Rows, in the order of the tape.
    snapshot
        The latest rows of new symbols.
    cursor
        The place after all of this; empty where the message has none.
    status, watermark
        As in the proto; None where the message has none.
    gaps
        Gaps that opened or closed here, before the rows.
    folded_rows
        How many rows were folded into these, where the subscription is conflated.
    draining
        Whether the server is about to go; the subscriber connects again by itself.
    """

    batches: Sequence[Batch]
    snapshot: Sequence[Batch]
    cursor: str
    status: SubscriptionStatus | None
    watermark: Watermark | None
    gaps: Sequence[Gap] = ()
    folded_rows: int = 0
    draining: bool = False


class Subscriber:
    """Iterates over a subscription's updates, for ever; connects again by itself.

    After a break it goes on from the last cursor, so that each row comes once.

    Attributes
    ----------
    symbols
        The symbol of each instrument id that was told of.
    cursor
        The place after the last update.
    connections
        How many connections it took.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        tokens: TokenSource,
        dataset: str,
        symbols: Sequence[str] | None,
        start: Start,
    ) -> None:
        self._channel = channel
        self._tokens = tokens
        self._dataset = dataset
        self._wanted = symbols
        self._start = start
        self.symbols: dict[int, str] = {}
        self.cursor = start.cursor
        self.connections = 0

    def __aiter__(self) -> AsyncGenerator[Update]:
        """Yield updates.

        Raises
        ------
        ApiError
            If the server refuses for good.
        """
        return resuming(self._tokens, self._connection)

    async def _connection(self) -> AsyncGenerator[Update]:
        metadata = (("authorization", f"Bearer {await self._tokens.token()}"),)
        call: Any = self._channel.stream_stream(_METHOD, request_serializer=SubscribeRequest.SerializeToString)(
            metadata=metadata, wait_for_ready=True
        )
        self.connections += 1
        try:
            await call.write(self._request())
            while True:
                async with asyncio.timeout(_SILENCE_S):
                    data = await call.read()
                if data is grpc.aio.EOF:
                    raise ApiError(grpc.StatusCode.UNAVAILABLE, "the server ended the stream", "", {})
                rows = decode_rows(data)  # most messages have these alone
                if rows is not None:
                    batches, self.cursor = rows
                    yield Update(batches, (), self.cursor, None, None)
                    continue
                message = parse(SubscribeResponse, data)
                if message.HasField("token_expiring"):
                    fresh = SubscribeRequest.Reauthenticate(token=await self._tokens.renewed())
                    await call.write(SubscribeRequest(reauthenticate=fresh))
                if not message.HasField("end"):  # the status of the call says the same
                    yield self._update(message)
        except TimeoutError:
            raise ApiError(grpc.StatusCode.UNAVAILABLE, "the stream is silent", "", {}) from None
        finally:
            call.cancel()

    def _request(self) -> SubscribeRequest:
        start = SubscribeRequest.Start(dataset=self._dataset, kinds=[f"KIND_{kind.name}" for kind in self._start.kinds])
        start.heartbeat.seconds = _HEARTBEAT_S
        if self.cursor:
            start.cursor = self.cursor
        elif self._start.snapshot:
            start.snapshot = True
        elif self._start.time_ns is not None:
            start.time.FromNanoseconds(self._start.time_ns)
        if self._start.conflate_s is not None:
            start.conflate.FromNanoseconds(round(self._start.conflate_s * NANOS))
        if self._start.corrected:
            start.view = TradeView.TRADE_VIEW_CORRECTED
        if self._wanted is None:
            start.symbols.all = True
        else:
            start.symbols.symbols.extend(self._wanted)
        return SubscribeRequest(start=start)

    def _update(self, message: Any) -> Update:
        self._learn(message)
        # A status comes before its snapshot: who breaks off in between has to begin anew.
        snapshot_to_come = self._start.snapshot and not self.cursor
        if message.cursor and (message.batches or message.HasField("watermark") or not snapshot_to_come):
            self.cursor = message.cursor
        return Update(
            batches=[from_message(batch) for batch in message.batches],
            snapshot=[from_message(batch) for batch in message.snapshot],
            cursor=message.cursor,
            status=message.status if message.HasField("status") else None,
            watermark=message.watermark if message.HasField("watermark") else None,
            gaps=message.gaps,
            folded_rows=message.folded_rows,
            draining=message.draining,
        )

    def _learn(self, message: Any) -> None:
        instruments: Sequence[Instrument] = message.instruments
        self.symbols |= {instrument.instrument_id: instrument.symbol for instrument in instruments}
        if message.HasField("status"):
            known = (symbol for symbol in message.status.symbols if symbol.instrument_id)
            self.symbols |= {symbol.instrument_id: symbol.symbol for symbol in known}
