"""`mda ingest` of files that are not DBN, `mda replay`, `mda gaps`, `mda quarantine`."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marketdata.columns import NANOS, Kind, make_batch
from marketdata.sync import Client, connect
from tests.polling import until
from tests.stack.conftest import MDA, Stack

DATASET = "FILES"
FIRST_NS = 1_767_225_600 * NANOS


@pytest.fixture(scope="module")
def connected(stack: Stack) -> Any:
    with connect(stack.url, stack.secrets["api_key"]) as client:
        yield client


def _text(path: Path, symbol: str, rows: int = 3) -> Path:
    lines = [f"{FIRST_NS + number * NANOS},{symbol},{number}.5,{number}.75" for number in range(1, rows + 1)]
    path.write_text("\n".join(["time,symbol,bid,ask", *lines]) + "\n")
    return path


def _quotes(client: Client, symbol: str) -> list[tuple[str, str]]:
    found = client.quotes(DATASET, [symbol], start_ns=FIRST_NS)
    return [(quote.bid_price, quote.ask_price) for quote in found]


def test_a_csv_is_ingested_once(stack: Stack, connected: Client, tmp_path: Path) -> None:
    path = _text(tmp_path / "q.csv", "C1")
    asked = stack.mda("ingest", str(path), "--dataset", DATASET, check=False)
    assert asked.returncode == 1
    assert "This was guessed. Give --yes" in asked.stderr
    assert "bid_price" in asked.stderr
    told = stack.mda("ingest", str(path), "--dataset", DATASET, "--yes").stdout
    assert "q.csv → FILES: 3 quotes, 3 added" in told
    assert "nothing added" in stack.mda("ingest", str(path), "--dataset", DATASET, "--yes").stdout
    assert _quotes(connected, "C1") == [("1.5", "1.75"), ("2.5", "2.75"), ("3.5", "3.75")]


def test_bars_of_the_venue(stack: Stack, connected: Client, tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    first, second = (f"{FIRST_NS + minute * 60 * NANOS},B1" for minute in (0, 1))
    path.write_text(f"time,symbol,open,high,low,close,volume\n{first},1,2.5,0.5,2,70\n{second},2,2,1,1,80\n")
    assert "2 bars, 2 added" in stack.mda("ingest", str(path), "--dataset", DATASET, "--yes").stdout
    bad = tmp_path / "bad.csv"
    bad.write_text(f"time,symbol,open,high,low,close,interval_ns\n{first},2,1,1,1,{60 * NANOS}\n")
    refused = stack.mda("ingest", str(bad), "--dataset", DATASET, "--yes", check=False)
    assert "batch.bars.high, row 0: 1000000000 does not go with the bar's other prices" in refused.stderr
    again = tmp_path / "again.csv"
    again.write_text(f"time,symbol,open,high,low,close,volume,interval_ns\n{second},2,3,1,3,95,{60 * NANOS}\n")
    stack.mda("ingest", str(again), "--dataset", DATASET, "--yes")

    asked = ("query", "bars", DATASET, "--symbol", "B1", "--start", "2026-01-01", "--end", "2026-01-02", "-o", "json")
    listed = json.loads(stack.mda(*asked, "--interval", "1m", "--source", "venue").stdout)
    assert [(bar["open"], bar["high"], bar["low"], bar["close"], bar["volume"]) for bar in listed] == [
        ("1", "2.5", "0.5", "2", "70"),
        ("2", "3", "1", "3", "95"),  # as it was sent last
    ]
    assert json.loads(stack.mda(*asked, "--interval", "5m", "--source", "venue").stdout) == []
    rows = connected.scan(DATASET, ["B1"], kinds=[Kind.BAR]).to_polars()
    assert rows["close"].to_list() == [2.0, 1.0, 3.0]  # on the tape all of them stay
    out = tmp_path / "out.parquet"
    stack.mda("export", DATASET, str(out), "--kind", "bars", "--symbol", "B1")
    assert pq.read_table(out)["volume"].to_pylist() == [70 * NANOS, 80 * NANOS, 95 * NANOS]


def test_standard_input_and_a_mapping(stack: Stack, connected: Client, tmp_path: Path) -> None:
    path = _text(tmp_path / "q.csv", "ignored")
    mapping = tmp_path / "m.yaml"
    stack.mda("ingest", str(path), "--symbol", "C2", "--save-mapping", str(mapping))
    assert "only_symbol: C2" in mapping.read_text()
    mapping.write_text(
        mapping.read_text().replace("bid_price: bid", "bid_price: ask").replace("  ask_price: ask\n", "")
    )
    args = ("ingest", "-", "--format", "csv", "--dataset", DATASET, "--mapping", str(mapping))
    assert "3 added" in stack.mda(*args, input=path.read_text()).stdout
    assert [bid for bid, _ in _quotes(connected, "C2")] == ["1.75", "2.75", "3.75"]
    assert "3 added" in stack.mda(*args, "--symbol", "C3", input=path.read_text()).stdout
    for wrong, message in (
        (("ingest", "-", "--dataset", DATASET), "must say what comes on standard input"),
        (("ingest", str(tmp_path / "none.csv"), "--dataset", DATASET), "There is no file"),
        (("ingest", str(path), "--yes"), "must say where the rows go"),
        (("ingest", str(path)), "must say where the rows go"),  # before what was guessed is asked about
        (("ingest", str(path), "--save-mapping", str(tmp_path / "none" / "m.yaml")), "cannot be written"),
        (("ingest", str(path), "--dataset", DATASET, "--kind", "trades"), "nothing is price"),
    ):
        done = stack.mda(*wrong, check=False, input="")
        assert done.returncode != 0
        assert message in " ".join(done.stderr.split())


def test_parquet_with_rows_of_many_instruments(stack: Stack, connected: Client, tmp_path: Path) -> None:
    rows = 25_000
    numbers = np.arange(rows)
    symbols = np.array(["P0", "P1", "P2"])[numbers % 3]
    columns = {"ts_event": FIRST_NS + numbers, "symbol": symbols, "price": (numbers + 1) / 8, "side": ["buy"] * rows}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert (
        "25,000 trades, 25,000 added"
        in stack.mda("ingest", str(tmp_path / "t.parquet"), "--dataset", DATASET, "--yes").stdout
    )
    frame = connected.scan(DATASET, ["P1"], kinds=[Kind.TRADE]).to_polars()
    assert frame["price"].to_list() == ((numbers[1::3] + 1) / 8).tolist()
    assert set(frame["side"]) == {"buy"}


def test_ctrl_c_stops_and_the_next_run_goes_on(stack: Stack, tmp_path: Path) -> None:
    rows = 1_500_000
    numbers = np.arange(rows)
    columns = {"ts_event": FIRST_NS + numbers, "symbol": ["Z"] * rows, "price": numbers + 1}
    path = tmp_path / "large.parquet"
    pq.write_table(pa.table(columns), path)
    command = [MDA, "ingest", str(path), "--dataset", DATASET, "--yes", "--data", str(stack.data)]
    with connect(stack.url, stack.secrets["api_key"]) as client:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            until(lambda: "Z" in client.symbols(DATASET).values(), within_s=30)  # then it begins to publish
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "rows were sent. The same command goes on from there." in told
        stopped = _digest_rows(client, "Z")
        assert stopped < rows
        done = stack.mda("ingest", str(path), "--dataset", DATASET, "--yes").stdout
        assert f"{rows:,} trades" in done
        assert ("were there)" in done) == (stopped > 0)
        assert _digest_rows(client, "Z") == rows


def _digest_rows(client: Client, symbol: str) -> int:
    if DATASET not in {dataset.name for dataset in client.list_datasets()}:
        return 0
    if symbol not in client.symbols(DATASET).values():
        return 0
    return client.digest(DATASET, symbols=[symbol])[0].rows


def test_replay_prints_and_publishes(stack: Stack, connected: Client, tmp_path: Path) -> None:
    stack.mda("ingest", str(_text(tmp_path / "r.csv", "R1")), "--dataset", DATASET, "--yes")
    args = ("replay", DATASET, "--symbol", "R1", "--start", "2026-01-01")
    printed = stack.mda(*args, "--kind", "quotes", "--speed", "100").stdout
    assert [row["bid_price"] for row in csv.DictReader(StringIO(printed))] == ["1.5", "2.5", "3.5"]
    lines = stack.mda(*args, "--kind", "quotes", "--speed", "0", "--output", "json").stdout.splitlines()
    assert [json.loads(line)["symbol"] for line in lines] == ["R1"] * 3
    began_ns = time.time_ns()
    told = stack.mda(*args, "--speed", "2", "--to", "TEST", "--now", "--producer", "again").stderr
    assert "3 rows of FILES were published to TEST, by again" in told
    again = connected.quotes("TEST", ["R1"], start_ns=began_ns)
    assert [quote.bid_price for quote in again] == ["1.5", "2.5", "3.5"]
    times = [quote.event_time.ToNanoseconds() for quote in again]
    assert times[2] - times[0] == 2 * NANOS
    assert time.time_ns() - began_ns >= NANOS  # two seconds, at twice the speed
    for wrong, message in (
        (("replay", DATASET, "--start", "2026-01-01"), "is quotes, trades or bars"),
        (("replay", DATASET, "--start", "2026-01-01", "--to", DATASET), "is another dataset"),
    ):
        assert message in " ".join(stack.mda(*wrong, check=False).stderr.split())


def test_gaps_and_quarantine_are_listed_and_released(stack: Stack, connected: Client) -> None:
    policy = {"policy": {"sequence_rule": "SEQUENCE_RULE_CONTIGUOUS", "crossed": "ACTION_QUARANTINE"}}
    put = httpx.post(
        f"{stack.url}/v1/datasets/{DATASET}/policy",
        json=policy,
        headers={"authorization": f"Bearer {connected.token()}"},
    )
    assert put.status_code == 200, put.text
    with connected.publisher(DATASET, "holes") as publisher:
        for number, ask in ((1, 2), (4, 2), (5, 0.5)):
            columns: dict[str, Any] = {"instrument_id": [1], "ts_event": [time.time_ns()], "sequence": [number]}
            prices = {"bid_price": [NANOS], "ask_price": [int(ask * NANOS)]}
            publisher.publish(make_batch(Kind.QUOTE, {**columns, **prices}))
    until(lambda: bool(connected.gaps(DATASET)))
    rows = list(csv.DictReader(StringIO(stack.mda("gaps", DATASET, "--output", "csv").stdout)))
    assert [(row["producer"], row["state"], row["first_sequence"], row["last_sequence"]) for row in rows] == [
        ("holes", "open", "2", "3")
    ]
    assert stack.mda("gaps", DATASET, "--open", "--check", check=False).returncode == 1
    assert "holes" in stack.mda("gaps", DATASET).stdout
    listed = json.loads(stack.mda("quarantine", "list", DATASET, "--output", "json").stdout)
    (item,) = [one for one in listed if one["producer"] == "holes"]
    assert item["quotes"][0]["ask_price"] == "0.5"
    assert "crossed" in stack.mda("quarantine", "list", DATASET, "--waiting").stdout
    released = json.loads(stack.mda("quarantine", "release", DATASET, item["id"], "--output", "json").stdout)
    assert (released[0]["id"], released[0]["was_released_before"]) == (item["id"], "no")
    assert "yes" in stack.mda("quarantine", "release", DATASET, item["id"]).stdout
    assert item["id"] not in stack.mda("quarantine", "list", DATASET, "--waiting").stdout
    assert stack.mda("quarantine", "release", DATASET, "--all").returncode == 0
    done = stack.mda("quarantine", "release", DATASET, check=False)
    assert (done.returncode, "name the ids to release" in done.stderr) == (2, True)


def test_keys_come_by_a_file(stack: Stack, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(stack.secrets["api_key"] + "\n")
    environment = {name: value for name, value in os.environ.items() if name != "MDA_API_KEY"}
    command = [MDA, "gaps", "SIM", "--url", stack.url, "--data", str(tmp_path), "--api-key-file"]
    by_file = subprocess.run([*command, key], env=environment, capture_output=True, text=True, check=False)
    assert by_file.returncode == 0, by_file.stderr
    by_input = subprocess.run(
        [*command, "-"], env=environment, input=key.read_text(), capture_output=True, text=True, check=False
    )
    assert by_input.returncode == 0, by_input.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_made_for_shells(shell: str) -> None:
    asked = {"bash": "complete_bash", "zsh": "complete_zsh", "fish": "complete_fish"}[shell]
    environment = {**os.environ, "_MDA_COMPLETE": asked, "COMP_WORDS": "mda qua", "COMP_CWORD": "1"}
    environment |= {"_TYPER_COMPLETE_ARGS": "mda qua", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run([MDA], env=environment, capture_output=True, text=True, check=False)
    assert "quarantine" in done.stdout
