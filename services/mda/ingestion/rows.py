"""Batches of unary calls: many callers, one producer per process and dataset."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass

from opentelemetry.context import Context, attach, detach, get_current

from marketdata.columns import Batch
from mda.ingestion.appender import Appender
from mda.ingestion.commit import CommitQueue, Numbered, prepare
from mda.ingestion.datasets import Dataset
from mda.market.errors import MarketDataError
from mda.tape.tape import Entry


@dataclass(frozen=True, slots=True)
class Published:
    """Where rows went.

    Attributes
    ----------
    sequence
        The sequence number of their entry.
    flagged_rows
        How many of them have a verdict.
    """

    sequence: int
    flagged_rows: int


class RowPublisher:
    """Publishes the batches of concurrent calls by group commit.

    Each batch is checked before it joins the others, so that one caller's bad row is
    no other's failure.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._appender = _new_appender(dataset)
        self._queue: CommitQueue[Numbered] = CommitQueue()
        self._waiting: dict[int, asyncio.Future[Published]] = {}
        self._numbers = 0

    async def publish(self, batch: Batch) -> Published:
        """Publish a batch; return once it is durable."""
        await self._dataset.check(batch)
        self._numbers += 1
        number = self._numbers
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            await self._queue.put(Numbered(number, batch, get_current()))
            return await future
        finally:
            self._waiting.pop(number, None)

    async def run(self) -> None:
        """Append what is published, for ever."""
        while True:
            group = await self._queue.take()
            try:
                prepared = prepare(self._dataset, [item.batch for item in group])
                version = self._dataset.directory.version
                entry = Entry(group[0].number, group[-1].number, version, prepared.payload)
                sequence = await self._append(entry, group[0].trace)
            except MarketDataError as error:
                # Nobody knows where this producer stands: its entry may yet come to the tape.
                self._appender = _new_appender(self._dataset)
                self._dataset.forget_times()
                self._resolve(group, error)
                continue
            for item, flagged in zip(group, prepared.flagged_rows, strict=True):
                self._settle(item.number, Published(sequence, flagged))

    async def _append(self, entry: Entry, trace: Context | None) -> int:
        """Append an entry, in the trace of the first call of its group."""
        token = attach(trace or Context())
        try:
            return await self._appender.append(entry)
        finally:
            detach(token)

    def _resolve(self, group: list[Numbered], error: MarketDataError) -> None:
        for item in group:
            self._settle(item.number, error)

    def _settle(self, number: int, result: Published | MarketDataError) -> None:
        future = self._waiting.get(number)
        if future is None or future.done():  # its caller has gone
            return
        if isinstance(result, Published):
            future.set_result(result)
        else:
            future.set_exception(result)


def _new_appender(dataset: Dataset) -> Appender:
    """Return an appender with a name that nobody else has: unary calls carry no numbers to resume by."""
    return Appender(dataset.tape, f"unary-{secrets.token_hex(6)}")
