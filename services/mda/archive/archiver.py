"""Brings one tape into the lake, for ever."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from typing import Final

import structlog
from nats.aio.client import Client

from mda.archive.commits import Tables
from mda.archive.compaction import Compacted, compact
from mda.archive.pending import Pending
from mda.archive.retention import retire
from mda.archive.settings import ArchiveSettings
from mda.lake.errors import ConflictError, LakeError
from mda.lake.layout import DAY_NS
from mda.lake.location import Location
from mda.market.errors import MarketDataError
from mda.market.instruments import Directory
from mda.runtime.telemetry import ARCHIVE_LAG, ARCHIVED_ROWS
from mda.tape.archived import Place, Standing
from mda.tape.damage import Inspector
from mda.tape.tape import InstrumentLog, Tape, TapeBounds

_RETRY_S: Final = 2.0
_DROP_SHARE: Final = 0.1
"""A tape drops entries once it is larger than it should be by this share: seldom, and many at once."""

_LOG: Final = structlog.stdlib.get_logger("mda.archive")


class _TapeChangedError(Exception):
    """The tape was made anew, or has lost its newest entries."""


class Archiver:
    """Follows the tape of one dataset and commits its rows to the lake.

    What is read waits in memory, bounded by rows, and is committed once it is old or
    large enough. Any number may run for one dataset: each commit is on the condition that
    nobody else has committed, so rows are there once.

    Parameters
    ----------
    client
        The connection to NATS.
    dataset
        The dataset.
    location
        Where the lake is.
    settings
        The archive's.

    Attributes
    ----------
    tape
        The tape.
    bounds
        The tape, as it was last seen; None before.
    archived
        The sequence number of the newest entry that is in the lake.
    archived_ns, newest_ns
        When the tape took that, and the newest one that was read; 0 where not known.
    committed_s
        When rows were last committed, in seconds since the epoch; 0 where none were yet.
    problem
        Why it does not go on, and what to do; empty where it does.
    """

    def __init__(self, client: Client, dataset: str, location: Location, settings: ArchiveSettings) -> None:
        self.tape = Tape(client, dataset)
        self.bounds: TapeBounds | None = None
        self.archived = 0
        self.archived_ns = self.newest_ns = 0
        self.committed_s = 0.0
        self.problem = ""
        self._instruments = InstrumentLog(client, dataset)
        self._directory = Directory()
        self._dataset = dataset
        self._location = location
        self._settings = settings
        self._pending = Pending(0)
        self._full = asyncio.Event()
        self._room = asyncio.Event()
        self._rewriting = asyncio.Lock()

    async def run(self) -> None:
        """Archive, for ever. Outages of tape and lake are waited out; nothing is lost meanwhile."""
        while True:
            try:
                await self._run()
            except (ConflictError, _TapeChangedError) as error:
                _LOG.info("begins anew", dataset=self._dataset, why=str(error))
                await asyncio.sleep(_RETRY_S)
            except (LakeError, MarketDataError) as error:
                self._tell_problem(str(error))
                await asyncio.sleep(_RETRY_S)

    def _tell_problem(self, problem: str) -> None:
        if problem != self.problem:
            _LOG.error("the archive does not go on", dataset=self._dataset, problem=problem)
        self.problem = problem

    async def _run(self) -> None:
        bounds = await self._look()
        tables = Tables(self._location, self._dataset, bounds.epoch)
        self.archived = await asyncio.to_thread(tables.open)
        await self._check_place(bounds, tables)
        self._pending = Pending(bounds.epoch)
        self.problem = ""
        await self.tape.archived.create(1)  # tapes that were made before there was an archive have none yet
        await self._tell_again(bounds)
        work = [self._read(Inspector(self.archived)), self._flush_for_ever(tables)]
        tasks = [asyncio.create_task(task) for task in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> TapeBounds:
        bounds = await self.tape.bounds()
        if bounds is None:
            raise _TapeChangedError("the tape is not there")
        if self.bounds is not None and bounds.epoch != self.bounds.epoch:
            self.bounds = bounds
            raise _TapeChangedError("the tape was made anew")
        self.bounds = bounds
        return bounds

    async def _check_place(self, bounds: TapeBounds, tables: Tables) -> None:
        """See that tape and lake agree on the newest entry that both have."""
        if self.archived > bounds.last:
            raise tables.lost(f"entries {bounds.last + 1} to {self.archived} of the tape are lost")
        if not bounds.first <= self.archived <= bounds.last:
            return
        stored = await self.tape.at(self.archived)
        mark = await asyncio.to_thread(tables.mark, self.archived)
        if stored is not None and stored.mark != mark:
            raise tables.lost(f"the tape has another entry {self.archived}")
        if stored is not None:
            self.archived_ns = stored.time_ns

    async def _tell_again(self, bounds: TapeBounds) -> None:
        """Tell up to where the lake is: whoever committed last may have been killed before it did.

        What is between the place that was told and the lake's is on the tape still: nobody
        drops what was not told.
        """
        told = await self.tape.archived.place()
        after = told.sequence if told is not None and told.epoch == bounds.epoch else 0
        standings: dict[str, Standing] = {}
        while after < self.archived and (entries := await self.tape.read(after)):
            standings |= {entry.producer: entry.standing for entry in entries if entry.sequence <= self.archived}
            after = entries[-1].sequence
        await self.tape.archived.tell(Place(bounds.epoch, self.archived), standings.items())

    async def _read(self, inspector: Inspector) -> None:
        async with aclosing(self.tape.follow(self.archived)) as followed:
            async for entries in followed:
                for stored in entries:
                    self._pending.add(stored, inspector)
                self.newest_ns = self._pending.time_ns
                if self._pending.rows >= self._settings.flush_rows:
                    self._full.set()
                    self._room.clear()
                    await self._room.wait()

    async def _flush_for_ever(self, tables: Tables) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.flush_s):
                    await self._full.wait()
            bounds = await self._look()
            if bounds.last < self.archived:
                raise _TapeChangedError("the tape has lost its newest entries")
            await self._flush(tables, bounds)

    async def _flush(self, tables: Tables, bounds: TapeBounds) -> None:
        pending, self._pending = self._pending, Pending(bounds.epoch)
        self._full.clear()
        self._room.set()
        if len(pending):
            await asyncio.to_thread(tables.commit, pending)
            self.committed_s = time.time()
            ARCHIVED_ROWS.labels(self._dataset).inc(pending.rows)
            await self.tape.archived.tell(Place(bounds.epoch, pending.last), pending.standings.items())
            self.archived, self.archived_ns = pending.last, pending.time_ns
        await self._put_instruments(tables)
        ARCHIVE_LAG.labels(self._dataset).set(max(0, bounds.last - self.archived))
        await self._drop(bounds)

    async def _put_instruments(self, tables: Tables) -> None:
        await self._instruments.catch_up(self._directory)
        await asyncio.to_thread(tables.put_instruments, self._directory)

    async def _drop(self, bounds: TapeBounds) -> None:
        """Let the tape drop what it need not keep, of what the lake has."""
        keep = self._settings.tape_keep_bytes
        if bounds.size <= keep * (1 + _DROP_SHARE):
            return
        share = 1 - keep / bounds.size
        first = bounds.first + int((bounds.last - bounds.first + 1) * share)
        first = min(first, self.archived + 1)
        if first > bounds.first:
            await self.tape.drop_before(first)

    async def tidy_for_ever(self) -> None:
        """From time to time, write small files together, and take out what is older than it need be."""
        while True:
            await asyncio.sleep(self._settings.compact_s)
            try:
                await self.compact()
                await self._retire()
            except (LakeError, ConflictError) as error:  # the next time finds the same files
                _LOG.warning("the lake was not tidied", dataset=self._dataset, problem=str(error))

    async def _retire(self) -> None:
        if not self._settings.keep_days:
            return
        before_ns = time.time_ns() - int(self._settings.keep_days * DAY_NS)
        async with self._rewriting:
            folder = self._location.child(self._dataset)
            files = await asyncio.to_thread(retire, folder, before_ns, self._settings.vacuum_hours)
        if files:
            _LOG.info("old files were taken out", dataset=self._dataset, files=files)

    async def compact(self, *, whole: bool = False) -> Compacted:
        """Write small files together; with `whole`, however few there are.

        Raises
        ------
        LakeError, ConflictError
            Nothing has changed, or only a part of what should.
        """
        async with self._rewriting:
            return await asyncio.to_thread(compact, self._location.child(self._dataset), self._settings, whole=whole)
