"""Coinbase Exchange: trades and best bids and offers, by websocket.

As documented for its Exchange WebSocket feed: the channels `matches`, `ticker` and
`heartbeat`. Trade ids go up by one for each product; a heartbeat tells the newest every
second, so that a trade that was lost at the end shows, too. Missing trades are asked for
over REST.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np

from marketdata.columns import Batch, Kind, make_batch
from marketdata.v1.batch_pb2 import Side
from marketdata.v1.instrument_pb2 import Instrument
from mda.feeds.rest import get
from mda.feeds.source import Alive, Connected, Newest, RefusedError, Rule, Source, SourceError, Standings, Update
from mda.feeds.texts import prices, sizes, times
from mda.feeds.websocket import Socket

URL: Final = "wss://ws-feed.exchange.coinbase.com"
REST_URL: Final = "https://api.exchange.coinbase.com"
CHANNELS: Final[Mapping[Kind, str]] = {Kind.QUOTE: "ticker", Kind.TRADE: "matches"}
_PAGE: Final = 1_000
_AGGRESSORS: Final = {"buy": Side.SIDE_SELL, "sell": Side.SIDE_BUY}
"""By the side of the maker, which is what trades tell."""


class Coinbase(Source):
    """Trades (`matches`) and quotes (`ticker`, which comes with each trade) of products.

    A trade's `sequence` is its trade id; a quote's is the product's sequence number, which
    other messages of the product take part in.

    Parameters
    ----------
    products
        As Coinbase spells them: `BTC-USD`.
    kinds
        Which channels.
    url, rest_url
        Where the venue is.
    """

    name: ClassVar[str] = "coinbase"
    rules: Mapping[Kind, Rule] = {Kind.QUOTE: Rule.RISING, Kind.TRADE: Rule.CONTIGUOUS}
    silence_s: float = 15.0  # heartbeats come every second

    def __init__(
        self,
        products: Sequence[str],
        kinds: Sequence[Kind] = tuple(CHANNELS),
        *,
        url: str = URL,
        rest_url: str = REST_URL,
    ) -> None:
        self._products = [product.upper() for product in products]
        self._kinds = kinds
        self._url = url
        self._rest_url = rest_url.rstrip("/")

    async def instruments(self) -> list[Instrument]:
        """Return the products, with the price steps that `/products/{id}` tells."""
        return [_instrument((await get(f"{self._rest_url}/products/{product}")).json()) for product in self._products]

    async def updates(self, ids: Mapping[str, int], standings: Standings) -> AsyncGenerator[Update]:
        """Yield what comes over one connection."""
        del standings  # channels begin now; what is missing is asked for
        channels = ["heartbeat", *(CHANNELS[kind] for kind in self._kinds)]
        async with Socket.open(self._url) as socket:
            await socket.send({"type": "subscribe", "product_ids": self._products, "channels": channels})
            newest: dict[str, int] = {}
            async for burst in socket.bursts():
                now_ns = time.time_ns()
                for update in _read(burst, ids, now_ns):
                    yield update
                if Kind.TRADE in self._kinds:
                    for update in _beats(burst, ids, newest):
                        yield update
                if all(message.get("type") == "heartbeat" for message in burst):
                    yield Alive()

    async def recover(self, kind: Kind, symbol: str, first: int, last: int, ids: Mapping[str, int]) -> Sequence[Batch]:
        """Return old trades, as `/products/{id}/trades` has them: page by page, into the past."""
        if kind is not Kind.TRADE:
            return ()
        batches: list[Batch] = []
        while first <= last:
            query = {"after": str(last + 1), "limit": str(min(_PAGE, last - first + 1))}
            page = (await get(f"{self._rest_url}/products/{symbol}/trades", query=query)).json()
            if not isinstance(page, list) or not page:
                break
            batches.append(_trades([{**row, "product_id": symbol} for row in reversed(page)], ids, time.time_ns()))
            last = min(int(row["trade_id"]) for row in page) - 1
        return batches[::-1]


def _read(burst: list[Any], ids: Mapping[str, int], now_ns: int) -> Iterator[Update]:
    """Yield what messages say, but for heartbeats.

    Raises
    ------
    SourceError
        If the venue tells of an error, after the messages before.
    RefusedError
        If it refuses the subscription.
    """
    error: SourceError | None = None
    trades: list[Any] = []
    tickers: list[Any] = []
    for message in burst:
        match message.get("type"):
            case "match" | "last_match":
                trades.append(message)
            case "ticker":
                tickers.append(message)
            case "subscriptions":
                yield Connected()
            case "error":
                told = f"Coinbase says: {message.get('message')}: {message.get('reason', '')}"
                error = RefusedError(told) if "subscribe" in told.lower() else SourceError(told)
                break
            case _:
                pass  # heartbeats, and what the venue may add at any time
    if trades:
        yield _trades(trades, ids, now_ns)
    if tickers:
        yield _quotes(tickers, ids, now_ns)
    if error is not None:
        raise error


def _beats(burst: list[Any], ids: Mapping[str, int], newest: dict[str, int]) -> Iterator[Newest]:
    """Yield, for each heartbeat, the newest trade that the one before it told of: that has come by now."""
    for message in burst:
        if message.get("type") != "heartbeat" or message.get("product_id") not in ids:
            continue
        product = message["product_id"]
        if known := newest.get(product):
            yield Newest(Kind.TRADE, ids[product], known)
        told = message.get("last_trade_id")
        newest[product] = told if isinstance(told, int) else 0


def _trades(messages: Sequence[Any], ids: Mapping[str, int], now_ns: int) -> Batch:
    try:
        return make_batch(
            Kind.TRADE,
            {
                "instrument_id": [ids[message["product_id"]] for message in messages],
                "ts_event": times([message["time"] for message in messages]),
                "ts_recv": np.full(len(messages), now_ns),
                "sequence": [int(message["trade_id"]) for message in messages],
                "price": prices([message["price"] for message in messages]),
                "size": sizes([message["size"] for message in messages]),
                "side": [_AGGRESSORS[message["side"]] for message in messages],
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"a trade cannot be read: {error!r}") from error


def _quotes(messages: Sequence[Any], ids: Mapping[str, int], now_ns: int) -> Batch:
    try:
        return make_batch(
            Kind.QUOTE,
            {
                "instrument_id": [ids[message["product_id"]] for message in messages],
                "ts_event": times([message["time"] for message in messages]),
                "ts_recv": np.full(len(messages), now_ns),
                "sequence": [int(message["sequence"]) for message in messages],
                "bid_price": prices([message["best_bid"] for message in messages]),
                "bid_size": sizes([message.get("best_bid_size") for message in messages]),
                "ask_price": prices([message["best_ask"] for message in messages]),
                "ask_size": sizes([message.get("best_ask_size") for message in messages]),
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"a quote cannot be read: {error!r}") from error


def _instrument(product: Mapping[str, Any]) -> Instrument:
    step = prices([product.get("quote_increment", "0")])
    return Instrument(
        symbol=product["id"], tick_size_nanos=int(step[0]), description=f"Coinbase {product.get('display_name', '')}"
    )
