"""A subscription that goes on by its cursor through whatever breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from marketdata.codec import decode_rows
from marketdata.columns import NANOS, Batch, Kind, from_message
from marketdata.delivery import Delivery, DigestMismatchError
from marketdata.digest import Digest
from marketdata.errors import ApiError, error_of
from marketdata.history import History
from marketdata.query.v1.query_service_pb2 import SubscribeRequest, SubscribeResponse, SubscriptionStatus, Watermark
from marketdata.resuming import resuming
from marketdata.tokens import TokenSource
from marketdata.v1.batch_pb2 import TradeView
from marketdata.v1.gap_pb2 import Gap
from marketdata.v1.instrument_pb2 import Instrument
from marketdata.wire import parse

_METHOD: Final = "/marketdata.query.v1.QueryService/Subscribe"
_HEARTBEAT_S: Final = 2
_SILENCE_S: Final = 3.0 * _HEARTBEAT_S
"""A stream that is silent for this long, in seconds, is broken: watermarks come more often."""
_ANSWER_MOST_S: Final = 30.0
"""How long the first message may take where it did not come in time before: a server that is short of time must not be
asked anew, by all its readers, whenever it is about to answer."""


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
        The place after all of this, to go on from; empty where there is none, as between a
        status and its snapshot.
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

    After a break it goes on from the last cursor, so that each row comes once. Made by
    `Client.subscribe`.

    Attributes
    ----------
    delivery
        Account of what was given out, with its digest.
    began
        The place after which its rows begin; empty before the first update.
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
        delivery: Delivery | None = None,
        patience_s: float | None = None,
        on_break: Callable[[ApiError], object] | None = None,
    ) -> None:
        self._channel = channel
        self._tokens = tokens
        self._dataset = dataset
        self._wanted = symbols
        self._start = start
        self._patience_s = patience_s
        self._on_break = on_break
        self.delivery = delivery or Delivery()
        self.began = start.cursor
        self.symbols: dict[int, str] = {}
        self.cursor = start.cursor
        self.connections = 0
        self._answer_s = _SILENCE_S

    def __aiter__(self) -> AsyncGenerator[Update]:
        """Yield updates.

        Raises
        ------
        ApiError
            If the server refuses for good, or patience ends.
        """
        return self._delivered()

    async def _delivered(self) -> AsyncGenerator[Update]:
        delivery = self.delivery
        self.resume_from(await asyncio.to_thread(delivery.load))
        try:
            async with aclosing(self.undelivered()) as updates:
                async for update in updates:
                    delivery.give(update)
                    yield update
                    if delivery.done():
                        await asyncio.to_thread(delivery.save)
        finally:
            delivery.save()

    def undelivered(self) -> AsyncGenerator[Update]:
        """Yield updates that whoever gives them out takes account of himself, in another thread for example."""
        return resuming(self._tokens, self._connection, patience_s=self._patience_s, on_break=self._on_break)

    def go_back(self) -> None:
        """Go on after the newest update that was given: what was fetched ahead of it comes again."""
        self.cursor = self.delivery.cursor or self._start.cursor

    def resume_from(self, cursor: str) -> None:
        """Go on after a place, if one is given and `Start` had none."""
        if cursor and not self.cursor:
            self.cursor = self.began = cursor

    async def commit(self) -> None:
        """Save the cursor now: what was given so far has been worked through."""
        self.delivery.done()
        await asyncio.to_thread(self.delivery.save)

    async def verify(self) -> Digest:
        """Prove that the rows that were given so far are those on the tape, each once; return their digest.

        Raises
        ------
        DigestMismatchError
            If they are not.
        ValueError
            If no digest was added up: `subscribe(..., digest=True)` does.
        ApiError
            If the server does not tell that of the tape.
        """
        received, until = self.delivery.digest, self.delivery.cursor
        if received is None or self._start.conflate_s is not None or self._start.corrected:
            raise ValueError("only every row as it came can be verified: subscribe(..., digest=True), not conflated")
        if not until:
            return received  # nothing came yet
        history = History(self._channel, self._tokens)
        on_tape, _ = await history.digest(
            self._dataset, symbols=self._wanted, kinds=self._start.kinds, after=self.began, until=until
        )
        if on_tape != received:
            raise DigestMismatchError(received, on_tape)
        return received

    async def _connection(self) -> AsyncGenerator[Update]:
        metadata = (("authorization", f"Bearer {await self._tokens.token()}"),)
        call: Any = self._channel.stream_stream(_METHOD, request_serializer=SubscribeRequest.SerializeToString)(
            metadata=metadata, wait_for_ready=True
        )
        self.connections += 1
        if not self.cursor:
            self.began = ""
        limit_s, answered = self._answer_s, False
        try:
            await call.write(self._request())
            while True:
                async with asyncio.timeout(limit_s):
                    data = await call.read()
                limit_s = self._answer_s = _SILENCE_S
                answered = True
                if data is grpc.aio.EOF:
                    raise error_of(grpc.StatusCode.UNAVAILABLE, "the server ended the stream")
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
            if not answered:
                self._answer_s = min(2 * self._answer_s, _ANSWER_MOST_S)
            raise error_of(grpc.StatusCode.UNAVAILABLE, "the stream is silent") from None
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
        cursor = "" if snapshot_to_come and not (message.batches or message.HasField("watermark")) else message.cursor
        self.cursor = cursor or self.cursor
        self.began = self.began or message.cursor
        return Update(
            batches=[from_message(batch) for batch in message.batches],
            snapshot=[from_message(batch) for batch in message.snapshot],
            cursor=cursor,
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
