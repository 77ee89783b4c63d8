"""A JetStream stream as a log: append with an expectation, read from a place, follow."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from marketdata.v1 import error_reason_pb2 as reasons
from mda.market.errors import MarketDataError

_WRONG_PLACE: Final = frozenset({10071, 10070})
"""JetStream's codes for: another newest sequence number; another newest id."""

_STREAM_FULL: Final = frozenset({10077, 10054, 10047})
"""JetStream's codes for: a limit of the stream; of the account; of the server."""

_MOST_ARRIVED: Final = 256
_PENDING_BYTES: Final = 32 << 20
"""How many records, and before them bytes, a follower may have waiting in memory."""

_LIST_TIMEOUT_S: Final = 2.0
_POLL_S: Final = 1.0
"""A follower looks by itself this often, in seconds: live messages may be lost."""


_DUPLICATES_S: Final = 60.0
"""For how long the server knows the ids of records, in seconds: much longer than anybody tries to append."""


def token_of(name: str) -> str:
    """Return the name of a dataset or producer as one token of a NATS subject: names have no `~`."""
    return name.replace(".", "~")


def name_of(token: str) -> str:
    """Return the name that `token_of` made a token of."""
    return token.replace("~", ".")


class WrongPlaceError(Exception):
    """An append that expected another newest record of its subject, or another newest record."""


