"""Batches of unary calls: many callers, one producer per process and dataset."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass

from opentelemetry.context import Context, attach, detach, get_current

from marketdata.columns import Batch
from mda.ingestion.appender import Appender
from mda.ingestion.commit import CommitQueue, Numbered
from mda.ingestion.datasets import Dataset
from mda.ingestion.judging import Verdicts, judge, prepare
from mda.ingestion.sideline import Sideline
from mda.market.errors import MarketDataError
from mda.tape.tape import Entry


@dataclass(frozen=True, slots=True)
class Published:
    """Where rows went.

    Attributes
    ----------
    sequence
        The sequence number of their entry.
    flagged_rows, quarantined_rows
        How many of them have a verdict and are there, and how many are set aside instead.
    """

    sequence: int
    flagged_rows: int
    quarantined_rows: int = 0


class RowPublisher:
    """Publishes the batches of concurrent calls by group commit.

    Each batch is checked before it joins the others, so that one caller's bad row is
    no other's failure.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._begin()
        self._queue: CommitQueue[Numbered] = CommitQueue()
        self._waiting: dict[int, asyncio.Future[Published]] = {}
        self._numbers = 0

    async def publish(self, batch: Batch) -> Published:
        """Publish a batch; return once it is durable."""
        await self._dataset.check(batch, self._dataset.directory.rules)
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
                verdicts = await judge(self._dataset, [item.batch for item in group], past_errors=True)
                for position, error in verdicts.errors.items():
                    self._settle(group[position].number, error)
                group = [group[position] for position in verdicts.good]
                if group:
                    await self._publish(group, verdicts)
            except MarketDataError as error:
                # Nobody knows where this producer stands: its entry may yet come to the tape.
                self._begin()
                self._dataset.forget_history()
                for item in group:
                    self._settle(item.number, error)

    async def _publish(self, group: list[Numbered], verdicts: Verdicts) -> None:
        numbers = [item.number for item in group]
        prepared = await prepare(self._sideline, numbers, [item.rows for item in group], verdicts.parts)
        entry = Entry(numbers[0], numbers[-1], self._dataset.directory.version, prepared.payload)
        sequence = await self._append(entry, group[0].trace)
        for number, flagged, aside in zip(numbers, prepared.flagged_rows, prepared.quarantined_rows, strict=True):
            self._settle(number, Published(sequence, flagged, aside))

    def _begin(self) -> None:
        """Take a name that nobody else has: unary calls carry no numbers to resume by."""
        producer = f"unary-{secrets.token_hex(6)}"
        self._appender = Appender(self._dataset.tape, producer)
        self._sideline = Sideline(self._dataset.quarantine, producer)

    async def _append(self, entry: Entry, trace: Context | None) -> int:
        """Append an entry, in the trace of the first call of its group."""
        token = attach(trace or Context())
        try:
            return await self._appender.append(entry)
        finally:
            detach(token)

    def _settle(self, number: int, result: Published | MarketDataError) -> None:
        future = self._waiting.get(number)
        if future is None or future.done():  # its caller has gone
            return
        if isinstance(result, Published):
            future.set_result(result)
        else:
            future.set_exception(result)
