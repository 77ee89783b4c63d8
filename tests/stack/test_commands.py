"""`mda`, as a user types it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import databento_dbn
import httpx
import psutil
import pytest

from tests.polling import until
from tests.stack.conftest import MDA, Stack, free_port, start


def _run(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MDA, *args], capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **(env or {})}
    )


def test_status_tells_of_each_process(stack: Stack) -> None:
    told = json.loads(stack.mda("status", "--output", "json").stdout)
    names = [process["name"] for process in told["processes"]]
    assert names == ["nats", "auth", "ingestion", "archive", "query", "history", "gateway", "sim-feed"]
    assert all(process["state"] == "running" and psutil.pid_exists(process["pid"]) for process in told["processes"])
    assert told["url"] == stack.url
    assert "sim-feed" in stack.mda("status").stdout


def test_env_and_token_connect_curl(stack: Stack) -> None:
    command = 'eval "$("$MDA" env --data "$DATA")"; curl -sS -f -H "Authorization: Bearer $("$MDA" token)" '
    command += '"$MDA_URL/v1/datasets/SIM/quotes:latest?symbols=ALFA"'
    environment = {**os.environ, "MDA": MDA, "DATA": str(stack.data)}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["quotes"][0]["symbol"] == "ALFA"


def test_the_gateway_speaks_tls_with_a_certificate_of_the_local_ca(stack: Stack) -> None:
    context = ssl.create_default_context(cafile=str(stack.data / "tls" / "ca.crt"))
    keys = httpx.get(f"{stack.state['tls_url']}/.well-known/jwks.json", verify=context).json()["keys"]
    assert keys[0]["alg"] == "ES256"


def test_watch_shows_a_moving_table(stack: Stack) -> None:
    shown = stack.mda("watch", "--seconds", "2", "ALFA", "ECHO/USD").stdout
    assert "ALFA" in shown
    assert "ECHO/USD" in shown


def test_watch_draws_prices(stack: Stack) -> None:
    shown = stack.mda("watch", "--plot", "--seconds", "2", "ALFA").stdout
    assert "SIM ALFA, middle of bid and ask" in shown
    assert "rows/s" in shown
    shown = stack.mda("watch", "--plot", "--seconds", "2", "ALFA", "ECHO/USD").stdout
    assert "SIM, basis points since the start" in shown
    assert "ECHO/USD" in shown


def test_a_bench_tells_rates_and_delays_of_rows_that_are_all_there(stack: Stack) -> None:
    options = ("--dataset", "BENCH", "--seconds", "0.5", "--per-s", "50")
    shown = stack.mda("bench", *options).stdout
    assert "read back from a cursor" in shown
    assert "What was read back has the server's digest." in shown
    (told,) = json.loads(stack.mda("bench", *options, "-o", "json").stdout)
    assert told["digest_agrees"]
    assert min(told["publish_rows_per_s"], told["replay_rows_per_s"]) > 1_000
    assert 0 < told["delay_p50_ms"] <= told["delay_p99_ms"] <= told["delay_p99_9_ms"] <= told["delay_max_ms"]


def test_a_bench_of_a_moment_sends_one_batch(stack: Stack) -> None:
    options = ("--dataset", "BENCH", "--seconds", "0.1", "--per-s", "1", "-o", "json")
    (told,) = json.loads(stack.mda("bench", *options).stdout)
    assert told["delay_p50_ms"] == told["delay_max_ms"] > 0


def test_watch_names_unknown_symbols(stack: Stack) -> None:
    done = stack.mda("watch", "NOPE", check=False)
    assert done.returncode == 1
    assert "error: SIM has no NOPE" in done.stderr


def test_logs_are_shown(stack: Stack) -> None:
    assert "serving" in stack.mda("logs", "query", "-n", "50").stdout
    assert stack.mda("logs").returncode == 0
    done = stack.mda("logs", "nothing", check=False)
    assert (done.returncode, "There is no log of 'nothing'" in done.stderr) == (1, True)


def test_doctor_finds_nothing_wrong(stack: Stack) -> None:
    done = stack.mda("doctor", check=False)
    assert done.returncode == 0, done.stdout


def test_a_second_stack_in_the_folder_is_refused(stack: Stack) -> None:
    done = stack.mda("up", check=False)
    assert done.returncode == 1
    assert "error: A stack already runs in" in done.stderr
    assert stack.mda("up", "--detach", check=False).returncode == 1


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = _run("up", "--data", str(tmp_path), "--port", port, "--tls-port", str(free_port()))
    assert done.returncode == 1
    assert done.stderr == f"error: Port {port} is taken. Stop what uses it, or choose another with --port.\n"


def test_ports_and_folders_that_cannot_be_are_told(tmp_path: Path) -> None:
    for ports in (("--port", "65536"), ("--port", "9443", "--tls-port", "9443")):
        done = _run("up", "--data", str(tmp_path / "d"), *ports)
        assert (done.returncode, "Traceback" in done.stderr, "port" in done.stderr) == (2, False, True)
    file = tmp_path / "file"
    file.touch()
    done = _run("up", "--data", str(file))
    assert done.returncode == 1
    assert done.stderr == f"error: {file} cannot be made: File exists. Choose another folder with --data.\n"


def test_without_a_stack_the_commands_say_so(tmp_path: Path) -> None:
    for command in ("status", "env", "token", "logs"):
        done = _run(command, "--data", str(tmp_path))
        assert done.returncode == 1
        assert "error: No stack runs in" in done.stderr
    followed = _run("logs", "--follow", "--data", str(tmp_path))
    assert (followed.returncode, "error: No stack runs in" in followed.stderr) == (1, True)
    assert _run("down", "--data", str(tmp_path)).stdout.startswith("No stack runs in")
    doctor = _run("doctor", "--data", str(tmp_path))
    assert (doctor.returncode, "`mda up` starts one" in doctor.stdout) == (1, True)


def test_a_wrong_key_or_address_is_one_clear_line(stack: Stack) -> None:
    done = _run("token", "--url", stack.url, env={"MDA_API_KEY": "mdk_nobody.nothing"})
    assert done.returncode == 1
    assert done.stderr.startswith("error: UNAUTHENTICATED")
    assert _run("token", "--url", "ftp://x", env={"MDA_API_KEY": "k.s"}).stderr.startswith("error: not a URL")


def _dbn(path: Path, schema: databento_dbn.Schema, records: list[databento_dbn.DBNRecord]) -> Path:
    days = {"start_date": date(2024, 7, 1), "end_date": date(2024, 7, 2)}
    metadata = databento_dbn.Metadata(
        dataset="TEST.DBN",
        start=1,
        stype_in=databento_dbn.SType.RAW_SYMBOL,
        stype_out=databento_dbn.SType.INSTRUMENT_ID,
        schema=schema,
        symbols=["ESU4"],
        # The package takes these by their attributes and has no class for them.
        mappings=[SimpleNamespace(raw_symbol="ESU4", intervals=[SimpleNamespace(**days, symbol="118")])],
    )
    path.write_bytes(metadata.encode() + b"".join(bytes(record) for record in records))
    return path


def test_a_file_is_ingested_once(stack: Stack, tmp_path: Path) -> None:
    trades = [
        databento_dbn.TradeMsg(
            publisher_id=1,
            instrument_id=118,
            ts_event=1_719_878_400_000_000_000 + number,
            price=5_529_250_000_000,
            size=2,
            action=databento_dbn.Action.TRADE,
            side=databento_dbn.Side.BID,
            depth=0,
            ts_recv=1_719_878_400_000_000_100 + number,
            flags=0,
            ts_in_delta=0,
            sequence=number,
        )
        for number in range(3)
    ]
    file = _dbn(tmp_path / "es.trades.dbn", databento_dbn.Schema.TRADES, list(trades))
    assert "3 trades, 3 added" in stack.mda("ingest", str(file)).stdout
    assert "3 trades, all there already: nothing added" in " ".join(stack.mda("ingest", str(file)).stdout.split())
    token = stack.token(stack.secrets["api_key"])
    latest = httpx.get(
        f"{stack.url}/v1/datasets/TEST.DBN/trades:latest?symbols=ESU4", headers={"authorization": f"Bearer {token}"}
    ).json()["trades"][0]
    assert (latest["price"], latest["size"], latest["side"]) == ("5529.25", "2", "SIDE_BUY")
    assert (latest["event_time"], latest["sequence"]) == ("2024-07-02T00:00:00.000000002Z", "2")


def test_a_file_that_is_none_is_one_clear_line(stack: Stack, tmp_path: Path) -> None:
    path = tmp_path / "x.dbn"
    path.write_text("nothing")
    done = stack.mda("ingest", str(path), check=False)
    assert done.returncode == 1
    assert f"error: {path} is not a DBN file" in " ".join(done.stderr.split())


def test_what_a_killed_supervisor_left_is_cleared_away(tmp_path_factory: pytest.TempPathFactory) -> None:
    stack = start(tmp_path_factory.mktemp("killed"), "--no-feed")
    left = [process["pid"] for process in stack.state["processes"]]
    supervisor = stack.state["supervisor"]
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(supervisor) or psutil.Process(supervisor).status() == "zombie")
    again = start(stack.data, "--no-feed")
    try:
        assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in left)
    finally:
        again.mda("down")
    pids = [process["pid"] for process in again.state["processes"]]
    assert pids == [None] * 7


def test_completion_and_help_work() -> None:
    shown = _run("--help").stdout
    assert all(
        command in shown
        for command in ("up", "status", "logs", "down", "env", "token", "ingest", "watch", "query", "export")
    )
    assert shutil.which(MDA)
