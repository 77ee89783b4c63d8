"""The asyncio client: one connection to the gateway."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self
from urllib.parse import urlsplit

import grpc

from marketdata.cursors import CursorStore
from marketdata.delivery import SAVE_EVERY_S, Delivery
from marketdata.errors import ApiError
from marketdata.history import History
from marketdata.publisher import AckLevel, Publisher
from marketdata.quality import Quality
from marketdata.query.v1.query_service_pb2 import Watermark
from marketdata.spool import Spool
from marketdata.subscriber import Start, Subscriber
from marketdata.tokens import TokenSource
from marketdata.v1.gap_pb2 import Gap

CHANNEL_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # How long a connection may take to come about. A busy gateway needs more than a second for a TLS handshake, and
    # whoever gives up before only gives it another one to do.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 8 << 20),
    # A replay fills what one stream may have under way; 64 KiB would make it wait at each message.
    ("grpc.http2.lookahead_bytes", 4 << 20),
)


class Client(History, Quality):
    """A client of the market-data API. Make it with `connect`."""

    def __init__(self, channel: grpc.aio.Channel, api_key: str) -> None:
        super().__init__(channel, TokenSource(channel, api_key))

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str | None = None, api_key: str | None = None, *, root_certificates: bytes | None = None
    ) -> AsyncGenerator[Self]:
        """Connect to a gateway.

        Parameters
        ----------
        url
            `http://host:port` or `https://host:port`; that of the environment, MDA_URL, where
            None.
        api_key
            `<id>.<secret>`; that of the environment, MDA_API_KEY, where None.
        root_certificates
            The CA to trust for https, in PEM; the system's where None.
        """
        url = url or _from_environment("MDA_URL")
        api_key = api_key or _from_environment("MDA_API_KEY")
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise ValueError(f"not a URL such as http://127.0.0.1:8080: {url!r}")
        target = parts.netloc if parts.port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"
        if parts.scheme == "https":
            credentials = grpc.ssl_channel_credentials(root_certificates)
            channel = grpc.aio.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
        else:
            channel = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        async with channel:
            yield cls(channel, api_key)

    async def token(self) -> str:
        """Return a token that is good for another while."""
        return await self._tokens.token()

    @asynccontextmanager
    async def publisher(
        self, dataset: str, producer: str, *, ack_level: AckLevel = AckLevel.DURABLE, spool: Spool | None = None
    ) -> AsyncGenerator[Publisher]:
        """Open a publisher; at the end, wait until all it was given is acknowledged.

        Parameters
        ----------
        dataset
            Where to publish.
        producer
            A name of its own in the dataset. One that was used before goes on from where
            it stands.
        ack_level
            How safe a batch must be before it is acknowledged: DURABLE; VISIBLE, once it is
            in the lake, too; or ACCEPTED, where what was acknowledged a moment before the
            server is killed may be lost.
        spool
            A file for what is not acknowledged yet, so that it outlives the process: it is
            sent when the next one opens with the same file. Not with ACCEPTED.

        Raises
        ------
        SpoolError
            If the spool cannot be used.
        """
        opened = Publisher.open(self._channel, self._tokens, dataset, producer, ack_level=ack_level, spool=spool)
        async with opened as publisher:
            yield publisher

    def subscribe(
        self,
        dataset: str,
        symbols: Sequence[str] | None = None,
        start: Start | None = None,
        *,
        store: CursorStore | None = None,
        name: str | None = None,
        save_every_s: float = SAVE_EVERY_S,
        on_gap: Callable[[Gap], object] | None = None,
        on_watermark: Callable[[Watermark], object] | None = None,
        on_break: Callable[[ApiError], object] | None = None,
        patience_s: float | None = None,
        digest: bool = False,
    ) -> Subscriber:
        """Return a subscription, to iterate over.

        Parameters
        ----------
        dataset
            What to subscribe to.
        symbols
            Which symbols; None for all.
        start
            Where to begin; now, where None. A store that has a cursor wins over all but a
            cursor that is given here.
        store
            Where to keep the cursor: the same subscription goes on from it in another
            process. `marketdata.cursors` tells what that promises.
        name
            What the subscription is called in the store; as the dataset, where None. Two
            subscriptions to one dataset need two names.
        save_every_s
            How often the cursor is saved at the most, in seconds; 0 for after each update.
        on_gap
            Called with each gap that opens or closes, before the rows after it come.
        on_watermark
            Called with each watermark, every two seconds: how many rows came, and how far
            the subscription lags.
        on_break
            Called with each error after which the subscription connects again.
        patience_s
            How long to try to connect, in seconds, until the error comes out; for ever,
            where None.
        digest
            Whether to add up the digest of the rows, so that `Subscriber.verify` can prove
            that they are those of the tape.
        """
        delivery = Delivery(
            store=store,
            name=name or dataset,
            save_every_s=save_every_s,
            on_gap=on_gap,
            on_watermark=on_watermark,
            digest=digest,
        )
        return Subscriber(
            self._channel, self._tokens, dataset, symbols, start or Start(), delivery, patience_s, on_break
        )


def _from_environment(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ValueError(f'{name} is not set: give it to connect, or eval "$(mda env)"')
    return value
