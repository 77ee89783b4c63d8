"""The asyncio client: one connection to the gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self
from urllib.parse import urlsplit

import grpc

from marketdata.history import PAGE, History
from marketdata.ingestion.v1.ingestion_service_pb2 import ListInstrumentsRequest, PutInstrumentsRequest
from marketdata.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from marketdata.publisher import AckLevel, Publisher
from marketdata.subscriber import Start, Subscriber
from marketdata.tokens import TokenSource
from marketdata.v1.instrument_pb2 import Instrument

CHANNEL_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 8 << 20),
    # A replay fills what one stream may have under way; 64 KiB would make it wait at each message.
    ("grpc.http2.lookahead_bytes", 4 << 20),
)


class Client(History):
    """A client of the market-data API. Make it with `connect`."""

    def __init__(self, channel: grpc.aio.Channel, api_key: str) -> None:
        super().__init__(channel, TokenSource(channel, api_key))
        self._ingestion = IngestionServiceStub(channel)

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, api_key: str, *, root_certificates: bytes | None = None) -> AsyncGenerator[Self]:
        """Connect to a gateway.

        Parameters
        ----------
        url
            `http://host:port` or `https://host:port`.
        api_key
            `<id>.<secret>`.
        root_certificates
            The CA to trust for https, in PEM; the system's where None.
        """
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

    async def put_instruments(self, dataset: str, instruments: Iterable[Instrument]) -> list[Instrument]:
        """Add or change instruments; return them with their ids.

        Raises
        ------
        ApiError
            If the server refuses.
        """
        wanted = list(instruments)
        result: list[Instrument] = []
        for start in range(0, len(wanted), 1000):
            request = PutInstrumentsRequest(dataset=dataset, instruments=wanted[start : start + 1000])
            result += (await self._call(self._ingestion.PutInstruments, request)).instruments
        return result

    async def list_instruments(self, dataset: str) -> list[Instrument]:
        """Return all instruments of a dataset, by id.

        Raises
        ------
        ApiError
            If the server refuses.
        """
        result: list[Instrument] = []
        token = ""
        while True:
            request = ListInstrumentsRequest(dataset=dataset, page_size=PAGE, page_token=token)
            page = await self._call(self._ingestion.ListInstruments, request)
            result += page.instruments
            token = page.next_page_token
            if not token:
                return result

    async def token(self) -> str:
        """Return a token that is good for another while."""
        return await self._tokens.token()

    @asynccontextmanager
    async def publisher(
        self, dataset: str, producer: str, *, ack_level: AckLevel = AckLevel.DURABLE
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
        """
        opened = Publisher.open(self._channel, self._tokens, dataset, producer, ack_level=ack_level)
        async with opened as publisher:
            yield publisher

    def subscribe(self, dataset: str, symbols: Sequence[str] | None = None, start: Start | None = None) -> Subscriber:
        """Return a subscription, to iterate over.

        Parameters
        ----------
        dataset
            What to subscribe to.
        symbols
            Which symbols; None for all.
        start
            Where to begin; now, where None.
        """
        return Subscriber(self._channel, self._tokens, dataset, symbols, start or Start())