@dataclass(frozen=True, slots=True)
class NewId:
    """An id for a record, and perhaps the record that it must come after.

    Attributes
    ----------
    id
        Its own. A record whose id is there already is not written again; its place is
        returned.
    after
        The id of the record that must be the newest of the whole log; None for any.
    """

    id: str
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a log.

    Attributes
    ----------
    sequence
        Its place in the log, from 1 up.
    time_ns
        When the log took it, in nanoseconds since the epoch.
    subject
        The subject it was appended under.
    headers
        Its headers, NATS's own among them.
    data
        Its bytes.
    """

    sequence: int
    time_ns: int
    subject: str
    headers: Mapping[str, str]
    data: bytes


class Log:
    """One stream.

    Every record is published again by the server, once it is durable, under
    `live.<subject>`; followers listen there, and read what they missed from the
    stream. So following needs no consumer state on the server.

    Parameters
    ----------
    client
        The connection.
    stream
        The stream's name.
    subjects
        The subjects that it holds, such as `tape.SIM.>`.
    timeout_s
        How long to wait for an answer, in seconds.
    """

    def __init__(self, client: Client, stream: str, subjects: str, *, timeout_s: float = 2.0) -> None:
        self.stream = stream
        self._client = client
        self._jetstream = client.jetstream(timeout=timeout_s)
        self._subjects = subjects
        self._timeout_s = timeout_s

    async def create(self, *, max_bytes: int, replicas: int, keep_s: float | None, newest_only: bool = False) -> bool:
        """Make the stream, if it is not there; return whether it was made.

        Parameters
        ----------
        max_bytes
            Its size limit; when it is reached, appends are refused.
        replicas
            On how many servers each record is.
        keep_s
            Where set, records older than this go, and the oldest make room for new.
        newest_only
            Whether of each subject only the newest record stays.
        """
        config = api.StreamConfig(
            name=self.stream,
            subjects=[self._subjects],
            storage=api.StorageType.FILE,
            discard=api.DiscardPolicy.NEW if keep_s is None else api.DiscardPolicy.OLD,
            max_age=keep_s,
            max_bytes=max_bytes,
            max_msgs_per_subject=1 if newest_only else -1,
            num_replicas=replicas,
            allow_direct=True,
            deny_delete=True,
            duplicate_window=_DUPLICATES_S if keep_s is None else min(_DUPLICATES_S, keep_s),
            republish=api.RePublish(src=self._subjects, dest=f"live.{self._subjects}"),
        )
        with of_the_contract(self.stream):
            try:
                await self._jetstream.stream_info(self.stream)
            except NotFoundError:
                await self._jetstream.add_stream(config)
                return True
        return False

    async def info(self) -> api.StreamInfo | None:
        """Return what the server says of the stream; None if it is not there."""
        with of_the_contract(self.stream):
            try:
                return await self._jetstream.stream_info(self.stream)
            except NotFoundError:
                return None

    async def append(
        self,
        subject: str,
        data: bytes,
        headers: Mapping[str, str],
        expected: int | None,
        new_id: NewId | None = None,
    ) -> int:
        """Append a record and return its sequence number, once it is durable.

        Parameters
        ----------
        subject, data, headers
            The record.
        expected
            The sequence number of the subject's newest record; 0 if there is none, None
            if it does not matter.
        new_id
            Its id, where it has one, and what it comes after.

        Raises
        ------
        WrongPlaceError
            If the newest record is not the expected one. Nothing is written.
        MarketDataError
            TAPE_FULL: nothing is written. TAPE_UNAVAILABLE: it may have been written.
        """
        all_headers = dict(headers)
        if expected is not None:
            all_headers[api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value] = str(expected)
        if new_id is not None:
            all_headers[api.Header.MSG_ID.value] = new_id.id
            if new_id.after is not None:
                all_headers[api.Header.EXPECTED_LAST_MSG_ID.value] = new_id.after
        with of_the_contract(self.stream):
            ack = await self._jetstream.publish(subject, data, timeout=self._timeout_s, headers=all_headers)
            return ack.seq

    async def drop_before(self, sequence: int) -> None:
        """Drop all records before a place.

        Raises
        ------
        MarketDataError
            TAPE_UNAVAILABLE: they may have been dropped.
        """
        if sequence <= 1:
            return  # without a place, JetStream drops everything
        with of_the_contract(self.stream):
            await self._jetstream.purge_stream(self.stream, seq=sequence)

    async def next_of(self, subject: str, after: int) -> Record | None:
        """Return a subject's next record after a place; None if there is none."""
        found = await self._get({"seq": after + 1, "next_by_subj": subject})
        return found[0] if found else None

    async def at(self, sequence: int) -> Record | None:
        """Return the record at a place; None if it is not there."""
        found = await self._get({"seq": sequence})
        return found[0] if found else None

    async def first_since(self, time_ns: int) -> Record | None:
        """Return the first record that the log took at or after a time; None if there is none."""
        query = {"start_time": _timestamp(time_ns), "next_by_subj": self._subjects, "batch": 1}
        found = await self._get(query)
        return found[0] if found else None

    async def last(self, subject: str) -> Record | None:
        """Return the newest record of a subject; None if there is none."""
        found = await self._get({"last_by_subj": subject})
        return found[0] if found else None

    async def read(self, after: int, *, max_records: int = 1024, max_bytes: int = 4 << 20) -> list[Record]:
        """Return the next records after a place, in order; none if there are no more.

        The first one may be further on, where records have gone by age.
        """
        return await self._get(
            {"seq": after + 1, "next_by_subj": self._subjects, "batch": max_records, "max_bytes": max_bytes}
        )

    async def follow(self, after: int) -> AsyncGenerator[list[Record]]:
        """Yield every record after a place, in order, and then those that come, for ever.

        Outages of NATS are waited out.
        """
        arrived: deque[Record] = deque()
        wake = asyncio.Event()

        async def take(message: Msg) -> None:
            if len(arrived) >= _MOST_ARRIVED:
                arrived.clear()  # too fast for us: what is missing is read from the stream
            arrived.append(_record(message))
            wake.set()

        subscription = await self._client.subscribe(
            f"live.{self._subjects}", cb=take, pending_bytes_limit=_PENDING_BYTES
        )
        try:
            while True:
                async with aclosing(self._catch_up(after)) as missed:
                    async for records in missed:
                        after = records[-1].sequence
                        yield records
                while await _woken(wake):
                    wake.clear()
                    records = _continued(arrived, after)
                    if records:
                        after = records[-1].sequence
                        yield records
                    if arrived:  # a hole before it
                        break
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()

    async def _catch_up(self, after: int) -> AsyncGenerator[list[Record]]:
        while True:
            try:
                records = await self.read(after)
            except MarketDataError:
                await asyncio.sleep(0.2)
                continue
            if not records:
                return
            after = records[-1].sequence
            yield records

    async def _get(self, query: Mapping[str, object]) -> list[Record]:
        """Ask by the direct-get API, of any replica (NATS ADR-31)."""
        inbox = self._client.new_inbox()
        with of_the_contract(self.stream):
            subscription = await self._client.subscribe(inbox)
            try:
                await self._client.publish(f"$JS.API.DIRECT.GET.{self.stream}", json.dumps(query).encode(), reply=inbox)
                return await self._answers(subscription, one="batch" not in query)
            finally:
                if not self._client.is_closed:
                    await subscription.unsubscribe()

    async def _answers(self, subscription: Subscription, *, one: bool) -> list[Record]:
        records: list[Record] = []
        while True:
            message = await subscription.next_msg(timeout=self._timeout_s)
            status = (message.headers or {}).get("Status")
            if status in {"204", "404"}:
                return records
            if status is not None:
                raise NoRespondersError
            records.append(_record(message))
            if one:
                return records


