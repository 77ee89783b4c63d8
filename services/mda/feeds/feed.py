"""Publishes a live source: connects again, finds gaps, waits where the tape is slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import Final

import numpy as np
import structlog

from marketdata.backoff import Backoff
from marketdata.client import Client
from marketdata.columns import MAX_ROWS, Batch, concatenate
from marketdata.publisher import Publisher
from marketdata.spool import Spool
from marketdata.v1.gap_pb2 import Gap
from marketdata.v1.instrument_pb2 import Instrument
from mda.feeds.sequences import Hole, Sequences, missing_numbers, read_position
from mda.feeds.source import Alive, Connected, Listed, Newest, RefusedError, Source, SourceError, Update
from mda.feeds.status import Status
from mda.market.rows import timestamp

_LOG: Final = structlog.stdlib.get_logger("mda.feeds")
_INSTRUMENTS: Final = 1_000
"""How many instruments go into one call."""
_MOST_RECOVERED: Final = 16_384
"""More missing rows than this at once are not asked for: they become a gap."""
_MOST_GAPS: Final = 1_000
"""A batch takes no more."""
_AT_ONCE: Final = MAX_ROWS - _MOST_RECOVERED
"""Of so many rows, and those that are recovered before them, one batch is made: all of them or none."""
_RECOVER_S: Final = 15.0
"""For how long missing rows are waited for, while the source is not read."""
_TELL_S: Final = 10.0
"""How often a quiet feed tells that it is well, so that the time after which nothing is known begins late."""
_BLOCKED_S: Final = 0.05
"""A batch that took longer to be taken in had to wait for the tape."""
_WARN_BLOCKED_S: Final = 1.0
_WELL_S: Final = 10.0
"""A connection that held for so long was a good one: the next try comes soon again."""


class Feed:
    """Publishes what a source gives, each row once, as one producer of a dataset.

    Where it stands goes on the tape with the rows, so that a feed that is started anew goes
    on from there. While it has no connection to its source a gap is open, cause
    DISCONNECTED; what is missing by the source's numbers, and cannot be recovered, is a gap
    of cause SEQUENCE. Nothing is queued without bound: while too many rows wait for their
    acknowledgement, the source is not read.

    Parameters
    ----------
    client
        The connection to publish over.
    source
        The source.
    dataset, producer
        Where, and under which name; the source's, where None.
    spool
        Where what is not acknowledged yet is kept besides in memory.
    clock_ns
        The time, in nanoseconds since the epoch.

    Attributes
    ----------
    status
        How it is doing.
    """

    def __init__(
        self,
        client: Client,
        source: Source,
        dataset: str,
        producer: str | None = None,
        *,
        spool: Spool | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._client = client
        self._source = source
        self._dataset = dataset
        self._producer = producer or source.name
        self._spool = spool
        self._clock_ns = clock_ns
        self._stopped = asyncio.Event()
        self._sequences = Sequences(source.rules)
        self._down_ns = 0  # since when the source is not connected; 0 where it is, or never was
        self._told_ns = 0  # when the position was told last
        self._ids: dict[str, int] = {}
        self._symbols: dict[int, str] = {}
        self.status = Status()

    def stop(self) -> None:
        """Take no more from the source; `run` returns once what was taken is acknowledged."""
        self.status.state = "stopping"
        self._stopped.set()

    async def run(self) -> None:
        """Publish until the source ends, or `stop` is called, and all is acknowledged.

        Raises
        ------
        RefusedError
            If the source will never give what it was asked for.
        ApiError
            If the server refuses for good.
        """
        await self._put_instruments()
        async with self._client.publisher(self._dataset, self._producer, spool=self._spool) as publisher:
            facts = {"dataset": self._dataset, "producer": self._producer}
            _LOG.info("publishing", **facts, last_number=publisher.last_number)
            await self._go_on(publisher)
            try:
                await self._connect_until_stopped(publisher)
            except RefusedError:
                await self._end(publisher)
                raise
            await self._end(publisher)
        self.status.state, self.status.unacknowledged = "done", 0

    async def _put_instruments(self) -> None:
        backoff = Backoff()
        wanted: Sequence[Instrument] = ()
        while not self._stopped.is_set():
            try:
                wanted = await self._source.instruments()
                break
            except RefusedError:
                raise
            except SourceError as error:
                self.status.problem = str(error)
                _LOG.warning("the source does not tell its instruments", problem=str(error))
                await self._pause(max(backoff.next_s(), error.retry_after_s))
        await self._put(wanted)

    async def _put(self, wanted: Sequence[Instrument]) -> None:
        for start in range(0, len(wanted), _INSTRUMENTS):
            for put in await self._client.put_instruments(self._dataset, list(wanted[start : start + _INSTRUMENTS])):
                self._ids[put.symbol] = put.instrument_id
                self._symbols[put.instrument_id] = put.symbol

    async def _go_on(self, publisher: Publisher) -> None:
        """Take up where this feed stood when it ended, cleanly or not."""
        told = read_position(publisher.position)
        if "at" not in told:
            return
        self._sequences = Sequences.parse(self._source.rules, told.get("rows", {}))
        self._down_ns = int(told.get("down", 0))
        if not self._down_ns and self._source.tells_breaks:
            self._down_ns = int(told["at"])  # it was killed: since then nobody knows
            await self._publish(publisher, None, [self._disconnected()])

    async def _connect_until_stopped(self, publisher: Publisher) -> None:
        backoff = Backoff()
        while not self._stopped.is_set():
            began_s = time.monotonic()
            try:
                await self._connection(publisher)
            except RefusedError:
                raise
            except SourceError as error:
                if time.monotonic() - began_s > _WELL_S:
                    backoff.reset()
                await self._break(publisher, error)
                await self._pause(max(backoff.next_s(), error.retry_after_s))
            else:
                return

    async def _connection(self, publisher: Publisher) -> None:
        """Publish what comes over one connection, until the source ends; raise what breaks it."""
        self.status.state = "connecting"
        self.status.connections += 1
        ends = [asyncio.create_task(self._stopped.wait()), asyncio.create_task(publisher.until_refused())]
        try:
            async with aclosing(self._source.updates(self._ids, self._sequences.standings)) as updates:
                while (update := await self._next(updates, ends)) is not None:
                    await self._take(publisher, update)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async def _next(self, updates: AsyncGenerator[Update], ends: Sequence[asyncio.Task[bool]]) -> Update | None:
        """Return the next update; None once the source has ended, or the feed is to stop."""
        if self._stopped.is_set():
            return None
        reading = asyncio.ensure_future(anext(updates, None))
        waited_for = {reading, *ends}
        try:
            done, _ = await asyncio.wait(
                waited_for, timeout=self._source.silence_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                raise SourceError(f"nothing came for {self._source.silence_s:g} s")
            for end in ends:
                if end.done():
                    end.result()  # raises, if the server refuses for good
            return reading.result() if reading.done() else None
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _take(self, publisher: Publisher, update: Update) -> None:
        match update:
            case Connected():
                await self._connect(publisher)
            case Alive():
                await self._tell(publisher)
            case Listed():
                await self._put(update.instruments)
            case Newest():
                await self._take_rows(publisher, None, self._sequences.take_newest(update))
            case Batch():
                for piece in _pieces(update):
                    taken = self._sequences.take(piece)
                    self.status.known += taken.known
                    await self._take_rows(publisher, taken.batch, taken.holes)

    async def _connect(self, publisher: Publisher) -> None:
        self._sequences.begin()
        self.status.state, self.status.problem = "live", ""
        if self._down_ns:
            closed = self._disconnected()
            closed.state = Gap.STATE_CLOSED
            closed.close_time.CopyFrom(timestamp(max(self._clock_ns(), self._down_ns)))
            self._down_ns = 0
            await self._publish(publisher, None, [closed])

    async def _break(self, publisher: Publisher, error: SourceError) -> None:
        self.status.state, self.status.problem = "waiting", str(error)
        self.status.breaks += 1
        _LOG.warning("the source broke off", producer=self._producer, problem=str(error))
        await self._tell_down(publisher)

    async def _end(self, publisher: Publisher) -> None:
        """Tell that nobody reads the source any more, and wait until all is acknowledged."""
        self.status.state = "stopping"
        await self._tell_down(publisher)
        await publisher.flush()

    async def _tell_down(self, publisher: Publisher) -> None:
        if self._source.tells_breaks and not self._down_ns and self._told_ns:
            self._down_ns = self._clock_ns()
            await self._publish(publisher, None, [self._disconnected()])

    async def _tell(self, publisher: Publisher) -> None:
        """Tell that all is well, where nothing was told for a while."""
        self.status.unacknowledged = publisher.waiting_rows
        if self._source.tells_breaks and self._clock_ns() - self._told_ns > _TELL_S * 1e9:
            await self._publish(publisher, None, [])

    async def _take_rows(self, publisher: Publisher, batch: Batch | None, holes: Sequence[Hole]) -> None:
        """Publish a batch, and what is missing before it: recovered, or as gaps; all of it at once."""
        gaps: list[Gap] = []
        if holes:
            recovered, missing = await self._recover(holes)
            self.status.recovered += sum(found.rows for found in recovered)
            gaps = [self._missing(hole) for hole in missing]
            while len(gaps) > _MOST_GAPS:  # first by themselves: only with the rows the place in the source moves
                await publisher.publish(None, gaps=gaps[:_MOST_GAPS])
                del gaps[:_MOST_GAPS]
            batch = _in_order([*recovered, *([] if batch is None else [batch])])
        if batch is not None:
            self.status.note_batch(batch)
        if batch is not None or gaps:
            await self._publish(publisher, batch, gaps)

    async def _recover(self, holes: Sequence[Hole]) -> tuple[list[Batch], list[Hole]]:
        """Return what the source still has of what is missing, and what it has not."""
        room = _MOST_RECOVERED
        found: list[Batch] = []
        missing: list[Hole] = []
        deadline = asyncio.get_running_loop().time() + _RECOVER_S
        for hole in holes:
            if hole.first == 0 or hole.last - hole.first >= room:
                missing.append(hole)
                continue
            rows = await self._ask_for(hole, deadline)
            room -= sum(batch.rows for batch in rows)
            found += rows
            missing += missing_numbers(hole, rows)
        return found, missing

    async def _ask_for(self, hole: Hole, deadline: float) -> list[Batch]:
        symbol = self._symbols[hole.instrument_id]
        try:
            async with asyncio.timeout_at(deadline):
                batches = await self._source.recover(hole.kind, symbol, hole.first, hole.last, self._ids)
        except (SourceError, TimeoutError) as error:
            _LOG.warning("missing rows are not to be had", symbol=symbol, problem=str(error) or "it takes too long")
            return []
        wanted = [_within(batch, hole) for batch in batches if batch.kind is hole.kind]
        return _once([batch for batch in wanted if batch.rows])

    async def _publish(self, publisher: Publisher, batch: Batch | None, gaps: Sequence[Gap]) -> None:
        began_s = time.monotonic()
        self._told_ns = self._clock_ns()
        position = f'{{"at":{self._told_ns},"down":{self._down_ns},"rows":{self._sequences.text}}}'
        await publisher.publish(batch, gaps=gaps, position=position if self._source.tells_breaks else "")
        blocked_s = time.monotonic() - began_s
        self.status.unacknowledged = publisher.waiting_rows
        if blocked_s > _BLOCKED_S:
            self.status.blocked_s += blocked_s
        if blocked_s > _WARN_BLOCKED_S:
            _LOG.warning("the tape is slow: the source was not read", seconds=round(blocked_s, 3))

    async def _pause(self, seconds: float) -> None:
        """Wait before another try, unless the feed is to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()

    def _disconnected(self) -> Gap:
        return Gap(cause=Gap.CAUSE_DISCONNECTED, state=Gap.STATE_OPEN, open_time=timestamp(self._down_ns))

    def _missing(self, hole: Hole) -> Gap:
        symbol = self._symbols[hole.instrument_id]
        _LOG.warning("rows are missing", symbol=symbol, first=hole.first, last=hole.last)
        self.status.gaps += 1
        return Gap(
            cause=Gap.CAUSE_SEQUENCE,
            state=Gap.STATE_OPEN,
            instrument_id=hole.instrument_id,
            kind=hole.kind.value,
            first_sequence=hole.first,
            last_sequence=hole.last,
            open_time=timestamp(self._clock_ns()),
        )


def _within(batch: Batch, hole: Hole) -> Batch:
    """Return the rows that a hole misses."""
    numbers = batch["sequence"]
    return batch.take((batch["instrument_id"] == hole.instrument_id) & (numbers >= hole.first) & (numbers <= hole.last))


def _once(batches: list[Batch]) -> list[Batch]:
    """Return the rows of batches of one instrument as one, each number once."""
    if not batches:
        return []
    whole = concatenate(batches)
    return [whole.take(np.unique(whole["sequence"], return_index=True)[1])]


def _in_order(batches: Sequence[Batch]) -> Batch | None:
    """Return batches of one kind as one; recovered rows stand where they belong, by time."""
    if len(batches) <= 1:
        return batches[0] if batches else None
    whole = concatenate(batches)
    return whole.take(np.lexsort((whole["sequence"], whole["ts_event"])))


def _pieces(batch: Batch) -> Iterator[Batch]:
    if batch.rows <= _AT_ONCE:
        yield batch
        return
    for start in range(0, batch.rows, _AT_ONCE):
        yield batch.slice(start, min(start + _AT_ONCE, batch.rows))
