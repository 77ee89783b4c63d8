"""Databento's live data: the Raw API, over TCP.

As documented for its live gateways: lines of text to authenticate (a challenge is answered, so
that the key never goes over the wire) and to subscribe, then DBN. Sessions may begin in the
past, up to 24 hours: after a break a session begins where the last one ended, so that
nothing is lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar, Final

import databento_dbn
import numpy as np
import structlog

from marketdata.columns import NANOS, Batch, Kind
from marketdata.v1.instrument_pb2 import Instrument
from mda.feeds.dbn import KINDS, Lookup, batch_of, find_ids, instrument_of, make_lookup
from mda.feeds.dbn_stream import DbnStream
from mda.feeds.source import Alive, Connected, Listed, RefusedError, Rule, Source, SourceError, Standings, Update

PORT: Final = 13000
_LOG: Final = structlog.stdlib.get_logger("mda.feeds")
_OPEN_S: Final = 10.0
_DEFINITIONS_S: Final = 30.0
_HEARTBEAT_S: Final = 10
_KEY_TAIL: Final = 5
"""So many of the key's last characters name it."""
_CHUNK_BYTES: Final = 1 << 16
_OVERLAP_NS: Final = NANOS
"""How far before its newest row a session begins again: rows of several instruments are not quite in order of time."""
_KEPT_NS: Final = (24 * 3600 - 300) * NANOS
_REFUSALS: Final = {
    databento_dbn.ErrorCode.AUTH_FAILED,
    databento_dbn.ErrorCode.API_KEY_DEACTIVATED,
    databento_dbn.ErrorCode.SYMBOL_RESOLUTION_FAILED,
    databento_dbn.ErrorCode.INVALID_SUBSCRIPTION,
}


