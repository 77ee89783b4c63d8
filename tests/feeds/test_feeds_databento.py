"""Databento's Raw API: a gateway that speaks it, with records of Databento's own encoder, and cuts sessions."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import databento_dbn as dbn
import numpy as np
import pytest
from dbn_files import definition, metadata, quote, trade
from feed_api import Api
from hypothesis import given
from hypothesis import strategies as st
from venues import CUT, on_tape, until

from marketdata.client import Client
from marketdata.columns import NANOS, Batch, Kind
from mda.feeds import databento as databento_module
from mda.feeds.databento import Databento
from mda.feeds.dbn_stream import DbnStream
from mda.feeds.feed import Feed
from mda.feeds.source import Connected, RefusedError, SourceError, Standing

KEY = "db-0123456789abcdef0123456789abc"
T0_NS = 1_719_792_000 * NANOS
HEAD = metadata(None, {})


def mapping(symbol: str, instrument_id: int) -> bytes:
    kinds = (dbn.SType.RAW_SYMBOL, symbol, dbn.SType.INSTRUMENT_ID, symbol)
    return bytes(dbn.SymbolMappingMsg(1, instrument_id, T0_NS, *kinds, 0, 0))


def system(code: dbn.SystemCode) -> bytes:
    return bytes(dbn.SystemMsg(T0_NS, "told", code))


def problem(code: dbn.ErrorCode) -> bytes:
    return bytes(dbn.ErrorMsg(T0_NS, "something is wrong", code=code))


def one(number: int, instrument_id: int = 42, **values: Any) -> bytes:
    """Return a trade; its number is its time in ms after T0, and its sequence."""
    time_ns = T0_NS + number * 1_000_000
    return trade(instrument_id=instrument_id, ts_event=time_ns, ts_recv=time_ns + 500, sequence=number, **values)


@dataclass
class Gateway:
    """A live gateway; each session plays the next script, from the subscription's start on.

    Attributes
    ----------
    scripts
        For each session the bytes of its records, after the metadata.
    lines
        The lines that came, without those of authentication.
    """

    scripts: list[list[Any]]
    definitions: Sequence[bytes] = (
        definition("ESU4", instrument_id=42, ts_event=T0_NS, ts_recv=T0_NS, min_price_increment=250_000_000),
        definition("NQU4", instrument_id=7, ts_event=T0_NS, ts_recv=T0_NS),
    )
    lines: list[dict[str, str]] = field(default_factory=list)
    greeting: bytes = b"lsg_version=0.7.1\ncram=t7kNhwj4xqR0QYjzFKtBEG2ec2pXJ4FK\n"
    address: tuple[str, int] = ("", 0)
    sessions: int = 0

    async def serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            writer.write(self.greeting)
            given = _fields(await reader.readuntil(b"\n"))
            right = hashlib.sha256(b"t7kNhwj4xqR0QYjzFKtBEG2ec2pXJ4FK|" + KEY.encode()).hexdigest()
            if given["auth"] != f"{right}-{KEY[-5:]}":
                writer.write(b"success=0|error=Authentication failed.\n")
                return
            assert (given["dataset"], given["encoding"], given["ts_out"]) == ("GLBX.MDP3", "dbn", "0")
            writer.write(b"success=1|session_id=135567\n")
            asked: list[dict[str, str]] = []
            while "start_session" not in (fields := _fields(await reader.readuntil(b"\n"))):
                asked.append(fields)
            await self._play(asked, writer)
            await reader.read()
        writer.close()

    async def _play(self, asked: list[dict[str, str]], writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        if asked[0]["schema"] == "definition":
            assert asked[0]["start"] == "0"
            writer.write(b"".join(self.definitions) + system(dbn.SystemCode.REPLAY_COMPLETED))
            return
        self.lines += asked
        script = self.scripts[min(self.sessions, len(self.scripts) - 1)]
        self.sessions += 1
        for part in script:
            if part == CUT:
                await writer.drain()
                writer.transport.abort()
                return
            writer.write(part)
            await writer.drain()


def _fields(line: bytes) -> dict[str, str]:
    return dict(part.split("=", 1) for part in line.decode().strip().split("|"))


@asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator[Gateway]:
    tasks: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(gateway.serve_one(reader, writer)))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        gateway.address = server.sockets[0].getsockname()[:2]
        yield gateway
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def source(there: Gateway, key: str = KEY, **given: Any) -> Databento:
    return Databento(key, "GLBX.MDP3", ["ESU4", "NQU4"], **({"gateway": there.address} | given))


NAMED = [mapping("ESU4", 42), mapping("NQU4", 7)]
SESSION = [
    *NAMED,
    system(dbn.SystemCode.SUBSCRIPTION_ACK),
    one(1),
    one(2),
    quote((5, 6), (7, 8), instrument_id=7, ts_event=T0_NS, ts_recv=T0_NS),
    one(3),
    system(dbn.SystemCode.HEARTBEAT),
    one(4, 7),
]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=40))
def test_a_stream_is_read_in_whatever_pieces_it_comes(sizes: list[int]) -> None:
    data = HEAD + b"".join(SESSION)
    stream = DbnStream()
    found: list[Any] = []
    at = 0
    for size in [*sizes, len(data)]:
        found += stream.feed(data[at : at + size])
        at += size
    rows = [record for record in found if isinstance(record, tuple)]
    others = [type(record).__name__ for record in found if not isinstance(record, tuple)]
    trades = np.concatenate([records for schema, records in rows if schema == "trades"])
    assert trades["sequence"].tolist() == [1, 2, 3, 4]
    assert sum(len(records) for schema, records in rows if schema == "mbp-1") == 1
    assert others == ["Metadata", "SymbolMappingMsg", "SymbolMappingMsg", "SystemMsg", "SystemMsg"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not begin as DBN"),
        (b"DBN\x03\xff\xff\xff\xff", "does not begin as DBN"),
        (HEAD + b"\x00" * 64, "is none"),
        (HEAD + b"\x0d\x00" + b"\x00" * 64, "has 52 bytes, not 48"),
    ],
)
def test_what_is_no_dbn(data: bytes, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        list(DbnStream().feed(data))


async def test_definitions_and_rows() -> None:
    async with running(Gateway([SESSION])) as gateway:
        live = source(gateway)
        found = await live.instruments()
        assert [(one.symbol, one.tick_size_nanos) for one in found] == [("ESU4", 250_000_000), ("NQU4", 250_000_000)]
        batches: list[Batch] = []
        updates = live.updates({"ESU4": 1, "NQU4": 2}, {})
        assert await anext(updates) == Connected()
        async with asyncio.timeout(10):
            while sum(batch.rows for batch in batches) < 5:
                if isinstance(update := await anext(updates), Batch):
                    batches.append(update)
        await updates.aclose()
    trades = [batch for batch in batches if batch.kind is Kind.TRADE]
    assert [number for batch in trades for number in batch["sequence"].tolist()] == [1, 2, 3, 4]
    assert [number for batch in trades for number in batch["instrument_id"].tolist()] == [1, 1, 1, 2]
    assert trades[0]["price"][0] == 5_495_250_000_000
    assert [(line["schema"], line["stype_in"], line["symbols"], line["id"]) for line in gateway.lines] == [
        ("trades", "raw_symbol", "ESU4,NQU4", "1"),
        ("mbp-1", "raw_symbol", "ESU4,NQU4", "2"),
    ]
    assert all("start" not in line for line in gateway.lines)


async def test_a_key_that_is_wrong_is_refused_and_never_sent() -> None:
    async with running(Gateway([SESSION])) as gateway:
        with pytest.raises(RefusedError, match="Authentication failed"):
            await source(gateway, "db-wrong").instruments()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (dbn.ErrorCode.SYMBOL_RESOLUTION_FAILED, RefusedError),
        (dbn.ErrorCode.INTERNAL_ERROR, SourceError),
        (dbn.ErrorCode.SKIPPED_RECORDS_AFTER_SLOW_READING, SourceError),
    ],
)
async def test_errors_of_the_gateway_come_after_the_rows_before_them(
    code: dbn.ErrorCode, kind: type[Exception]
) -> None:
    script = [*NAMED, system(dbn.SystemCode.SLOW_READER_WARNING) + one(1) + problem(code)]
    async with running(Gateway([script])) as gateway:
        updates = source(gateway).updates({"ESU4": 1, "NQU4": 2}, {})
        rows = 0
        with pytest.raises(SourceError, match="something is wrong") as caught:
            async for update in updates:
                rows += update.rows if isinstance(update, Batch) else 0
    assert (rows, type(caught.value)) == (1, kind)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ([one(1)], "has not named"),
        ([b"\x00" * 16], "is none"),
        ([CUT], "broke|closed"),
    ],
)
async def test_what_breaks_a_session(script: list[Any], says: str) -> None:
    async with running(Gateway([script])) as gateway:
        with pytest.raises(SourceError, match=says):
            async for _ in source(gateway).updates({"ESU4": 1}, {}):
                pass


@pytest.mark.parametrize("greeting", [b"lsg_version=1\nhello=1\n", b"x" * 99_999, b"lsg_version=1\n" + b"y" * 99_999])
async def test_a_gateway_that_is_none(greeting: bytes) -> None:
    async with running(Gateway([], greeting=greeting)) as gateway:
        with pytest.raises(SourceError, match=r"no challenge|before it had let us in"):
            await source(gateway).instruments()


async def test_nobody_there() -> None:
    with pytest.raises(SourceError, match="does not answer"):
        await source(Gateway([]), gateway=("127.0.0.1", 9)).instruments()


async def test_no_definitions_are_a_refusal_and_silence_is_not() -> None:
    async with running(Gateway([], definitions=())) as gateway:
        with pytest.raises(RefusedError, match="no definition of ESU4, NQU4"):
            await source(gateway).instruments()


def test_a_session_begins_a_little_before_what_is_known_but_not_too_far_back() -> None:
    standings = {(Kind.TRADE, 1): Standing(5 * NANOS, 1), (Kind.QUOTE, 1): Standing(T0_NS, 1)}
    start = databento_module._start(Kind.TRADE, standings)
    assert start is not None
    assert start > T0_NS  # a day ago, not 1970
    assert databento_module._start(Kind.TRADE, {}) is None


async def test_sessions_that_break_go_on_without_loss(api: Api, nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databento_module, "_KEPT_NS", 1 << 62)  # these rows are of 2024
    scripts = [
        [*NAMED, one(1) + one(2) + one(2) + one(3, 7), CUT],
        # from a second before: all of it comes again, with a third of one time, and what is new
        [*NAMED, one(1), one(2) + one(2) + one(2), one(3, 7) + one(4)[:20], CUT],
        [*NAMED, mapping("ESZ4", 99), one(1) + one(2) + one(2) + one(2) + one(3, 7) + one(4) + one(5, 99)],
    ]
    async with running(Gateway(scripts)) as gateway, Client.connect(api.url, api.api_key) as client:
        feed = Feed(client, source(gateway, schemas=["trades"]), "GLBX.MDP3")
        task = asyncio.create_task(feed.run())
        await until(lambda: feed.status.rows == 7 or task.done())
        feed.stop()
        await asyncio.wait_for(task, 20)
        known = {one.symbol: one.instrument_id for one in await client.list_instruments("GLBX.MDP3")}
    tape = await on_tape(nats_url, "GLBX.MDP3")
    assert tape.numbers(Kind.TRADE, known["ESU4"]) == [1, 2, 2, 2, 4]
    assert tape.numbers(Kind.TRADE, known["NQU4"]) == [3]
    assert tape.numbers(Kind.TRADE, known["ESZ4"]) == [5]  # without a definition, but with a name
    assert tape.facts == ["down open", "down closed"] * 2 + ["down open"]
    assert [line.get("start") for line in gateway.lines] == [None, *[str(T0_NS + 3_000_000 - NANOS)] * 2]
