"""A TCP proxy whose network is bad: at random it resets connections, stalls, and lets bytes through by the few."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_READ: Final = 1 << 16
_TRICKLED: Final = 700
"""Bytes that come through at once, while they trickle."""
_TRICKLE_S: Final = 0.02
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: a close is a reset


class BadNetwork:
    """Stands between clients and a server.

    Attributes
    ----------
    seen
        How often each fault was there, and `connections`.
    """

    def __init__(self, target: tuple[str, int], chance: random.Random) -> None:
        self._target = target
        self._chance = chance
        self._flows = asyncio.Event()
        self._flows.set()
        self._trickling = False
        self._sockets: set[asyncio.StreamWriter] = set()
        self.seen: Counter[str] = Counter()
        self.port = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Listen; give the URL."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{self.port}"
        finally:
            server.close()
            self.reset()

    async def misbehave(self) -> None:
        """Be bad, for ever."""
        while True:
            await asyncio.sleep(self._chance.uniform(0.5, 4))
            match self._chance.choice(("reset", "stall", "trickle")):
                case "reset":
                    self.reset()
                case "stall":
                    await self.stall(self._chance.choice((0.3, 2.0, 8.0)))
                case _:
                    await self.trickle(self._chance.uniform(0.5, 3))

    def heal(self) -> None:
        """Be well again."""
        self._trickling = False
        self._flows.set()

    def reset(self) -> None:
        """Reset all connections, both ways."""
        self.seen["reset"] += 1
        for writer in tuple(self._sockets):
            end: socket.socket = writer.get_extra_info("socket")
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def stall(self, for_s: float) -> None:
        """Let nothing through for a while; connections stay open."""
        self.seen["stall"] += 1
        self._flows.clear()
        await asyncio.sleep(for_s)
        self._flows.set()

    async def trickle(self, for_s: float) -> None:
        """Let a few bytes through at a time, cut anywhere, for a while."""
        self.seen["trickle"] += 1
        self._trickling = True
        await asyncio.sleep(for_s)
        self._trickling = False

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen["connections"] += 1
        ends = {writer}
        self._sockets.add(writer)
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            ends.add(server_writer)
            self._sockets.add(server_writer)
            async with asyncio.TaskGroup() as group:
                for source, sink in ((reader, server_writer), (server_reader, writer)):
                    group.create_task(self._forward(source, sink))
        except* OSError:
            self.seen["broken"] += 1
        finally:
            self._sockets -= ends
            for end in ends:
                end.close()

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_TRICKLED if self._trickling else _READ):
            await self._flows.wait()
            if self._trickling:
                await asyncio.sleep(_TRICKLE_S)
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError  # half of a connection is of no use to gRPC