class Databento(Source):
    """Trades and quotes (`mbp-1`) of one of Databento's datasets.

    Rows are known by the time of their event, by which sessions begin, too: a venue's
    `sequence` is that of a packet.

    Parameters
    ----------
    key
        The API key.
    dataset
        Databento's name of it: `GLBX.MDP3`.
    symbols, stype_in
        What to subscribe to, and what sort of symbols these are: `raw_symbol`, `parent`,
        `continuous` or `instrument_id`.
    schemas
        `trades`, `mbp-1` or both.
    gateway
        The host and port of the gateway; that of the dataset, where None.
    """

    name: ClassVar[str] = "databento"
    rules: Mapping[Kind, Rule] = {Kind.QUOTE: Rule.TIMED, Kind.TRADE: Rule.TIMED}
    silence_s: float = 3.0 * _HEARTBEAT_S

    def __init__(
        self,
        key: str,
        dataset: str,
        symbols: Sequence[str],
        schemas: Sequence[str] = ("trades", "mbp-1"),
        *,
        stype_in: str = "raw_symbol",
        gateway: tuple[str, int] | None = None,
    ) -> None:
        self._key = key
        self._dataset = dataset
        self._symbols = symbols
        self._schemas = schemas
        self._stype_in = stype_in
        self._gateway = gateway or (f"{dataset.lower().replace('.', '-')}.lsg.databento.com", PORT)

    async def instruments(self) -> list[Instrument]:
        """Return the definitions of what was asked for: all that are in force, which a session of their own tells."""
        found: dict[str, Instrument] = {}
        stream = DbnStream()
        try:
            async with asyncio.timeout(_DEFINITIONS_S), self._session() as (reader, writer):
                await self._start(writer, {"definition": 0})
                while True:
                    for record in stream.feed(await _read(reader)):
                        if isinstance(record, databento_dbn.InstrumentDefMsg):
                            found[record.raw_symbol] = instrument_of(record)
                        elif _told(record) == databento_dbn.SystemCode.REPLAY_COMPLETED:
                            return _all_or_none(found, self._symbols)
        except TimeoutError:
            if found:
                return list(found.values())
            raise SourceError("Databento tells no definitions") from None

    async def updates(self, ids: Mapping[str, int], standings: Standings) -> AsyncGenerator[Update]:
        """Yield what comes in one session, which begins where the rows end that are known."""
        stream = DbnStream()
        symbols: dict[int, str] = {}
        async with self._session() as (reader, writer):
            await self._start(writer, {schema: _start(KINDS[schema], standings) for schema in self._schemas})
            while True:
                rows: dict[str, list[Any]] = {}
                broken: SourceError | None = None
                for record in stream.feed(await _read(reader)):
                    if isinstance(record, tuple):
                        rows.setdefault(record[0], []).append(record[1])
                    elif isinstance(record, databento_dbn.SymbolMappingMsg):
                        symbols[record.instrument_id] = record.stype_out_symbol or record.stype_in_symbol
                    elif isinstance(record, databento_dbn.Metadata):
                        yield Connected()
                    else:
                        broken = broken or _problem(record)
                        yield Alive()
                if new := [Instrument(symbol=symbol) for symbol in {*symbols.values()} - ids.keys()]:
                    yield Listed(new)
                for batch in _batches(rows, make_lookup(symbols, ids)):
                    yield batch
                if broken is not None:
                    raise broken

    @asynccontextmanager
    async def _session(self) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a session, and authenticate it."""
        try:
            async with asyncio.timeout(_OPEN_S):
                reader, writer = await asyncio.open_connection(*self._gateway)
        except (OSError, TimeoutError) as error:
            raise SourceError(f"{self._gateway[0]}:{self._gateway[1]} does not answer: {error}") from error
        try:
            async with asyncio.timeout(_OPEN_S):
                await self._authenticate(reader, writer)
            yield reader, writer
        except OSError as error:
            raise SourceError(f"the connection broke: {error or type(error).__name__}") from error
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _authenticate(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = await _line(reader)
        challenge = greeting.get("cram") or (await _line(reader)).get("cram")
        if not challenge:
            raise SourceError("the gateway sends no challenge")
        digest = hashlib.sha256(f"{challenge}|{self._key}".encode()).hexdigest()
        fields = {
            "auth": f"{digest}-{self._key[-_KEY_TAIL:]}",
            "dataset": self._dataset,
            "encoding": "dbn",
            "ts_out": "0",
            "heartbeat_interval_s": _HEARTBEAT_S,
            "client": "market-data-agent",
        }
        await _send(writer, fields)
        answer = await _line(reader)
        if answer.get("success") != "1":
            raise RefusedError(f"Databento refuses: {answer.get('error') or 'no reason is told'}")

    async def _start(self, writer: asyncio.StreamWriter, starts: Mapping[str, int | None]) -> None:
        """Subscribe to schemas, each from a time on, in nanoseconds, or from now on, where None; and start."""
        for number, (schema, start) in enumerate(starts.items(), 1):
            fields: dict[str, object] = {"schema": schema, "stype_in": self._stype_in}
            fields |= {"symbols": ",".join(self._symbols)} | ({} if start is None else {"start": start})
            await _send(writer, fields | {"snapshot": 0, "id": number, "is_last": 1})
        await _send(writer, {"start_session": 0})


def _start(kind: Kind, standings: Standings) -> int | None:
    """Return when a session begins: a little before the newest row that is known; now, where there is none."""
    times = [standing.time_ns for (of, _), standing in standings.items() if of is kind]
    return max(max(times) - _OVERLAP_NS, time.time_ns() - _KEPT_NS) if times else None


def _batches(rows: Mapping[str, list[Any]], lookup: Lookup) -> Iterator[Batch]:
    """Yield the records of each schema as one batch.

    Raises
    ------
    SourceError
        If one is of an instrument that the session has not named.
    """
    for schema, found in rows.items():
        records = np.concatenate(found)
        ids = find_ids(records, lookup)
        if not ids.all():
            raise SourceError("there are rows of an instrument that the session has not named")
        yield batch_of(records, schema, ids)


def _told(record: Any) -> Any:
    """Return the code of a system message; None for anything else."""
    return record.code if isinstance(record, databento_dbn.SystemMsg) else None


def _problem(record: Any) -> SourceError | None:
    """Return what a record says that breaks the session; None where it says nothing of the sort."""
    if _told(record) == databento_dbn.SystemCode.SLOW_READER_WARNING:
        _LOG.warning("Databento says that it is read too slowly", says=record.msg)
    if not isinstance(record, databento_dbn.ErrorMsg):
        return None
    refused = any(record.code == code for code in _REFUSALS)
    return (RefusedError if refused else SourceError)(f"Databento says: {record.err}")


def _all_or_none(found: Mapping[str, Instrument], symbols: Sequence[str]) -> list[Instrument]:
    if not found:
        raise RefusedError(f"Databento has no definition of {', '.join(symbols)}.")
    return list(found.values())


async def _read(reader: asyncio.StreamReader) -> bytes:
    data = await reader.read(_CHUNK_BYTES)
    if not data:
        raise SourceError("the gateway closed the connection")
    return data


async def _line(reader: asyncio.StreamReader) -> dict[str, str]:
    """Return the fields of a line."""
    try:
        line = await reader.readuntil(b"\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise SourceError("the gateway closed the connection before it had let us in") from error
    parts = (part.partition("=") for part in line.decode(errors="replace").strip().split("|"))
    return {name: value for name, _, value in parts}


async def _send(writer: asyncio.StreamWriter, fields: Mapping[str, object]) -> None:
    writer.write(("|".join(f"{name}={value}" for name, value in fields.items()) + "\n").encode())
    await writer.drain()
