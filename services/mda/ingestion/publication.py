"""One `Publish` stream: numbered batches in, acknowledgements out, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np

from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1.gap_pb2 import Gap
from mda.ingestion.appender import Appender
from mda.ingestion.commit import CommitQueue, Numbered
from mda.ingestion.datasets import Dataset
from mda.ingestion.judging import Prepared, judge, prepare
from mda.ingestion.seeing import archived_places, next_place
from mda.ingestion.sideline import Sideline
from mda.market.errors import MarketDataError
from mda.market.numbering import Numbering, Numbers, row_numbers
from mda.market.verdicts import Judged
from mda.tape.payload import encode_gaps
from mda.tape.tape import Entry

_ENOUGH_ROWS: Final = 4_096
"""While an append is under way, batches are checked and encoded from this many rows on."""
_MOST_UNSEEN: Final = 1_024
"""How many groups may wait for the archive."""

_UNDER_WAY: Final = 2
"""How many appends may be under way, besides the one that is waited for."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one batch.

    Attributes
    ----------
    number
        Its number.
    sequence
        The sequence number of its entry on the tape; 0 if it was there before, or is not
        there yet.
    flagged_rows, quarantined_rows
        How many of its rows have a verdict and are kept, and how many are set aside.
    duplicate
        Whether it was there before.
    """

    number: int
    sequence: int
    flagged_rows: int = 0
    quarantined_rows: int = 0
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class _Group:
    """Batches that are judged and encoded; not `prepared` where they were on the tape before.

    `sequences` are the sequence numbers of their rows, where the policy wants to know what is missing;
    `gaps` and `position` are what their producer tells of its source; `only_told` where it has no rows.
    """

    numbers: list[int]
    rows: int
    prepared: Prepared | None
    sequences: Numbers | None = None
    gaps: Sequence[Gap] = ()
    position: str = ""
    only_told: bool = False

    def outcomes(self, sequence: int) -> Iterator[Outcome]:
        """Yield what became of each batch, as of now."""
        if self.prepared is None:
            yield from (Outcome(number, 0, duplicate=True) for number in self.numbers)
            return
        counts = zip(self.numbers, self.prepared.flagged_rows, self.prepared.quarantined_rows, strict=True)
        yield from (Outcome(number, sequence, flagged, aside) for number, flagged, aside in counts)


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """Groups that are with the appender."""

    groups: list[_Group]
    append: asyncio.Future[int]

    def outcomes(self, sequence: int) -> list[Outcome]:
        """Return what became of their batches, as of now."""
        return [outcome for group in self.groups for outcome in group.outcomes(sequence)]


@dataclass(frozen=True, slots=True)
class _Unseen:
    """What became of batches that are durable, and wait for the archive to have an entry."""

    sequence: int
    outcomes: list[Outcome]


class Publication:
    """The state of one `Publish` stream.

    `submit` takes batches in, `outcomes` gives what became of them; the two run at the
    same time, and between them batches are judged and encoded. So while a group is being
    made durable the next one gathers, ready to go.

    Parameters
    ----------
    dataset, producer
        Who publishes, and where.
    accepted
        Whether an outcome comes as soon as its batch is with the appender, not once it is
        durable.
    visible
        Whether it comes only once the archive has the batch, too.
    count_rows
        Called with how many rows went on the tape, each time that some did.
    """

    def __init__(
        self,
        dataset: Dataset,
        producer: str,
        *,
        accepted: bool = False,
        visible: bool = False,
        count_rows: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._count_rows = count_rows
        self._dataset = dataset
        self._producer = producer
        self._accepted = accepted
        self._visible = visible
        self._numbering: Numbering | None = None
        self._position = ""
        self._appender = Appender(dataset.tape, producer)
        self._sideline = Sideline(dataset.quarantine, producer)
        self._queue: CommitQueue[Numbered] = CommitQueue()
        self._ready: CommitQueue[_Group] = CommitQueue()
        self._under_way: asyncio.Queue[_UnderWay | None] = asyncio.Queue(_UNDER_WAY)
        self._done: asyncio.Queue[list[Outcome] | Exception | None] = asyncio.Queue(_UNDER_WAY)
        self._unseen: asyncio.Queue[_Unseen | Exception | None] = asyncio.Queue(_MOST_UNSEEN)
        self._appends: set[asyncio.Future[int]] = set()
        self._last_taken = 0
        self._last_flagged = 0

    @property
    def position(self) -> str:
        """Where the producer said that it stands in its source, with its newest rows on the tape."""
        return self._position

    async def open(self) -> int:
        """Look up where the producer stands; return the number of its last batch."""
        await self._appender.open()
        self._last_taken = self._appender.last_number
        self._numbering = Numbering(self._producer, self._appender.numbering)
        self._position = self._appender.position
        await self._sideline.open(self._last_taken)
        return self._last_taken

    async def submit(self, item: Numbered) -> None:
        """Take a batch in; wait while too many rows wait for the tape.

        Raises
        ------
        MarketDataError
            BATCH_OUT_OF_SEQUENCE if a number was left out.
        """
        if item.number > self._last_taken + 1 or item.number == 0:
            raise MarketDataError(
                reasons.ERROR_REASON_BATCH_OUT_OF_SEQUENCE,
                f"batch.number: {item.number} is not the next number. Send from {self._last_taken + 1} on.",
                field="batch.number",
                number=item.number,
                next=self._last_taken + 1,
            )
        self._last_taken = max(self._last_taken, item.number)
        await self._queue.put(item)

    def close(self, error: Exception | None = None) -> None:
        """Take no more batches; with an error, fail with it after those taken."""
        self._queue.close(error)

    async def outcomes(self) -> AsyncIterator[list[Outcome]]:
        """Yield what became of the batches, in their order, group by group.

        Raises
        ------
        MarketDataError
            That of a batch that may not go on the tape, of the tape, or of `close`.
        """
        work = [self._judge_all(), self._append_all(), self._settle_all()]
        stages = [asyncio.create_task(stage) for stage in (*work, *([self._see_all()] if self._visible else ()))]
        try:
            while (done := await self._done.get()) is not None:
                if isinstance(done, Exception):
                    raise done
                yield done
        finally:
            await _cancel(stages)
            if self._accepted:  # those who were told so may have gone: they rely on it
                await asyncio.gather(*self._appends, return_exceptions=True)
            await _cancel(tuple(self._appends))
            if self._last_flagged > self._appender.last_number:
                self._dataset.forget_history()  # those rows may come again, and are not late then

    async def _judge_all(self) -> None:
        try:
            last = self._appender.last_number
            while items := await self._queue.take():
                last = await self._judge(items, last)
        except Exception as error:  # whatever it is, `outcomes` ends with it
            self._ready.close(error)
        else:
            self._ready.close()

    async def _judge(self, items: list[Numbered], last: int) -> int:
        """Make groups of batches that were taken together; return the newest number that is in one."""
        await self._put_known([item.number for item in items if item.number <= last])
        fresh: list[Numbered] = []
        again: list[int] = []  # came twice before they were on the tape
        for item in items:
            if item.number > (fresh[-1].number if fresh else last):
                fresh.append(item)
            elif item.number > last:
                again.append(item.number)
        runs = [list(run) for _, run in groupby(fresh, key=lambda item: item.batch.rows > 0)]
        for run in runs:
            last = await (self._judge_rows(run) if run[0].batch.rows else self._put_told(run)) or last
        await self._put_known(again)
        return last

    async def _judge_rows(self, items: list[Numbered]) -> int:
        """Make a group of the good ones of batches; return its last number, 0 if there is none."""
        last = 0
        verdicts = await judge(self._dataset, [item.batch for item in items], past_errors=False)
        if verdicts.good:
            last = await self._put_fresh(items[: len(verdicts.good)], verdicts.parts)
        for error in verdicts.errors.values():
            raise error
        return last

    async def _put_told(self, items: list[Numbered]) -> int:
        """Make a group of what a producer tells of its source, without rows; return its last number."""
        numbers = [item.number for item in items]
        none = [0] * len(items)
        sequences = np.empty(0, np.uint64) if self._dataset.directory.rules.contiguous else None
        prepared = Prepared(b"", none, none)
        await self._ready.put(_Group(numbers, 1, prepared, sequences, *self._told(items), only_told=True))
        return numbers[-1]

    def _told(self, items: list[Numbered]) -> tuple[list[Gap], str]:
        """Return the gaps that a producer tells of with batches, and where it stands after them."""
        gaps = [gap for item in items for gap in item.gaps]
        for gap in gaps:
            if not (gap.producer and gap.cause == Gap.CAUSE_SEQUENCE and gap.state == Gap.STATE_CLOSED):
                gap.producer = self._producer  # others' may be filled in, and nothing else
        return gaps, next((item.position for item in reversed(items) if item.position), "")

    async def _put_fresh(self, items: list[Numbered], parts: list[Judged]) -> int:
        """Make a group of good batches; return its last number."""
        numbers, sizes = [item.number for item in items], [item.rows for item in items]
        self._last_flagged = numbers[-1]
        prepared = await prepare(self._sideline, numbers, sizes, parts)
        # Those that are set aside, too: they have come.
        wanted = self._dataset.directory.rules.contiguous
        sequences = row_numbers([part.batch for part in parts]) if wanted else None
        await self._ready.put(_Group(numbers, sum(sizes), prepared, sequences, *self._told(items)))
        return numbers[-1]

    async def _put_known(self, numbers: list[int]) -> None:
        """Make a group of batches that the tape, or a group before it, holds."""
        if numbers:
            await self._ready.put(_Group(numbers, len(numbers), None))

    async def _append_all(self) -> None:
        try:
            while groups := await self._ready.take():
                under_way = _UnderWay(groups, asyncio.create_task(self._append(groups)))
                self._appends.add(under_way.append)
                if self._accepted:
                    await self._done.put(under_way.outcomes(0))
                else:  # nobody is in a hurry for the next group now: let it grow, which is cheaper
                    self._queue.want(_ENOUGH_ROWS)
                await self._under_way.put(under_way)
        except Exception as error:  # whatever it is, `outcomes` ends with it
            failure = asyncio.get_running_loop().create_future()
            failure.set_exception(error)
            failure.exception()  # it has been looked at, even if nobody is left to take it
            await self._under_way.put(_UnderWay([], failure))
        else:
            await self._under_way.put(None)

    async def _settle_all(self) -> None:
        try:
            while (item := await self._under_way.get()) is not None:
                await self._settle(item)
        except Exception as error:  # whatever it is, `outcomes` ends with it
            await self._settled.put(error)
        else:
            await self._settled.put(None)

    async def _settle(self, item: _UnderWay) -> None:
        await asyncio.wait([item.append])  # which does not cancel it, if we are
        self._appends.discard(item.append)
        sequence = item.append.result()
        counted = (group for group in item.groups if group.prepared is not None and not group.only_told)
        self._count_rows(sum(group.rows for group in counted))
        if self._under_way.empty():
            self._queue.want(1)
        if self._visible:
            # What was on the tape before came before the opening.
            await self._unseen.put(_Unseen(sequence or self._appender.opened_sequence, item.outcomes(sequence)))
        elif not self._accepted:
            await self._done.put(item.outcomes(sequence))

    @property
    def _settled(self) -> asyncio.Queue[Any]:
        """Where the end goes, after all that is settled."""
        return self._unseen if self._visible else self._done

    async def _see_all(self) -> None:
        try:
            async with aclosing(archived_places(self._dataset.tape)) as places:
                reached = 0
                while isinstance(item := await self._unseen.get(), _Unseen):
                    while reached < item.sequence:
                        reached = await next_place(places, self._dataset.tape.dataset)
                    await self._done.put(item.outcomes)
            await self._done.put(item)
        except Exception as error:  # whatever it is, `outcomes` ends with it
            await self._done.put(error)

    async def _append(self, groups: list[_Group]) -> int:
        """Append what is new; return its sequence number, 0 if nothing is."""
        fresh = [(group, group.prepared) for group in groups if group.prepared is not None]
        if not fresh:
            return 0
        told = [gap for group, _ in fresh for gap in group.gaps]
        gaps, numbering = self._number([group.sequences for group, _ in fresh if group.sequences is not None])
        payload = b"".join([encode_gaps([*told, *gaps]), *(prepared.payload for _, prepared in fresh)])
        self._position = next((group.position for group, _ in reversed(fresh) if group.position), self._position)
        version = self._dataset.directory.version
        first, last = fresh[0][0].numbers[0], fresh[-1][0].numbers[-1]
        return await self._appender.append(Entry(first, last, version, payload, numbering, self._position))

    def _number(self, sequences: list[Numbers]) -> tuple[list[Gap], str]:
        """Return the gaps that rows open and close, and what is known of the numbers after them."""
        if not sequences:
            self._numbering = None  # nobody wants to know (any more)
            return [], ""
        self._numbering = self._numbering or Numbering(self._producer)
        gaps = self._numbering.take(np.concatenate(sequences), self._dataset.clock())
        return gaps, self._numbering.text


async def _cancel(futures: Sequence[asyncio.Future[Any]]) -> None:
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)
