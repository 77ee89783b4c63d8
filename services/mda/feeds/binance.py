"""Binance Spot: trades and best bids and offers, by websocket.

As documented in binance-spot-api-docs: combined streams, of which a connection lives for 24
hours at the most; trade ids without holes, by which missing trades are asked for over REST.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np

from marketdata.columns import Batch, Kind, make_batch
from marketdata.v1.batch_pb2 import Side
from marketdata.v1.instrument_pb2 import Instrument
from mda.feeds.rest import get
from mda.feeds.source import Alive, Connected, RefusedError, Rule, Source, SourceError, Standings, Update
from mda.feeds.texts import prices, sizes
from mda.feeds.websocket import Socket

URL: Final = "wss://stream.binance.com:9443"
REST_URL: Final = "https://api.binance.com"
STREAMS: Final[Mapping[Kind, str]] = {Kind.QUOTE: "bookTicker", Kind.TRADE: "trade"}
_PAGE: Final = 1_000
_MICRO: Final = 1_000


class Binance(Source):
    """Trades (`trade`) and quotes (`bookTicker`) of symbols.

    A trade's `sequence` is its id, which goes up by one. A quote's is the book's update id,
    which does not; quotes have no time of the venue, so that their `ts_event` is ours.

    Parameters
    ----------
    symbols
        As Binance spells them: `BTCUSDT`.
    kinds
        Which streams.
    url, rest_url
        Where the venue is.
    """

    name: ClassVar[str] = "binance"
    rules: Mapping[Kind, Rule] = {Kind.QUOTE: Rule.NONE, Kind.TRADE: Rule.CONTIGUOUS}

    def __init__(
        self,
        symbols: Sequence[str],
        kinds: Sequence[Kind] = tuple(STREAMS),
        *,
        url: str = URL,
        rest_url: str = REST_URL,
    ) -> None:
        self._symbols = [symbol.upper() for symbol in symbols]
        self._kinds = kinds
        self._url = url.rstrip("/")
        self._rest_url = rest_url.rstrip("/")

    async def instruments(self) -> list[Instrument]:
        """Return the symbols, with the price steps that `exchangeInfo` tells."""
        query = {"symbols": json.dumps(self._symbols, separators=(",", ":"))}
        told = (await get(f"{self._rest_url}/api/v3/exchangeInfo", query=query)).json()
        found = {info["symbol"]: _instrument(info) for info in told.get("symbols", ())}
        if missing := [symbol for symbol in self._symbols if symbol not in found]:
            raise RefusedError(f"Binance has no {', '.join(missing)}.")
        return [found[symbol] for symbol in self._symbols]

    async def updates(self, ids: Mapping[str, int], standings: Standings) -> AsyncGenerator[Update]:
        """Yield what comes over one connection."""
        del standings  # streams begin now; what is missing is asked for
        names = [f"{symbol.lower()}@{STREAMS[kind]}" for symbol in self._symbols for kind in self._kinds]
        async with Socket.open(f"{self._url}/stream?timeUnit=MICROSECOND") as socket:
            await socket.send({"method": "SUBSCRIBE", "params": names, "id": 1})
            async for burst in socket.bursts():
                now_ns = time.time_ns()
                events, connected, error = _sorted(burst)
                if connected:
                    yield Connected()
                for kind, found in events.items():
                    if found:
                        yield _BATCHES[kind](found, ids, now_ns)
                if error is not None:
                    raise error
                if not burst:
                    yield Alive()

    async def recover(self, kind: Kind, symbol: str, first: int, last: int, ids: Mapping[str, int]) -> Sequence[Batch]:
        """Return old trades, as `historicalTrades` has them."""
        if kind is not Kind.TRADE:
            return ()
        batches: list[Batch] = []
        while first <= last:
            query = {"symbol": symbol, "fromId": str(first), "limit": str(min(_PAGE, last - first + 1))}
            answer = await get(f"{self._rest_url}/api/v3/historicalTrades", query=query, headers=_MICROSECONDS)
            page = answer.json()
            if not isinstance(page, list) or not page:
                break
            names = {"t": "id", "p": "price", "q": "qty", "T": "time", "m": "isBuyerMaker"}
            events = [{"s": symbol, **{ours: row.get(theirs) for ours, theirs in names.items()}} for row in page]
            batches.append(_trades(events, ids, time.time_ns()))
            first = int(page[-1]["id"]) + 1
        return batches


_MICROSECONDS: Final = {"X-MBX-TIME-UNIT": "MICROSECOND"}


def _sorted(burst: list[Any]) -> tuple[dict[Kind, list[Any]], bool, SourceError | None]:
    """Return events by kind, whether the subscription is confirmed, and what breaks the connection after them."""
    events: dict[Kind, list[Any]] = {kind: [] for kind in (Kind.TRADE, Kind.QUOTE)}
    connected = False
    for message in burst:
        data = message.get("data", message)
        event = data.get("e")
        if event == "trade":
            events[Kind.TRADE].append(data)
        elif event is None and "u" in data:
            events[Kind.QUOTE].append(data)
        elif event == "serverShutdown":
            return events, connected, SourceError("Binance is about to shut this connection's server down")
        elif "error" in message or "code" in message:
            error = message.get("error", message)
            refusal = RefusedError(f"Binance refuses: {error.get('msg')} (code {error.get('code')})")
            return events, connected, refusal
        elif "result" in message and message.get("id") == 1:
            connected = True
    return events, connected, None


def _trades(events: Sequence[Any], ids: Mapping[str, int], now_ns: int) -> Batch:
    try:
        return make_batch(
            Kind.TRADE,
            {
                "instrument_id": [ids[event["s"]] for event in events],
                "ts_event": np.array([event["T"] for event in events], np.int64) * _MICRO,
                "ts_recv": np.full(len(events), now_ns),
                "sequence": [event["t"] for event in events],
                "price": prices([event["p"] for event in events]),
                "size": sizes([event["q"] for event in events]),
                # `m`: the buyer was the maker, so that the seller was the aggressor
                "side": [Side.SIDE_SELL if event["m"] else Side.SIDE_BUY for event in events],
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"a trade cannot be read: {error!r}") from error


def _quotes(events: Sequence[Any], ids: Mapping[str, int], now_ns: int) -> Batch:
    try:
        return make_batch(
            Kind.QUOTE,
            {
                "instrument_id": [ids[event["s"]] for event in events],
                "ts_event": np.full(len(events), now_ns),
                "ts_recv": np.full(len(events), now_ns),
                "sequence": [event["u"] for event in events],
                "bid_price": prices([event["b"] for event in events]),
                "bid_size": sizes([event["B"] for event in events]),
                "ask_price": prices([event["a"] for event in events]),
                "ask_size": sizes([event["A"] for event in events]),
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"a quote cannot be read: {error!r}") from error


_BATCHES: Final = {Kind.QUOTE: _quotes, Kind.TRADE: _trades}


def _instrument(info: Mapping[str, Any]) -> Instrument:
    filters = {found["filterType"]: found for found in info.get("filters", ())}
    step = prices([filters.get("PRICE_FILTER", {}).get("tickSize", "0")])
    words = f"Binance {info.get('baseAsset', '')}/{info.get('quoteAsset', '')}"
    return Instrument(symbol=info["symbol"], tick_size_nanos=int(step[0]), description=words)
