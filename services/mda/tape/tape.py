"""The tape and the instrument log of a dataset."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

from nats.aio.client import Client
from nats.js import api
from opentelemetry import propagate, trace

from marketdata.v1.instrument_pb2 import Instrument, InstrumentList
from marketdata.v1.policy_pb2 import Policy
from mda.market.instruments import Directory
from mda.tape.archived import Archived, Standing
from mda.tape.chain import Link, make_link
from mda.tape.log import Log, NewId, Record, list_streams, name_of, token_of

_TRACER: Final = trace.get_tracer("mda")
_STREAM_PREFIX: Final = "TAPE_"
_FIRST: Final = "Mda-First"
_LAST: Final = "Mda-Last"
_INSTRUMENTS: Final = "Mda-Instruments"
_NUMBERING: Final = "Mda-Numbering"
_POSITION: Final = "Mda-Position"
_PREVIOUS: Final = "Mda-Previous"
_SALT: Final = "Mda-Salt"
_CHAIN: Final = api.Header.MSG_ID.value
"""The chain's hash is also the id by which JetStream knows an entry."""

_INSTRUMENTS_MAX_BYTES: Final = 256 << 20
"""JetStream sets a stream's limit aside when it makes it; this is room for millions of instruments."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a tape: batches of one producer that were made durable together.

    Attributes
    ----------
    first_number, last_number
        The producer's numbers of the first and the last batch; 0 where it has none.
    instruments_version
        The version of the directory that its rows were validated with.
    payload
        The batches, as the bytes of field 1 of a message (`repeated Batch batches = 1`),
        with the gaps that they show before them.
    numbering
        What is known of its producer's sequence numbers after it, as text; empty where
        nothing is.
    position
        Where its producer stands in its source after it, as that said; empty where it said
        nothing.
    """

    first_number: int
    last_number: int
    instruments_version: int
    payload: bytes
    numbering: str = ""
    position: str = ""

    def link(self, producer: str, previous: str, salt: str = "") -> Link:
        """Return its link in the chain of its producer, whose entry before it has the hash `previous`."""
        facts = [self.first_number, self.last_number, self.instruments_version]
        known = [self.numbering, self.position] if self.position else [self.numbering] if self.numbering else []
        return make_link(producer, previous, [*facts, *known], self.payload, salt)


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry with its place on the tape.

    Attributes
    ----------
    sequence
        Its place, from 1 up.
    time_ns
        When the tape took it, in nanoseconds since the epoch.
    producer
        Who published it.
    entry
        The entry.
    link
        Its link in its producer's chain, as it was written.
    headers
        Its headers: the trace context of who wrote it is in them.
    """

    sequence: int
    time_ns: int
    producer: str
    entry: Entry
    link: Link
    headers: dict[str, str]

    @property
    def mark(self) -> int:
        """The first 32 bits of its hash, for cursors; 0 for an entry without one."""
        return int(self.link.hash[:8] or "0", 16)

    @property
    def standing(self) -> Standing:
        """Where its producer stands after it."""
        entry = self.entry
        return Standing(
            sequence=self.sequence,
            on_tape=True,
            last_number=entry.last_number,
            instruments_version=entry.instruments_version,
            hash=self.link.hash,
            numbering=entry.numbering,
            position=entry.position,
        )

    @property
    def intact(self) -> bool:
        """Whether it says what was written."""
        return self.entry.link(self.producer, self.link.previous, self.link.salt) == self.link


@dataclass(frozen=True, slots=True)
class Retention:
    """How much a tape keeps.

    Attributes
    ----------
    max_bytes
        Its size limit, in bytes.
    replicas
        On how many servers each entry is.
    keep_s
        Where set, entries older than this go, in seconds; otherwise nothing ever goes
        by itself, and a full tape refuses.
    """

    max_bytes: int
    replicas: int
    keep_s: float | None = None


class Tape:
    """The tape of one dataset.

    Attributes
    ----------
    dataset
        Its name.
    archived
        What the archive has told of it.
    """

    def __init__(self, client: Client, dataset: str) -> None:
        self.dataset = dataset
        self.archived = Archived(client, dataset)
        self._prefix = f"tape.{token_of(dataset)}"
        self._log = Log(client, f"{_STREAM_PREFIX}{token_of(dataset)}", f"{self._prefix}.>")

    async def create(self, retention: Retention) -> None:
        """Make the tape, and what goes with it, where it is not there."""
        await self.archived.create(retention.replicas)
        await self._log.create(max_bytes=retention.max_bytes, replicas=retention.replicas, keep_s=retention.keep_s)

    async def bounds(self) -> TapeBounds | None:
        """Return where the tape begins and ends; None if it is not there."""
        info = await self._log.info()
        if info is None or info.created is None:
            return None
        epoch = int(info.created.timestamp() * 1_000_000)
        # JetStream calls the first place of a stream that never held anything 0.
        return TapeBounds(epoch, max(info.state.first_seq, 1), info.state.last_seq, info.state.bytes)

    async def append(self, producer: str, entry: Entry, link: Link, expected: int | str) -> int:
        """Append an entry and return its sequence number, once it is durable.

        Parameters
        ----------
        producer, entry, link
            The entry, whose it is, and its link.
        expected
            The sequence number of the producer's entry before it; or the hash of an entry
            that must be the tape's newest, where the number is not known yet.

        Errors are those of `Log.append`. The current trace goes with it.
        """
        after, sequence = (expected, None) if isinstance(expected, str) else (None, expected)
        headers = {
            _FIRST: str(entry.first_number),
            _LAST: str(entry.last_number),
            _INSTRUMENTS: str(entry.instruments_version),
            _PREVIOUS: link.previous,
            _SALT: link.salt,
        }
        if entry.numbering:
            headers[_NUMBERING] = entry.numbering
        if entry.position:
            headers[_POSITION] = entry.position
        with _TRACER.start_as_current_span("tape append", kind=trace.SpanKind.PRODUCER) as span:
            span.set_attribute("mda.dataset", self.dataset)
            propagate.inject(headers)
            new_id = NewId(link.hash, after)
            return await self._log.append(self._subject(producer), entry.payload, headers, sequence, new_id)

    async def drop_before(self, sequence: int) -> None:
        """Drop all entries before a place: somebody else has them, and where their producers stood."""
        await self._log.drop_before(sequence)

    async def next_of(self, producer: str, after: int) -> StoredEntry | None:
        """Return a producer's next entry after a place; None if there is none."""
        record = await self._log.next_of(self._subject(producer), after)
        return None if record is None else _stored(record)

    async def newest_of(self, producer: str) -> StoredEntry | None:
        """Return a producer's newest entry that the tape holds; None if it holds none."""
        record = await self._log.last(self._subject(producer))
        return None if record is None else _stored(record)

    async def standing_of(self, producer: str) -> Standing:
        """Return where a producer stands: by its newest entry, or where that was dropped, by what the archive told."""
        newest = await self.newest_of(producer)
        return await self.archived.standing(producer) if newest is None else newest.standing

    async def at(self, sequence: int) -> StoredEntry | None:
        """Return the entry at a place; None if it is not there."""
        record = await self._log.at(sequence)
        return None if record is None else _stored(record)

    async def first_since(self, time_ns: int) -> StoredEntry | None:
        """Return the first entry that the tape took at or after a time; None if there is none."""
        record = await self._log.first_since(time_ns)
        return None if record is None else _stored(record)

    async def read(self, after: int, *, max_records: int = 1024, max_bytes: int = 4 << 20) -> list[StoredEntry]:
        """Return the next entries after a place; none if there are no more."""
        records = await self._log.read(after, max_records=max_records, max_bytes=max_bytes)
        return [_stored(record) for record in records]

    async def follow(self, after: int) -> AsyncGenerator[list[StoredEntry]]:
        """Yield all entries after a place, in order, for ever."""
        async for records in self._log.follow(after):
            yield [_stored(record) for record in records]

    def _subject(self, producer: str) -> str:
        return f"{self._prefix}.{token_of(producer)}"


