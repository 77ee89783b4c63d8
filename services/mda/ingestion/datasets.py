"""The datasets that this process has seen, each with what validation needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from nats.aio.client import Client

from marketdata.columns import Batch
from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1.instrument_pb2 import Instrument
from mda.ingestion.settings import IngestionSettings
from mda.market.errors import MarketDataError, unknown_dataset
from mda.market.instruments import Directory
from mda.market.verdicts import EventTimes, Validated, check, flag
from mda.tape.log import WrongPlaceError
from mda.tape.tape import InstrumentLog, Tape

Clock = Callable[[], int]
"""Nanoseconds since the epoch."""


@dataclass(slots=True)
class Dataset:
    """A dataset: its tape, its instruments, and the newest event times.

    Attributes
    ----------
    tape, instruments
        Where rows and instruments are kept.
    clock
        The time, for validation.
    directory
        The instruments, as of the last look at their log.
    """

    tape: Tape
    instruments: InstrumentLog
    clock: Clock
    directory: Directory = field(default_factory=Directory)
    _newest: EventTimes = field(default_factory=EventTimes)

    async def refresh(self) -> None:
        """Look at the instrument log."""
        await self.instruments.catch_up(self.directory)

    async def know(self, symbols: Iterable[str]) -> None:
        """Look at the instrument log if the directory lacks one of the symbols."""
        if any(self.directory.find(symbol) is None for symbol in symbols):
            await self.refresh()

    async def check(self, batch: Batch) -> None:
        """Check rows as `verdicts.check` does; an unknown instrument makes us look at the log first."""
        try:
            check(batch, self.directory, self.clock())
        except MarketDataError as error:
            if error.reason != reasons.ERROR_REASON_UNKNOWN_INSTRUMENT_ID:
                raise
            await self.refresh()
            check(batch, self.directory, self.clock())

    def flag(self, batch: Batch) -> Validated:
        """Put verdicts on checked rows as `verdicts.flag` does."""
        return flag(batch, self._newest, len(self.directory))

    def forget_times(self) -> None:
        """Call no row late because of one before, as after a start: what was flagged last is not on the tape."""
        self._newest = EventTimes()

    async def put_instruments(self, wanted: Sequence[Instrument]) -> list[Instrument]:
        """Add or change instruments by symbol; return them with their ids."""
        while True:
            await self.refresh()
            resulting, changed = self.directory.plan(wanted)
            if not changed:
                return resulting
            try:
                await self.instruments.append(changed, self.directory)
            except WrongPlaceError:  # somebody else wrote; look again
                continue


class Datasets:
    """All datasets, opened when first asked for.

    Parameters
    ----------
    client
        The connection to NATS.
    settings
        What new tapes are made with.
    clock
        The time.
    """

    def __init__(self, client: Client, settings: IngestionSettings, clock: Clock) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._open: dict[str, Dataset] = {}
        self._lock = asyncio.Lock()

    async def get(self, name: str) -> Dataset:
        """Return a dataset.

        Raises
        ------
        MarketDataError
            UNKNOWN_DATASET if nobody has put instruments into it.
        """
        async with self._lock:
            if name not in self._open:
                dataset = self._dataset(name)
                if not await dataset.instruments.exists():
                    raise unknown_dataset(name)
                await dataset.refresh()
                self._open[name] = dataset
        return self._open[name]

    async def create(self, name: str) -> Dataset:
        """Return a dataset, making it if it is not there."""
        async with self._lock:
            if name not in self._open:
                dataset = self._dataset(name)
                retention = self._settings.retention(name)
                # The tape first: a dataset is there once its instrument log is.
                await dataset.tape.create(retention)
                await dataset.instruments.create(retention)
                self._open[name] = dataset
        return self._open[name]

    def _dataset(self, name: str) -> Dataset:
        return Dataset(Tape(self._client, name), InstrumentLog(self._client, name), self._clock)
