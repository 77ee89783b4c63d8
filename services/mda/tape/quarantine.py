"""The quarantine of a dataset: rows that were set aside, on a log of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from nats.aio.client import Client
from nats.js import api
from numpy.typing import NDArray

from marketdata.codec import to_bytes
from marketdata.columns import Batch, from_message
from marketdata.v1 import batch_pb2
from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1 import quarantine_pb2 as wire
from marketdata.wire import parse
from mda.market.errors import MarketDataError
from mda.tape.log import Log, NewId, Record, name_of, token_of
from mda.tape.tape import Retention

MAX_ITEM_ROWS: Final = 1_000
"""The most rows of one item: of more rows of a batch several are made."""

_MAX_BYTES: Final = 256 << 20
"""JetStream sets a stream's limit aside when it makes it."""

_PREVIOUS: Final = "Mda-Previous"


@dataclass(frozen=True, slots=True)
class SetAside:
    """Rows of one batch that were set aside.

    Attributes
    ----------
    number
        The producer's number of the batch.
    positions
        Where the rows were in the batch, ascending.
    batch
        The rows, with their verdicts.
    """

    number: int
    positions: NDArray[np.uint32]
    batch: Batch


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """Rows of one producer that were set aside together.

    Attributes
    ----------
    sequence
        Its place in the quarantine, from 1 up.
    time_ns
        When it was written, in nanoseconds since the epoch.
    producer
        Whose rows they are.
    previous
        The place of the producer's entry before it; 0 if there is none.
    id
        The id that it was written with.
    items
        The rows, in order of batch number.
    """

    sequence: int
    time_ns: int
    producer: str
    previous: int
    id: str
    items: list[SetAside]


class Quarantine:
    """The rows of one dataset that were set aside. It keeps them as long as its tape keeps rows."""

    def __init__(self, client: Client, dataset: str) -> None:
        self.dataset = dataset
        token = token_of(dataset)
        self._prefix = f"quarantine.{token}"
        self._log = Log(client, f"QUARANTINE_{token}", f"{self._prefix}.>")

    async def create(self, retention: Retention) -> None:
        """Make the log, if it is not there."""
        max_bytes = min(retention.max_bytes, _MAX_BYTES)
        await self._log.create(max_bytes=max_bytes, replicas=retention.replicas, keep_s=retention.keep_s)

    async def append(self, producer: str, items: Sequence[SetAside], entry_id: str, previous: int) -> int:
        """Append an entry and return its place, once it is durable.

        Parameters
        ----------
        producer, items
            The rows, and whose they are.
        entry_id
            An id of its own. An entry whose id is there already is not written again.
        previous
            The place of the producer's newest entry; 0 if there is none.

        Raises
        ------
        WrongPlaceError
            If the newest entry is not that one. Nothing is written.
        MarketDataError
            TAPE_FULL: nothing is written. TAPE_UNAVAILABLE: it may have been written.
        """
        data = wire.QuarantineRecord(items=map(_to_wire, items)).SerializeToString()
        headers = {_PREVIOUS: str(previous)}
        try:
            return await self._log.append(self._subject(producer), data, headers, previous, NewId(entry_id))
        except MarketDataError as error:
            raise _full(self.dataset) if error.reason == reasons.ERROR_REASON_TAPE_FULL else error from None

    async def newest_of(self, producer: str) -> QuarantineEntry | None:
        """Return a producer's newest entry; None if it has none."""
        record = await self._log.last(self._subject(producer))
        return None if record is None else _entry(record)

    async def next_of(self, producer: str, after: int) -> QuarantineEntry | None:
        """Return a producer's next entry after a place; None if there is none."""
        record = await self._log.next_of(self._subject(producer), after)
        return None if record is None else _entry(record)

    async def read(self, after: int) -> list[QuarantineEntry]:
        """Return the next entries after a place, in order; none if there are no more."""
        return [_entry(record) for record in await self._log.read(after)]

    def _subject(self, producer: str) -> str:
        return f"{self._prefix}.{token_of(producer)}"


def _to_wire(item: SetAside) -> wire.SetAside:
    batch = batch_pb2.Batch.FromString(to_bytes(item.batch))
    return wire.SetAside(number=item.number, positions=item.positions.tolist(), batch=batch)


def _entry(record: Record) -> QuarantineEntry:
    items = map(_from_wire, parse(wire.QuarantineRecord, record.data).items)
    producer = name_of(record.subject.rpartition(".")[2])
    entry_id = record.headers.get(api.Header.MSG_ID.value, "")
    previous = int(record.headers.get(_PREVIOUS, 0))
    return QuarantineEntry(record.sequence, record.time_ns, producer, previous, entry_id, list(items))


def _from_wire(item: Any) -> SetAside:
    return SetAside(item.number, np.array(item.positions, dtype=np.uint32), from_message(item.batch))


def _full(dataset: str) -> MarketDataError:
    return MarketDataError(
        reasons.ERROR_REASON_TAPE_FULL,
        "The quarantine is full, and the batch has rows to set aside. Nothing is lost: have the policy flag or "
        "refuse such rows, then send the batch again.",
        retry_after_s=5,
        dataset=dataset,
    )
