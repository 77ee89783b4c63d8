"""TLS before a PostgreSQL server whose build has none, as connection poolers put it there."""

from __future__ import annotations

import asyncio
import ssl
import struct
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_SSL_REQUEST: Final = struct.pack("!ii", 8, 80877103)


class TlsFront:
    """Takes connections on two addresses of loopback, and refuses those that ask for no TLS."""

    def __init__(self, folder: Path, port: int) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        self._behind = port
        self.port = 0
        self.encrypted = 0

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._take, ["127.0.0.1", "127.0.0.2"], self.port)
        async with server:
            ready.set()
            await stop.wait()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            if await reader.readexactly(len(_SSL_REQUEST)) == _SSL_REQUEST:
                writer.write(b"S")
                await writer.start_tls(self._context)
                self.encrypted += 1
                behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._behind)
                await asyncio.gather(_pipe(reader, behind_writer), _pipe(behind_reader, writer))
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextmanager
def tls_front(folder: Path, behind: int, port: int) -> Generator[TlsFront]:
    """Run one, with the `tls.crt` and `tls.key` of a folder, in a thread."""
    front = TlsFront(folder, behind)
    front.port = port
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(front.serve(ready, stop)))
    thread.start()
    try:
        assert ready.wait(10)
        yield front
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
