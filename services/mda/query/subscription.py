"""A subscription in columns: `Subscribe`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from marketdata.columns import NANOS, Batch, Kind
from marketdata.query.v1.query_service_pb2 import (
    SubscribeRequest,
    SubscribeResponse,
    SubscriptionStatus,
    SymbolSelection,
    SymbolStatus,
    TokenExpiry,
    Watermark,
)
from marketdata.v1.gap_pb2 import Gap
from mda.market.errors import invalid_field
from mda.market.rows import timestamp
from mda.query.hub import Hub
from mda.query.latest import split
from mda.query.ring import Piece, ReadEntry
from mda.query.selection import select
from mda.query.stream import Stream, serialize
from mda.tape.payload import encode_snapshot

_MAX_WAITING_CHANGES: Final = 16
_INSTRUMENTS_AT_ONCE: Final = 5_000

_SUBSCRIBED: Final = SymbolStatus.STATE_SUBSCRIBED
_UNSUBSCRIBED: Final = SymbolStatus.STATE_UNSUBSCRIBED
_UNKNOWN: Final = SymbolStatus.STATE_UNKNOWN_SYMBOL


@dataclass(frozen=True, slots=True)
class Change:
    """A change to the selection, with its symbols looked up."""

    add: bool
    all: bool
    symbols: Sequence[str]
    ids: Sequence[int | None]

    @property
    def known(self) -> frozenset[int]:
        """The ids of the symbols that there are."""
        return frozenset(found for found in self.ids if found is not None)


class Subscription(Stream):
    """A subscription: a stream whose selection changes while it runs.

    Parameters
    ----------
    hub, position, heartbeat_s, corrected
        As in `Stream`.
    kinds
        The wanted kinds.
    snapshot
        Whether each new symbol begins with its latest row.
    """

    def __init__(
        self,
        hub: Hub,
        position: int,
        heartbeat_s: float,
        kinds: frozenset[Kind],
        *,
        snapshot: bool,
        corrected: bool = False,
    ) -> None:
        super().__init__(hub, position, heartbeat_s, corrected=corrected and Kind.TRADE in kinds)
        self._selection = select(kinds=kinds)
        self._snapshot = snapshot
        self._changes: deque[Change] = deque()
        self._room = asyncio.Event()
        self._room.set()
        self._told = 0

    async def change(self, request: SubscribeRequest) -> None:
        """Take a `subscribe` or `unsubscribe`; wait while many wait to take effect.

        Raises
        ------
        MarketDataError
            INVALID_FIELD for an unsubscription that cannot be; TOO_MANY_SYMBOLS.
        """
        field = request.WhichOneof("message") or "message"
        if field not in {"subscribe", "unsubscribe"}:
            raise invalid_field(field, "turn", f"{field}: after `start`, send `subscribe` or `unsubscribe`.")
        await self.select(getattr(request, field), add=field == "subscribe")

    def tell_expiry(self, expires_s: float) -> None:
        """Tell the reader when its token ends, in seconds since the epoch."""
        expiry = TokenExpiry(expire_time=timestamp(int(expires_s * NANOS)))
        self._outbox.append(serialize(SubscribeResponse(token_expiring=expiry)))
        self._stir()

    async def select(self, symbols: SymbolSelection, *, add: bool, field: str = "subscribe") -> None:
        """Add symbols, or take them away, as a field of the request says; the answer comes among the messages."""
        await self._room.wait()
        if not add and not symbols.all and self._selection.ids is None:
            raise invalid_field(
                "unsubscribe.symbols",
                "all",
                "unsubscribe.symbols: the subscription is on all symbols. Unsubscribe all.",
            )
        ids = await self.hub.find_symbols(symbols.symbols)
        change = Change(add, symbols.all, symbols.symbols, ids)
        if add and self.account is not None:
            self.account.require_symbols(self._count_with(change), f"{field}.symbols")
        self._changes.append(change)
        if len(self._changes) >= _MAX_WAITING_CHANGES:
            self._room.clear()
        self._stir()

    def _count_with(self, change: Change) -> int:
        """Return how many symbols there will be once a change, and those that wait, have taken effect."""
        ids = self._selection.ids
        for waiting in (*self._changes, change):
            ids = _changed(ids, waiting)
        return len(self.hub.directory if ids is None else ids)

    def farewell(self) -> bytes:
        """Return the message that tells that the server is about to go."""
        return serialize(SubscribeResponse(draining=True, cursor=self.cursor))

    def _prepare(self) -> None:
        if not self._outbox:
            self._prepare_next()
        if self._changes:
            self._stirred = True

    def _prepare_next(self) -> None:
        # A snapshot is of the tape's head: it may only be given to a reader who is there.
        if self._changes and (self.position >= self.hub.head or not self._snapshot or not self._changes[0].add):
            self._apply(self._changes.popleft())
            self._room.set()
        if self._selection.ids is None:
            self._tell_instruments()

    def _apply(self, change: Change) -> None:
        before = self._selection
        ids = _changed(before.ids, change)
        self._selection = select(ids, before.kinds)
        self._outbox.append(serialize(SubscribeResponse(status=self._status(change), cursor=self.cursor)))
        if self._snapshot and change.add and before.ids is not None:
            if ids is None:
                self._tell_instruments()
            self._send_snapshot(None if ids is None else sorted(ids - before.ids))

    def _status(self, change: Change) -> SubscriptionStatus:
        done = _SUBSCRIBED if change.add else _UNSUBSCRIBED
        ids = self._selection.ids
        return SubscriptionStatus(
            symbols=[
                SymbolStatus(symbol=symbol, state=_UNKNOWN if found is None else done, instrument_id=found or 0)
                for symbol, found in zip(change.symbols, change.ids, strict=True)
            ],
            all=ids is None,
            subscribed_count=0 if ids is None else len(ids),
        )

    def _tell_instruments(self) -> None:
        while self._told < len(self.hub.directory):
            instruments = self.hub.directory.page(self._told, _INSTRUMENTS_AT_ONCE)
            self._told += len(instruments)
            self._outbox.append(serialize(SubscribeResponse(instruments=instruments)))

    def _send_snapshot(self, ids: Sequence[int] | None) -> None:
        for kind in sorted(self._selection.kinds):
            latest = self.hub.latest_rows(kind, ids, corrected=self._corrected is not None)
            for part in split(latest) if latest is not None else ():
                self.snapshot_rows += part.rows
                self._outbox.append(encode_snapshot(part))

    def _piece(self, entry: ReadEntry) -> Piece:
        return entry.columns(self._selection, self._corrections)

    def _standing(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """Return rows as the reader wants to be told them."""
        corrections = self._corrections
        return batches if corrections is None else corrections.apply_to(batches)

    def _gap_message(self, gap: Gap) -> bytes:
        return serialize(SubscribeResponse(gaps=[gap], cursor=self.cursor))

    def _watermark_message(self, watermark: Watermark) -> bytes:
        return serialize(SubscribeResponse(watermark=watermark, cursor=self.cursor))


def _changed(ids: frozenset[int] | None, change: Change) -> frozenset[int] | None:
    """Return the instruments of a selection after a change; None for all."""
    if change.all:
        return None if change.add else frozenset[int]()
    if ids is None:
        return None
    return ids | change.known if change.add else ids - change.known
