"""`mda query` and `mda export`, as a user types them, compared with what was published."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marketdata.client import Client
from marketdata.columns import ABSENT, NANOS, Batch, Kind, make_batch
from marketdata.v1.instrument_pb2 import Instrument
from mda.market.decimals import format_decimal
from tests.polling import until
from tests.stack.conftest import MDA, Stack

DAY_NS = 1_782_864_000 * NANOS
"""2026-07-01, UTC."""
ROWS = 5_000
NAMES = {1: "AAA", 2: 'B"B'}
RANGE = ("--start", "2026-07-01", "--end", "2026-07-02")


def _quotes() -> Batch:
    random = np.random.default_rng(5)
    bid = random.integers(1, 1 << 40, ROWS)
    times = DAY_NS + np.arange(ROWS) * NANOS
    return make_batch(
        Kind.QUOTE,
        {
            "instrument_id": random.integers(1, 3, ROWS),
            "ts_event": times,
            "ts_recv": np.where(random.random(ROWS) < 0.1, ABSENT, times + 17),
            "sequence": np.arange(ROWS),
            "bid_price": np.where(random.random(ROWS) < 0.1, ABSENT, bid),
            "bid_size": random.integers(1, 100, ROWS) * NANOS,
            "ask_price": bid + 1,
        },
    )


def _trades() -> Batch:
    return make_batch(
        Kind.TRADE,
        {
            "instrument_id": [1, 1, 2, 1, 1],
            "ts_event": DAY_NS + np.arange(5) * NANOS,
            "sequence": [1, 2, 3, 4, 5],
            "price": [5 * NANOS, 6 * NANOS, 7 * NANOS, ABSENT, 6 * NANOS + 1],
            "size": [NANOS] * 5,
            "side": [1, 2, 0, 0, 0],
            "action": [0, 0, 0, 1, 2],
            "refers_to": [ABSENT, ABSENT, ABSENT, 1, 2],
        },
    )


QUOTES = _quotes()


@pytest.fixture(scope="module")
def past(stack: Stack) -> Stack:
    """Give a stack with the dataset PAST: 5,000 quotes, in small batches, and trades with a cancel and a correction."""

    async def publish() -> None:
        async with Client.connect(stack.url, stack.secrets["api_key"]) as client:
            await client.put_instruments("PAST", [Instrument(symbol=symbol) for symbol in NAMES.values()])
            async with client.publisher("PAST", "p") as publisher:
                for start in range(0, ROWS, 700):
                    await publisher.publish(QUOTES.take(np.arange(start, min(start + 700, ROWS))))
                await publisher.publish(_trades())

    asyncio.run(publish())
    return stack


def _refused(stack: Stack, *args: str) -> str:
    done = stack.mda(*args, check=False)
    assert done.returncode == 2
    return " ".join(done.stderr.replace("│", " ").split())


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _column(name: str, text: Callable[[int], Any]) -> list[Any]:
    return [None if value == ABSENT else text(value) for value in QUOTES[name].tolist()]


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_tables_have_what_was_published(past: Stack, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"quotes.{form}"
    done = past.mda("export", "PAST", str(path))
    assert f"5,000 quotes to {path}, {path.stat().st_size:,} bytes" in done.stderr
    assert done.stdout == ""
    table = pq.read_table(path) if form == "parquet" else pa.ipc.open_file(path).read_all()
    assert table.column("symbol").to_pylist() == [NAMES[number] for number in QUOTES["instrument_id"].tolist()]
    for name in ("ts_event", "ts_recv", "sequence", "bid_price", "bid_size", "ask_price", "ask_size"):
        assert table.column(name).to_pylist() == _column(name, int)
    assert _files(tmp_path) == [path.name]


def test_text_has_what_was_published(past: Stack, tmp_path: Path) -> None:
    path = tmp_path / "quotes.jsonl"
    past.mda("export", "PAST", str(path))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for name in ("bid_price", "bid_size", "ask_price", "ask_size"):
        assert [line[name] for line in lines] == _column(name, format_decimal)
    assert [line["ts_recv"] for line in lines] == _column("ts_recv", int)
    told = past.mda("export", "PAST", "-", "--format", "csv", *RANGE).stdout
    rows = list(csv.DictReader(io.StringIO(told)))
    assert rows == [{name: "" if value is None else str(value) for name, value in line.items()} for line in lines]


def test_rows_are_chosen_by_symbol_time_and_view(past: Stack) -> None:
    def exported(*options: str) -> list[dict[str, Any]]:
        done = past.mda("export", "PAST", "-", "--format", "jsonl", *options)
        return [json.loads(line) for line in done.stdout.splitlines()]

    some = exported("--symbol", "AAA", "--start", "2026-07-01T00:10:00Z", "--end", "2026-07-01T02:20:00+02:00")
    times = QUOTES["ts_event"][QUOTES["instrument_id"] == 1]
    within = (times >= DAY_NS + 600 * NANOS) & (times < DAY_NS + 1_200 * NANOS)
    assert [row["ts_event"] for row in some] == times[within].tolist()
    raw = exported("--kind", "trades")
    assert [(row["price"], row["side"], row["action"], row["refers_to"]) for row in raw] == [
        ("5", "buy", "trade", None),
        ("6", "sell", "trade", None),
        ("7", None, "trade", None),
        (None, None, "cancel", 1),
        ("6.000000001", None, "correct", 2),
    ]
    standing = exported("--kind", "trades", "--corrected")
    assert [row["price"] for row in standing if row["action"] == "trade"] == ["6.000000001", "7"]
    assert exported("--start", "2030-01-01") == []


def test_a_file_is_replaced_only_if_that_is_asked_for(past: Stack, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("mine")
    assert "is there already. Give --overwrite" in _refused(past, "export", "PAST", str(path))
    assert past.mda("export", "NOPE", str(path), "--overwrite", check=False).returncode == 1
    assert path.read_text() == "mine"
    link = tmp_path / "link.csv"
    link.symlink_to(path)
    past.mda("export", "PAST", str(link), "--kind", "trades", "--overwrite")
    assert link.is_symlink()
    assert len(path.read_text().splitlines()) == 6
    assert _files(tmp_path) == ["link.csv", "x.csv"]


def test_what_cannot_be_exported_is_told_before_anything_is_read(stack: Stack, tmp_path: Path) -> None:
    name = str(tmp_path / "x.csv")
    assert "does not tell one: end it in .csv, .jsonl, .parquet, .arrow" in _refused(stack, "export", "TEST", "x.xls")
    assert "Name a file" in _refused(stack, "export", "TEST", "-", "--format", "parquet")
    assert "is not a file" in _refused(stack, "export", "TEST", str(tmp_path), "--format", "csv")
    assert "There is no folder" in _refused(stack, "export", "TEST", str(tmp_path / "no" / "x.csv"))
    assert "nothing else is corrected" in _refused(stack, "export", "TEST", name, "--corrected")
    assert "is not a date" in _refused(stack, "export", "TEST", name, "--start", "yesterday")
    ends = ("--start", "2026-07-02", "--end", "2026-07-01")
    assert "it is not after --start" in _refused(stack, "export", "TEST", name, *ends)
    assert _files(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_one_clear_line(past: Stack, tmp_path: Path) -> None:
    command = ["bash", "-c", 'ulimit -f 1; exec "$0" "$@"', MDA, "export", "PAST", str(tmp_path / "x.csv")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [*command, "--data", str(past.data)], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, "x.csv cannot be written: File too large." in done.stderr) == (1, True)
    assert _files(tmp_path) == []


def test_ctrl_c_leaves_no_half_file(past: Stack, tmp_path: Path) -> None:
    query = past.pid("query")
    assert query is not None
    os.kill(query, signal.SIGSTOP)
    try:
        # With a start there is nothing to ask for but the scan, which waits for query to come back.
        command = [MDA, "export", "PAST", str(tmp_path / "x.parquet"), "--data", str(past.data), *RANGE]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            until(lambda: _files(tmp_path) != [], within_s=40)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=20)
    finally:
        os.kill(query, signal.SIGCONT)
    assert (process.returncode, told) == (130, f"stopped: {tmp_path / 'x.parquet'} was not written\n")
    assert _files(tmp_path) == []


def test_quotes_are_shown(past: Stack) -> None:
    options = ("quotes", "PAST", "--symbol", "AAA", *RANGE, "--limit", "3")
    done = past.mda("query", *options, "--output", "json")
    shown = json.loads(done.stdout)
    rows = np.flatnonzero(QUOTES["instrument_id"] == 1)
    assert [quote["sequence"] for quote in shown] == [str(number) for number in rows[:3]]
    assert "there are more: these are 3" in done.stderr
    told = list(csv.DictReader(io.StringIO(past.mda("query", *options, "--newest-first", "--output", "csv").stdout)))
    assert [quote["sequence"] for quote in told] == [str(number) for number in rows[:-4:-1]]
    assert {quote["symbol"] for quote in told} == {"AAA"}
    table = past.mda("query", *options).stdout
    assert all(str(quote["ask_price"]) in table for quote in shown)


def test_trades_and_bars_are_shown(past: Stack) -> None:
    rows = csv.DictReader(io.StringIO(past.mda("query", "trades", "PAST", *RANGE, "-o", "csv").stdout))
    assert [(row["price"], row["side"], row["action"]) for row in rows] == [
        ("5", "buy", ""),
        ("6", "sell", ""),
        ("7", "", ""),
        ("", "", "cancel"),
        ("6.000000001", "", "correct"),
    ]
    bars = json.loads(past.mda("query", "bars", "PAST", *RANGE, "--interval", "1d", "-o", "json").stdout)
    assert [(bar["symbol"], bar["close"], bar["volume"]) for bar in bars] == [
        ("AAA", "6.000000001", "1"),
        ('B"B', "7", "1"),
    ]
    filled = ("--source", "quote-mids", "--fill", "previous", "--symbol", "AAA", "--limit", "2")
    assert "final" in past.mda("query", "bars", "PAST", *RANGE, *filled).stdout


def test_trades_are_shown_with_the_quotes_before_them(past: Stack) -> None:
    options = ("trades", "PAST", *RANGE, "--with-quotes")
    rows = list(csv.DictReader(io.StringIO(past.mda("query", *options, "-o", "csv").stdout)))
    expected: list[str] = []
    for second, instrument in enumerate([1, 1, 2, 1, 1]):  # of both kinds there is a row each second
        before = np.flatnonzero(QUOTES["instrument_id"][: second + 1] == instrument)
        expected.append(str(before[-1]) if len(before) else "")
    assert [row["quote_sequence"] for row in rows] == expected
    assert any(expected)
    assert "quote bid price" in past.mda("query", *options).stdout
    assert "oldest first" in past.mda("query", *options, "--newest-first", check=False).stderr


def test_bars_of_a_session_are_shown(past: Stack) -> None:
    options = ("--interval", "1d", "--time-zone", "America/Chicago", "--hours", "17:00-16:00", "--weekdays", "1-5")
    (bar, _) = json.loads(past.mda("query", "bars", "PAST", *RANGE, *options, "-o", "json").stdout)
    assert (bar["start_time"], bar["end_time"]) == ("2026-06-30T22:00:00Z", "2026-07-01T21:00:00Z")
    done = past.mda("query", "bars", "PAST", *options, "--follow", *RANGE, check=False)
    assert done.returncode == 2
    assert "it shows what comes from now on" in done.stderr


@pytest.mark.parametrize(("output", "lines"), [("json", 2), ("csv", 3), ("table", 3)])
def test_bars_are_shown_as_they_come(stack: Stack, output: str, lines: int) -> None:
    argv = [MDA, "query", "bars", "SIM", "--interval", "1s", "--follow", "-o", output, "--data", str(stack.data)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        shown = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert (process.returncode, told) == (130, "")
    assert all(shown)
    if output == "json":
        assert json.loads(shown[0])["state"] == "STATE_FINAL"
    else:
        assert ("final" in shown[1], "high" in shown[0]) == (True, True)


def test_quotes_as_of_a_time_and_datasets_are_shown(past: Stack) -> None:
    at = ("--at", "2026-07-01T00:05:00Z")
    quotes = json.loads(past.mda("query", "as-of", "PAST", *at, "-o", "json").stdout)
    newest = {number: int(np.flatnonzero(QUOTES["instrument_id"][:301] == number)[-1]) for number in NAMES}
    assert {quote["symbol"]: quote["sequence"] for quote in quotes} == {NAMES[n]: str(r) for n, r in newest.items()}
    rows = list(csv.DictReader(io.StringIO(past.mda("query", "datasets", "-o", "csv").stdout)))
    assert [(row["kind"], row["rows"], row["start_time"]) for row in rows if row["dataset"] == "PAST"] == [
        ("quote", "5000", "2026-07-01T00:00:00Z"),
        ("trade", "5", "2026-07-01T00:00:00Z"),
    ]
    assert "PAST" in past.mda("query", "datasets").stdout


def test_what_cannot_be_queried_is_told(past: Stack) -> None:
    assert "is not a number and one of s, m, h, d" in _refused(past, "query", "bars", "PAST", "--interval", "7x")
    assert "such as 2026-07-01" in _refused(past, "query", "quotes", "PAST", "--start", "2026-07-01 10:00")
    assert "--limit" in _refused(past, "query", "quotes", "PAST", "--limit", "0")
    done = past.mda("query", "quotes", "PAST", "--output", "json")
    assert (done.stdout, "no quotes there" in done.stderr) == ("[]\n", True)
    done = past.mda("query", "trades", "PAST", "--symbol", "ZZZ", check=False)
    assert (done.returncode, "has no instrument 'ZZZ'" in done.stderr) == (1, True)


def test_questions_about_the_past_go_where_no_live_reader_is(past: Stack) -> None:
    log = past.data / "logs" / "access.log"
    headers = {"authorization": f"Bearer {past.token(past.secrets['api_key'])}"}
    for path in ("bars?symbols=AAA&interval=60s&start=2026-07-01T00:00:00Z&end=2026-07-01T01:00:00Z", "quotes:latest"):
        httpx.get(f"{past.url}/v1/datasets/PAST/{path}", headers=headers).raise_for_status()

    def served() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for line in map(json.loads, log.read_text().splitlines()):
            if line["status"] == 200 and line["upstream"]:
                found.setdefault(str(line["route"]).rpartition("/")[2], set()).add(str(line["upstream"]))
        return found

    until(lambda: served().keys() >= {"ListBars", "GetLatestQuotes"})
    by_method = served()
    assert len(by_method["ListBars"]) == 1
    assert by_method["ListBars"].isdisjoint(by_method["GetLatestQuotes"])
