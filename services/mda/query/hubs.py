"""The hubs of all datasets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from nats.aio.client import Client

from mda.lake.location import Location
from mda.market.errors import MarketDataError
from mda.query.hub import Hub
from mda.query.past import FileCache
from mda.tape.tape import list_datasets

_DISCOVER_S: Final = 2.0


class Hubs:
    """The hubs of all datasets, opened when first asked for.

    Parameters
    ----------
    client
        The connection to NATS.
    ring_bytes
        How many bytes of payload each ring holds.
    tasks
        Runs the hubs.
    cursor_key
        What cursors are sealed with.
    lake
        Where the lake is; None where there is none.
    """

    def __init__(
        self,
        client: Client,
        ring_bytes: int,
        tasks: asyncio.TaskGroup,
        cursor_key: bytes = b"",
        lake: Location | None = None,
    ) -> None:
        self._client = client
        self._lake = lake
        self._cache = FileCache()
        self._cursor_key = cursor_key
        self._ring_bytes = ring_bytes
        self._tasks = tasks
        self._open: dict[str, Hub] = {}
        self._lock = asyncio.Lock()

    async def get(self, dataset: str) -> Hub:
        """Return a dataset's hub, ready to read from.

        Raises
        ------
        MarketDataError
            UNKNOWN_DATASET; TAPE_UNAVAILABLE.
        """
        hub = await self._hub(dataset)
        await hub.ready()
        return hub

    async def names(self) -> list[str]:
        """Return the datasets, in order of name.

        Raises
        ------
        MarketDataError
            TAPE_UNAVAILABLE.
        """
        return await list_datasets(self._client)

    async def _hub(self, dataset: str) -> Hub:
        async with self._lock:
            hub = self._open.get(dataset)
            if hub is None:
                hub = Hub(self._client, dataset, self._ring_bytes, self._cursor_key, self._lake, self._cache)
                await hub.open()
                self._open[dataset] = hub
                self._tasks.create_task(hub.run())
                self._tasks.create_task(hub.tick())
            return hub

    async def discover(self) -> None:
        """Open every dataset that there is, and those to come, for ever.

        So a hub has followed its tape, and written checkpoints, before anybody asks.
        """
        while True:
            with contextlib.suppress(MarketDataError):  # the tape does not answer: next time
                for dataset in await list_datasets(self._client):
                    await self._hub(dataset)
            await asyncio.sleep(_DISCOVER_S)
