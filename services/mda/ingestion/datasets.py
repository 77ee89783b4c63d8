"""The datasets that this process has seen, each with what validation needs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from nats.aio.client import Client

from marketdata.columns import Batch
from marketdata.v1.instrument_pb2 import Instrument
from marketdata.v1.policy_pb2 import Policy
from mda.ingestion.settings import IngestionSettings
from mda.market.errors import MarketDataError, unknown_dataset
from mda.market.history import History
from mda.market.instruments import Directory
from mda.market.policy import DEFAULT_RULES, Rules, effective
from mda.market.verdicts import Checked, Judged, check, flag
from mda.tape.log import WrongPlaceError
from mda.tape.quarantine import Quarantine
from mda.tape.tape import InstrumentLog, Tape

Clock = Callable[[], int]
"""Nanoseconds since the epoch."""

_LOOK_S: Final = 1.0
"""How often `Datasets.follow` looks at the instrument logs, in seconds."""


@dataclass(slots=True)
class Dataset:
    """A dataset: its tape, its instruments, its policy, and what it has seen.

    Attributes
    ----------
    tape, instruments, quarantine
        Where rows, instruments with the policy, and rows that are set aside are kept.
    clock
        The time, for validation.
    directory
        The instruments and the rules, as of the last look at their log.
    """

    tape: Tape
    instruments: InstrumentLog
    quarantine: Quarantine
    clock: Clock
    directory: Directory = field(default_factory=Directory)
    _history: History = field(default_factory=History)
    _rules: Rules = DEFAULT_RULES

    async def refresh(self) -> None:
        """Look at the instrument log."""
        await self.instruments.catch_up(self.directory)

    async def know(self, symbols: Iterable[str]) -> None:
        """Look at the instrument log if the directory lacks one of the symbols."""
        if any(self.directory.find(symbol) is None for symbol in symbols):
            await self.refresh()

    async def check(self, batch: Batch, rules: Rules) -> Checked:
        """Check rows as `verdicts.check` does; an unknown instrument makes us look at the log first."""
        if batch["instrument_id"].max() > len(self.directory):
            await self.refresh()
        return check(batch, self.directory, self.clock(), rules)

    def flag(self, checked: Checked, rules: Rules) -> Judged:
        """Compare rows with those before them as `verdicts.flag` does."""
        if rules is not self._rules:
            self._rules = rules
            self._history.forget_rows()
        return flag(checked, self._history, self.directory, rules)

    def forget_history(self) -> None:
        """Compare no row with those before, as after a start: what was flagged last is not on the tape."""
        self._history = History()

    async def put_policy(self, policy: Policy) -> Policy:
        """Set the policy, here at once; return it with every action set."""
        while True:
            await self.refresh()
            if self.directory.policy == policy:
                return effective(policy)
            try:
                await self.instruments.append_policy(policy, self.directory)
            except WrongPlaceError:  # somebody else wrote; look again
                continue

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
                # Datasets that were made before there was a quarantine, or an archive, have none yet.
                retention = self._settings.retention(name)
                await dataset.quarantine.create(retention)
                await dataset.tape.archived.create(retention.replicas)
                self._open[name] = dataset
        return self._open[name]

    async def follow(self) -> None:
        """Look at the instrument logs of all open datasets once a second, for ever: others change policies."""
        while True:
            await asyncio.sleep(_LOOK_S)
            with contextlib.suppress(MarketDataError):  # the tape does not answer: next time
                for dataset in tuple(self._open.values()):
                    await dataset.refresh()

    async def create(self, name: str) -> Dataset:
        """Return a dataset, making it if it is not there."""
        async with self._lock:
            if name not in self._open:
                dataset = self._dataset(name)
                retention = self._settings.retention(name)
                # The tape first: a dataset is there once its instrument log is.
                await dataset.tape.create(retention)
                await dataset.quarantine.create(retention)
                await dataset.instruments.create(retention)
                self._open[name] = dataset
        return self._open[name]

    def _dataset(self, name: str) -> Dataset:
        client = self._client
        return Dataset(Tape(client, name), InstrumentLog(client, name), Quarantine(client, name), self._clock)
