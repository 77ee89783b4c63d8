"""What venues with websockets have in common: a connection whose messages come in bursts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from mda.feeds.source import RefusedError, SourceError

_OPEN_S: Final = 10.0
_CLOSE_S: Final = 2.0
_PING_S: Final = 20.0
_MOST_BYTES: Final = 1 << 20
"""The most bytes of a message."""
_WAITING: Final = 1_024
"""So many messages are taken from the socket ahead of their reader; then it is left alone, and TCP stops the venue."""
_QUIET_S: Final = 1.0
"""How often a connection without messages is told to be well."""


class Socket:
    """A connection to a venue. The library answers its pings, and pings it, too."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._messages: asyncio.Queue[str | bytes | None] = asyncio.Queue(_WAITING)  # None at its end
        self._end = ""

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncGenerator[Self]:
        """Connect.

        Raises
        ------
        SourceError
            If the venue does not answer; and whatever breaks the connection.
        RefusedError
            If it is no address of a websocket.
        """
        try:
            connection = await connect(
                url,
                open_timeout=_OPEN_S,
                close_timeout=_CLOSE_S,
                ping_interval=_PING_S,
                ping_timeout=_PING_S,
                max_size=_MOST_BYTES,
            )
        except InvalidURI as error:
            raise RefusedError(str(error)) from error
        except (OSError, TimeoutError, InvalidHandshake, EOFError) as error:
            raise SourceError(f"{url} does not answer: {error or type(error).__name__}") from error
        socket = cls(connection)
        reader = asyncio.create_task(socket._read())
        try:
            yield socket
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            await connection.close()

    async def send(self, message: object) -> None:
        """Send a message, as JSON.

        Raises
        ------
        SourceError
            If the connection is broken.
        """
        try:
            await self._connection.send(json.dumps(message))
        except ConnectionClosed as error:
            raise SourceError(_why(error)) from error

    async def bursts(self) -> AsyncGenerator[list[Any]]:
        """Yield the messages that have come, parsed, as many as there are; none where it is quiet, once a second.

        Raises
        ------
        SourceError
            When the connection breaks, or a message is no JSON; after the messages before.
        """
        while True:
            burst: list[str | bytes | None] = []
            try:
                async with asyncio.timeout(_QUIET_S):
                    burst.append(await self._messages.get())
            except TimeoutError:
                yield []
                continue
            while not self._messages.empty():
                burst.append(self._messages.get_nowait())
            parsed, error = self._parse(burst)
            if parsed:
                yield parsed
            if error is not None:
                raise error

    def _parse(self, burst: list[str | bytes | None]) -> tuple[list[Any], SourceError | None]:
        """Return messages, and what comes after them and breaks the connection, if it is broken."""
        parsed: list[Any] = []
        for message in burst:
            if message is None:
                return parsed, SourceError(self._end)
            try:
                parsed.append(_parsed(message))
            except SourceError as error:
                return parsed, error
        return parsed, None

    async def _read(self) -> None:
        try:
            async for message in self._connection:
                await self._messages.put(message)
            self._end = "the venue closed the connection"
        except ConnectionClosed as error:
            self._end = _why(error)
        await self._messages.put(None)


def _parsed(message: str | bytes) -> Any:
    try:
        found: Any = json.loads(message)
    except ValueError as error:
        raise SourceError(f"a message is no JSON: {message!r:.80}") from error
    if not isinstance(found, dict):
        raise SourceError(f"a message is no JSON object: {message!r:.80}")
    return found


def _why(error: ConnectionClosed) -> str:
    return f"the connection broke: {error}"