@dataclass(frozen=True, slots=True)
class TapeBounds:
    """Where a tape begins and ends.

    Attributes
    ----------
    epoch
        When it was made, in microseconds: a tape that is made anew has another.
    first, last
        The sequence numbers of its oldest and newest entry; `last` is `first` - 1
        where it is empty.
    size
        How many bytes it takes.
    """

    epoch: int
    first: int
    last: int
    size: int = 0


async def list_datasets(client: Client) -> list[str]:
    """Return the datasets that have a tape, in order of name.

    Raises
    ------
    MarketDataError
        TAPE_UNAVAILABLE.
    """
    streams = await list_streams(client, "tape.>")
    return sorted(name_of(name.removeprefix(_STREAM_PREFIX)) for name in streams)


class InstrumentLog:
    """The log of a dataset's instruments, from which every service builds its directory."""

    def __init__(self, client: Client, dataset: str) -> None:
        self._subject = f"instruments.{token_of(dataset)}"
        self._log = Log(client, f"INSTRUMENTS_{token_of(dataset)}", self._subject)

    async def create(self, retention: Retention) -> None:
        """Make the log, if it is not there. Nothing in it ever goes by itself."""
        max_bytes = min(retention.max_bytes, _INSTRUMENTS_MAX_BYTES)
        await self._log.create(max_bytes=max_bytes, replicas=retention.replicas, keep_s=None)

    async def exists(self) -> bool:
        """Return whether the log is there."""
        return await self._log.info() is not None

    async def append(self, instruments: Sequence[Instrument], directory: Directory) -> int:
        """Append instruments, if the directory is up to date; return the new version.

        Raises
        ------
        WrongPlaceError
            If the directory lacks an entry of the log.
        """
        return await self._append(InstrumentList(instruments=instruments), directory)

    async def append_policy(self, policy: Policy, directory: Directory) -> int:
        """Append a policy; otherwise as `append`."""
        return await self._append(InstrumentList(policy=policy), directory)

    async def _append(self, entry: InstrumentList, directory: Directory) -> int:
        return await self._log.append(self._subject, entry.SerializeToString(), {}, directory.version)

    async def catch_up(self, directory: Directory) -> None:
        """Bring a directory up to date."""
        while records := await self._log.read(directory.version):
            for record in records:
                apply_record(directory, record)

    async def follow(self, directory: Directory) -> AsyncGenerator[None]:
        """Keep a directory up to date, for ever; yield after each change."""
        async for records in self._log.follow(directory.version):
            for record in records:
                apply_record(directory, record)
            yield


def apply_record(directory: Directory, record: Record) -> None:
    """Apply a record of an instrument log that the directory does not have yet."""
    if record.sequence > directory.version:
        entry = InstrumentList.FromString(record.data)
        directory.apply(entry.instruments, record.sequence, entry.policy if entry.HasField("policy") else None)


def _stored(record: Record) -> StoredEntry:
    headers = dict(record.headers)
    entry = Entry(
        first_number=int(headers.get(_FIRST, 0)),
        last_number=int(headers.get(_LAST, 0)),
        instruments_version=int(headers.get(_INSTRUMENTS, 0)),
        payload=record.data,
        numbering=headers.get(_NUMBERING, ""),
        position=headers.get(_POSITION, ""),
    )
    producer = name_of(record.subject.rpartition(".")[2])
    found = Link(headers.get(_PREVIOUS, ""), headers.get(_SALT, ""), headers.get(_CHAIN, ""))
    return StoredEntry(record.sequence, record.time_ns, producer, entry, found, headers)
