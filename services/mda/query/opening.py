"""How a subscription begins."""

from __future__ import annotations

from typing import Final

from marketdata.columns import Kind
from marketdata.query.v1.query_service_pb2 import SubscribeRequest
from marketdata.v1.batch_pb2 import TradeView
from mda.query.conflation import ConflatedSubscription
from mda.query.hub import Hub
from mda.query.selection import ALL_KINDS
from mda.query.subscription import Subscription
from mda.runtime.usage.account import Account

_HEARTBEAT_S: Final = 5.0


async def start_subscription(hub: Hub, start: SubscribeRequest.Start, account: Account | None = None) -> Subscription:
    """Return the subscription that a `start` asks for, with its first symbols.

    Raises
    ------
    MarketDataError
        For a cursor or a time that does not do; TOO_MANY_SYMBOLS.
    """
    position = await _position(hub, start)
    heartbeat_s = start.heartbeat.ToTimedelta().total_seconds() if start.HasField("heartbeat") else _HEARTBEAT_S
    kinds = frozenset(Kind(kind) for kind in start.kinds if kind) or ALL_KINDS
    corrected = start.view == TradeView.TRADE_VIEW_CORRECTED
    subscription = (
        ConflatedSubscription(
            hub,
            position,
            heartbeat_s,
            kinds,
            snapshot=start.snapshot,
            corrected=corrected,
            interval_s=start.conflate.ToTimedelta().total_seconds(),
        )
        if start.HasField("conflate")
        else Subscription(hub, position, heartbeat_s, kinds, snapshot=start.snapshot, corrected=corrected)
    )
    subscription.account = account
    await subscription.select(start.symbols, add=True, field="start")
    return subscription


async def _position(hub: Hub, start: SubscribeRequest.Start) -> int:
    match start.WhichOneof("at"):
        case "cursor":
            return await hub.place(start.cursor, "start.cursor")
        case "time":
            return await hub.place_at(start.time.ToNanoseconds(), "start.time")
        case _:
            return hub.head
