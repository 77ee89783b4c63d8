"""`mda feed` against a whole stack, and servers that speak as venues do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from marketdata.client import Client
from marketdata.columns import NANOS
from marketdata.v1.gap_pb2 import Gap
from tests.feeds.venues import CUT, Answer, Venue, as_json, rest, running
from tests.stack.conftest import MDA, Stack

pytestmark = pytest.mark.timeout(300)  # it starts several processes, one after the other


class Feed:
    """A running `mda feed`, whose status comes as JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.facts: dict[str, Any] = {"rows": 0}

    async def until(self, fact: str, least: int) -> None:
        async with asyncio.timeout(100):
            while self.facts.get(fact, 0) < least:
                await self._next()

    async def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(60):
            while await self._next():
                pass
            return await self.process.wait()

    async def _next(self) -> bool:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if line:
            self.facts = json.loads(line)
        else:
            assert self.process.stderr is not None
            assert self.facts["state"] == "done", (await self.process.stderr.read()).decode()
        return bool(line)


@asynccontextmanager
async def feeding(stack: Stack, *args: str, **environment: str) -> AsyncGenerator[Feed]:
    process = await asyncio.create_subprocess_exec(
        *(MDA, "feed", *args, "--output", "json", "--every", "0.1", "--data", str(stack.data)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        yield Feed(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def trade(number: int, base_ns: int) -> dict[str, Any]:
    time_us = base_ns // 1000 + number
    event = {"e": "trade", "E": time_us, "s": "BNBBTC", "t": number, "p": f"0.00{number}", "q": "1", "T": time_us}
    return {"stream": "bnbbtc@trade", "data": event | {"m": True, "M": True}}


def confirmed(subscription: Any) -> list[Any]:
    return [{"result": None, "id": subscription["id"]}]


async def test_binance_from_its_socket_to_a_subscriber(stack: Stack, client: Client) -> None:
    begun_ns = time.time_ns()

    def respond(path: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        if path == "/api/v3/exchangeInfo":
            filters = [{"filterType": "PRICE_FILTER", "tickSize": "0.00000100"}]
            return as_json({"symbols": [{"symbol": "BNBBTC", "filters": filters}]})
        if query["fromId"] != "4":
            return as_json([])
        old = {"id": 4, "price": "0.004", "qty": "1", "time": begun_ns // 1000 + 4, "isBuyerMaker": True}
        return as_json([old])

    first, last = [trade(number, begun_ns) for number in (1, 2, 3)], [trade(number, begun_ns) for number in (3, 6, 7)]
    with rest(respond) as rest_url:
        async with running(Venue([[*first, CUT], last, [trade(7, begun_ns), trade(8, begun_ns)]], confirmed)) as venue:
            args = ("binance", "--symbols", "bnbbtc", "--dataset", "FEED.BINANCE", "--kind", "trades")
            args += ("--venue-url", venue.url, "--venue-rest-url", rest_url)
            async with feeding(stack, *args) as feed:
                await feed.until("rows", 6)
                assert await feed.stop(signal.SIGINT) == 0
                assert (feed.facts["state"], feed.facts["unacknowledged_rows"]) == ("done", 0)
                assert (feed.facts["recovered_rows"], feed.facts["gaps"], feed.facts["known_rows"]) == (1, 1, 1)
            async with feeding(stack, *args) as feed:
                await feed.until("rows", 1)
                assert await feed.stop(signal.SIGTERM) == 0
                assert feed.facts["known_rows"] == 1
    async with asyncio.timeout(30):
        while len(trades := await client.trades("FEED.BINANCE", ["BNBBTC"], start_ns=begun_ns)) < 7:
            await asyncio.sleep(0.05)
    assert [found.sequence for found in trades] == [1, 2, 3, 4, 6, 7, 8]
    listed = json.loads(stack.mda("gaps", "FEED.BINANCE", "--output", "json").stdout)
    told = [(gap["cause"].removeprefix("CAUSE_"), gap["state"].removeprefix("STATE_")) for gap in reversed(listed)]
    down = [("DISCONNECTED", "OPEN"), ("DISCONNECTED", "CLOSED")]
    assert told == [*down, ("SEQUENCE", "OPEN"), *down, down[0]]
    hole = next(gap for gap in listed if gap["cause"] == "CAUSE_SEQUENCE")
    assert (hole["producer"], hole["instrument_id"], hole["kind"]) == ("binance", 1, "KIND_TRADE")
    assert (hole["first_sequence"], hole["last_sequence"]) == ("5", "5")
    (still,) = await client.gaps("FEED.BINANCE", open_only=True, limit=1)
    assert still.cause == Gap.CAUSE_DISCONNECTED  # it does not run


async def test_the_synthetic_market(stack: Stack, client: Client) -> None:
    async with feeding(stack, "synthetic", "--dataset", "FEED.SIM") as feed:
        await feed.until("rows", 50)
        assert await feed.stop(signal.SIGINT) == 0
    rows = feed.facts["rows"]
    start_ns = time.time_ns() - 3600 * NANOS
    symbols = [one.symbol for one in await client.list_instruments("FEED.SIM")]
    found = 0
    async with asyncio.timeout(30):
        while found < rows:
            quotes = await client.quotes("FEED.SIM", symbols, start_ns=start_ns)
            found = len(quotes) + len(await client.trades("FEED.SIM", symbols, start_ns=start_ns))
    assert found == rows
    assert await client.gaps("FEED.SIM") == []


def test_for_so_many_seconds(stack: Stack) -> None:
    done = stack.mda("feed", "synthetic", "--dataset", "FEED.SECONDS", "--seconds", "0.5")
    assert done.stdout.splitlines()[-1].startswith("FEED.SECONDS done: ")


async def test_a_resource_of_http(stack: Stack, tmp_path: Path) -> None:
    asked: list[dict[str, str]] = []

    def respond(path: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        asked.append(headers)
        return as_json({"data": [{"n": 1, "t": "2026-07-01T10:00:00Z", "p": "1.5", "s": "AAA"}]})

    mapping, headers = tmp_path / "map.yaml", tmp_path / "headers"
    mapping.write_text("kind: trades\ncolumns: {ts_event: t, price: p, sequence: n}\nsymbol: s\n")
    headers.write_text("x-key: secret\n")
    with rest(respond) as url:
        args = ("http", url, "--mapping", str(mapping), "--dataset", "FEED.HTTP", "--records", "data")
        args += ("--header-file", str(headers), "--interval", "0.1", "--producer", "one")
        for fact in ("rows", "known_rows"):  # it is there already, the second time
            async with feeding(stack, *args) as feed:
                await feed.until(fact, 1)
                assert await feed.stop(signal.SIGINT) == 0
            assert feed.facts["rows"] == (1 if fact == "rows" else 0)
    assert len(asked) >= 2
    assert {headers["x-key"] for headers in asked} == {"secret"}


@pytest.mark.parametrize(
    ("args", "says", "code"),
    [
        (["databento", "--dataset", "GLBX.MDP3", "--symbols", "ESU4"], "There is no key. Set DATABENTO_API_KEY.", 1),
        (["binance", "--symbols", ","], "give 1 to 200", 2),
        (["http", "ftp://x", "--mapping", "{map}", "--dataset", "FEED.X"], "no address of HTTP", 1),
        (["http", "http://x", "--mapping", "nowhere", "--dataset", "FEED.X"], "no mapping file", 1),
        (["http", "http://x", "--mapping", "{map}", "--dataset", "X", "--header-file", "nowhere"], "headers cannot", 1),
        (["coinbase", "--symbols", "A-B", "--venue-rest-url", "nonsense"], "no address", 1),
    ],
)
def test_what_cannot_be(stack: Stack, tmp_path: Path, args: list[str], says: str, code: int) -> None:
    (tmp_path / "map.yaml").write_text("kind: trades\ncolumns: {ts_event: t, price: p}\nsymbol: s\n")
    given = [arg.format(map=tmp_path / "map.yaml") for arg in args]
    environment = {name: value for name, value in os.environ.items() if name != "DATABENTO_API_KEY"}
    done: subprocess.CompletedProcess[str] = stack.mda("feed", *given, check=False, env=environment)
    assert says in done.stderr
    assert done.returncode == code


def test_a_gateway_that_is_no_address(stack: Stack) -> None:
    args = ["databento", "--dataset", "X.Y", "--symbols", "A", "--gateway", "here"]
    done = stack.mda("feed", *args, check=False, env={**os.environ, "DATABENTO_API_KEY": "db-x"})
    assert "is not host:port" in done.stderr
    assert done.returncode == 2