async def list_streams(client: Client, subjects: str) -> list[str]:
    """Return the names of the streams that hold any of some subjects.

    Raises
    ------
    MarketDataError
        TAPE_UNAVAILABLE.
    """
    names: list[str] = []
    while True:
        query = json.dumps({"subject": subjects, "offset": len(names)}).encode()
        with of_the_contract(""):
            answer = json.loads((await client.request("$JS.API.STREAM.NAMES", query, timeout=_LIST_TIMEOUT_S)).data)
        page = answer.get("streams") or []
        names += page
        if not page or len(names) >= answer.get("total", 0):
            return names


async def _woken(wake: asyncio.Event) -> bool:
    """Wait for live records; False if it is time to look in the stream."""
    try:
        async with asyncio.timeout(_POLL_S):
            await wake.wait()
    except TimeoutError:
        return False
    return True


def _continued(arrived: deque[Record], after: int) -> list[Record]:
    """Take the records that go on from a place; drop older ones; leave what has a hole before it."""
    records: list[Record] = []
    while arrived and arrived[0].sequence <= after + 1:
        record = arrived.popleft()
        if record.sequence == after + 1:
            records.append(record)
            after = record.sequence
    return records


def _record(message: Msg) -> Record:
    headers = message.headers or {}
    return Record(
        sequence=int(headers["Nats-Sequence"]),
        time_ns=_nanos(headers["Nats-Time-Stamp"]),
        subject=headers["Nats-Subject"],
        headers=headers,
        data=message.data,
    )


def _nanos(text: str) -> int:
    """Return an RFC 3339 time in UTC, with up to nine places, in nanoseconds."""
    seconds, _, places = text.removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(seconds + "+00:00").timestamp()) * 1_000_000_000 + int(places.ljust(9, "0"))


def _timestamp(time_ns: int) -> str:
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09}Z"


@contextmanager
def of_the_contract(stream: str) -> Generator[None]:
    """Turn NATS's failures into those of the contract."""
    dataset = name_of(stream.partition("_")[2])
    task = asyncio.current_task()
    cancels = task.cancelling() if task is not None else 0
    try:
        yield
    except NotFoundError:
        raise
    except APIError as error:
        raise _of_api(error, dataset) from error
    except (NatsError, TimeoutError, OSError) as error:
        raise MarketDataError(
            reasons.ERROR_REASON_TAPE_UNAVAILABLE,
            "The tape does not answer. Send again what is not acknowledged.",
            retry_after_s=0.5,
            dataset=dataset,
        ) from error
    finally:
        # NATS's client waits by `asyncio.wait_for`, which in Python 3.11 forgets that it was
        # cancelled when its answer comes at the same time (python/cpython#86296).
        if task is not None and task.cancelling() > cancels:
            raise asyncio.CancelledError


def _of_api(error: APIError, dataset: str) -> Exception:
    if error.err_code in _WRONG_PLACE:
        return WrongPlaceError(error.description)
    if error.err_code in _STREAM_FULL:
        return MarketDataError(
            reasons.ERROR_REASON_TAPE_FULL,
            f"The tape is full ({error.description}). Nothing is lost: send the batch again later.",
            retry_after_s=5,
            dataset=dataset,
        )
    return MarketDataError(
        reasons.ERROR_REASON_TAPE_UNAVAILABLE,
        f"The tape refused ({error.description}). Send again what is not acknowledged.",
        retry_after_s=1,
        dataset=dataset,
    )
