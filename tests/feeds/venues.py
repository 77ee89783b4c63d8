"""Local servers that speak as venues do, over real sockets: what they send is what the venues' documents show."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import nats
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from marketdata.columns import Batch, Kind
from marketdata.v1.gap_pb2 import Gap
from mda.tape.payload import decode_payload, split_payload
from mda.tape.tape import Tape

CUT = "cut"
"""Instead of a message: the connection is cut, without a word."""
CLOSE = "close"
"""Instead of a message: the connection is closed, as after 24 hours."""
PING = "ping"
"""Instead of a message: a ping, whose pong must come."""


@dataclass
class Venue:
    """A websocket server; each connection plays the next script, and stays open after it.

    Attributes
    ----------
    scripts
        For each connection what is sent after the subscription.
    answer
        Makes the answers to the subscription.
    subscriptions
        The subscriptions that came.
    """

    scripts: list[list[Any]]
    answer: Callable[[Any], Sequence[Any]]
    url: str = ""
    paths: list[str] = field(default_factory=list)
    subscriptions: list[Any] = field(default_factory=list)
    pongs: int = 0

    async def serve_one(self, connection: ServerConnection) -> None:
        script = self.scripts[min(len(self.subscriptions), len(self.scripts) - 1)]
        assert connection.request is not None
        self.paths.append(connection.request.path)
        with suppress(ConnectionClosed):
            subscription = json.loads(await connection.recv())
            self.subscriptions.append(subscription)
            for message in self.answer(subscription):
                await connection.send(json.dumps(message))
            for message in script:
                await self._play(connection, message)
            await connection.wait_closed()

    async def _play(self, connection: ServerConnection, message: Any) -> None:
        if message == CUT:
            connection.transport.abort()
            await connection.wait_closed()
        elif message == CLOSE:
            await connection.close(1008, "disconnected")
        elif message == PING:
            await (await connection.ping(b"1694000000"))
            self.pongs += 1
        else:
            await connection.send(json.dumps(message))


@asynccontextmanager
async def running(venue: Venue) -> AsyncIterator[Venue]:
    """Run a venue on a free port."""
    async with serve(venue.serve_one, "127.0.0.1", 0, ping_interval=None) as server:
        venue.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield venue


Answer = tuple[int, dict[str, str], bytes]
Respond = Callable[[str, dict[str, str], dict[str, str]], Answer]


def as_json(body: Any, status: int = 200, **headers: str) -> Answer:
    """Return an answer of HTTP with a JSON body."""
    return status, {"content-type": "application/json", **headers}, json.dumps(body).encode()


@contextmanager
def rest(respond: Respond) -> Iterator[str]:
    """Run an HTTP server that answers by path, query and headers; give its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            status, headers, body = respond(parts.path, query, {k.lower(): v for k, v in self.headers.items()})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if status != 304:
                with suppress(OSError):
                    self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class OnTape:
    """What stands on a dataset's tape."""

    batches: list[Batch]
    gaps: list[Gap]

    def numbers(self, kind: Kind, instrument_id: int = 1) -> list[int]:
        """Return the sequence numbers of the rows of an instrument, in the order of the tape."""
        found = [batch for batch in self.batches if batch.kind is kind]
        return [
            number for batch in found for number in batch["sequence"][batch["instrument_id"] == instrument_id].tolist()
        ]

    @property
    def facts(self) -> list[str]:
        """Return the gaps, each as a few words."""
        causes = {Gap.CAUSE_SEQUENCE: "missing", Gap.CAUSE_DISCONNECTED: "down"}
        states = {Gap.STATE_OPEN: "open", Gap.STATE_CLOSED: "closed"}
        return [
            f"{causes[gap.cause]} {states[gap.state]}"
            + (f" {gap.instrument_id}: {gap.first_sequence}-{gap.last_sequence}" if gap.instrument_id else "")
            for gap in self.gaps
        ]


async def on_tape(nats_url: str, dataset: str) -> OnTape:
    """Read a dataset's tape."""
    client = await nats.connect(nats_url)
    try:
        tape = Tape(client, dataset)
        found = OnTape([], [])
        if await tape.bounds() is None:
            return found
        after = 0
        while entries := await tape.read(after):
            for stored in entries:
                gaps, payload = split_payload(stored.entry.payload)
                found.gaps += gaps
                found.batches += decode_payload(payload)
                assert stored.intact
            after = entries[-1].sequence
        return found
    finally:
        await client.close()


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
