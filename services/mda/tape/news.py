"""Messages among processes that nobody keeps: who is away misses them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nats.aio.client import Client
from nats.aio.msg import Msg

from mda.tape.log import of_the_contract


class News:
    """One subject.

    Parameters
    ----------
    client
        The connection.
    subject
        The subject.
    """

    def __init__(self, client: Client, subject: str) -> None:
        self._client = client
        self._subject = subject

    async def listen(self, hear: Callable[[bytes], Awaitable[None]]) -> None:
        """Call something with each message that comes from now on, one's own too."""

        async def take(message: Msg) -> None:
            await hear(message.data)

        await self._client.subscribe(self._subject, cb=take)

    async def tell(self, data: bytes) -> None:
        """Tell all who listen. While NATS is away, nobody is told: it would be old by then."""
        if self._client.is_connected:
            with of_the_contract(self._subject):
                await self._client.publish(self._subject, data)
