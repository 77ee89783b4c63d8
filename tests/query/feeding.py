"""Hubs, what feeds them, and readers of their streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.client import Client

from marketdata.columns import Batch, from_message
from marketdata.query.v1.query_service_pb2 import SubscribeRequest, SubscribeResponse
from marketdata.v1.gap_pb2 import Gap
from marketdata.v1.instrument_pb2 import Instrument
from marketdata.wire import parse
from mda.ingestion.appender import Appender
from mda.query.hub import Hub
from mda.query.opening import start_subscription
from mda.query.subscription import Subscription
from mda.tape.payload import encode_gaps, encode_payload
from mda.tape.tape import Entry, InstrumentLog, Retention, Tape
from tests.tape.helpers import eventually, new_name, rows_of, running


class Feed:
    """Writes entries and instruments of one dataset, as ingestion does."""

    def __init__(self, client: Client, dataset: str) -> None:
        self.dataset = dataset
        self.client = client
        self.tape = Tape(client, dataset)
        self._instruments = InstrumentLog(client, dataset)
        self._symbols: list[str] = []
        self._version = 0
        self._appender = Appender(self.tape, "feed")
        self._number = 0

    async def create(self, *symbols: str, max_bytes: int = 1 << 26, keep_s: float | None = None) -> None:
        retention = Retention(max_bytes, 1, keep_s)
        await self.tape.create(retention)
        await self._instruments.create(retention)
        await self.put(*symbols)

    async def put(self, *symbols: str) -> None:
        """Add instruments."""
        ids = range(len(self._symbols) + 1, len(self._symbols) + len(symbols) + 1)
        added = [Instrument(instrument_id=i, symbol=symbol) for i, symbol in zip(ids, symbols, strict=True)]
        directory: Any = type("Place", (), {"version": self._version})
        self._version = await self._instruments.append(added, directory)
        self._symbols += symbols

    async def write(self, *batches: Batch, gaps: Sequence[Gap] = ()) -> int:
        """Append an entry; return its place."""
        self._number += 1
        entry = Entry(self._number, self._number, self._version, encode_gaps(gaps) + encode_payload(batches))
        return await self._appender.append(entry)


async def make_feed(client: Client, *symbols: str, **options: Any) -> Feed:
    feed = Feed(client, new_name("Q"))
    await feed.create(*(symbols or ("A", "B", "C")), **options)
    return feed


async def deletable_feed(client: Client) -> Feed:
    """Return a feed whose tape lets entries be deleted, as none that we make does."""
    feed = await make_feed(client)
    jetstream = client.jetstream()
    config = (await jetstream.stream_info(feed.tape._log.stream)).config
    await jetstream.delete_stream(config.name or "")
    config.deny_delete = False
    await jetstream.add_stream(config)
    return feed


@asynccontextmanager
async def opened(feed: Feed, *, ring_bytes: int = 1 << 20, ticks: bool = False) -> AsyncIterator[Hub]:
    """Open a hub and run it; it has taken in what is there."""
    hub = Hub(feed.client, feed.dataset, ring_bytes)
    await hub.open()
    async with running(hub.run(), *([hub.tick()] if ticks else [])):
        await hub.ready()
        yield hub


async def subscribe(hub: Hub, symbols: Sequence[str] | None = None, **start: Any) -> Subscription:
    """Start a subscription, by default on all symbols."""
    selection = {"all": True} if symbols is None else {"symbols": symbols}
    return await start_subscription(hub, SubscribeRequest.Start(dataset=hub.dataset, symbols=selection, **start))


class Reader:
    """Reads a subscription, and notes what comes."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.data: list[bytes] = []
        self.messages: list[SubscribeResponse] = []
        self.rows: list[int] = []
        self.snapshot: list[int] = []
        self.go = asyncio.Event()
        self.go.set()

    async def run(self) -> None:
        await self.subscription.send(self._write)

    async def _write(self, data: bytes) -> None:
        await self.go.wait()
        self.take(data)

    def take(self, data: bytes) -> SubscribeResponse:
        """Note one message."""
        message = parse(SubscribeResponse, data)
        self.data.append(data)
        self.messages.append(SubscribeResponse.FromString(data))
        self.rows += rows_of([from_message(batch) for batch in message.batches])
        self.snapshot += rows_of([from_message(batch) for batch in message.snapshot])
        return self.messages[-1]

    @property
    def cursor(self) -> str:
        """The newest cursor."""
        return next(message.cursor for message in reversed(self.messages) if message.cursor)

    async def until(self, condition: Callable[[], bool], within_s: float = 30.0) -> None:
        await eventually(condition, within_s=within_s)


@asynccontextmanager
async def reading(hub: Hub, symbols: Sequence[str] | None = None, **start: Any) -> AsyncIterator[Reader]:
    """Subscribe and read beside the body; what the stream raises comes out."""
    reader = Reader(await subscribe(hub, symbols, **start))
    async with running(reader.run()):
        yield reader
