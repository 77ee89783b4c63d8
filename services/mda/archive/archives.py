"""The archives of all datasets."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final

from nats.aio.client import Client

from mda.archive.archiver import Archiver
from mda.archive.settings import ArchiveSettings
from mda.lake.lake import Lake
from mda.lake.location import Location
from mda.market.errors import MarketDataError, unknown_dataset
from mda.tape.tape import list_datasets

_DISCOVER_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Archive:
    """The archive of one dataset."""

    archiver: Archiver
    location: Location

    def lake(self) -> Lake:
        """Return what was archived of the tape that there is now."""
        epoch = self.archiver.bounds.epoch if self.archiver.bounds is not None else 0
        return Lake(self.location, self.archiver.tape.dataset, epoch)


class Archives:
    """The archives of all datasets, each begun when its tape is first seen.

    Parameters
    ----------
    client
        The connection to NATS.
    location
        Where the lake is.
    settings
        The archive's.
    tasks
        Runs them.
    """

    def __init__(self, client: Client, location: Location, settings: ArchiveSettings, tasks: asyncio.TaskGroup) -> None:
        self._client = client
        self._location = location
        self._settings = settings
        self._tasks = tasks
        self._open: dict[str, Archive] = {}

    async def get(self, dataset: str) -> Archive:
        """Return a dataset's archive; begin it, if the dataset was made just now.

        Raises
        ------
        MarketDataError
            UNKNOWN_DATASET; TAPE_UNAVAILABLE if it is not known whether there is one.
        """
        if dataset not in self._open:
            await self._look()
        if dataset not in self._open:
            raise unknown_dataset(dataset)
        return self._open[dataset]

    async def discover(self) -> None:
        """Begin the archive of every dataset that there is, and of those to come, for ever."""
        while True:
            with contextlib.suppress(MarketDataError):  # the tape does not answer: next time
                await self._look()
            await asyncio.sleep(_DISCOVER_S)

    async def _look(self) -> None:
        for dataset in await list_datasets(self._client):
            self._begin(dataset)

    def _begin(self, dataset: str) -> None:
        if dataset in self._open:
            return
        archiver = Archiver(self._client, dataset, self._location, self._settings)
        self._open[dataset] = Archive(archiver, self._location)
        self._tasks.create_task(archiver.run())
        self._tasks.create_task(archiver.tidy_for_ever())
