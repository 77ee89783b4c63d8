"""The same questions for QuestDB, whose server runs by itself: where Java 17 is, and `uv pip install asyncpg`.

`--questdb questdb-9.1.0.jar` for the bench (`org.questdb:questdb` of Maven Central). It has the rows in its own form,
by the hour, with an index of instruments, and is asked as its users do: over the PostgreSQL protocol. Prints JSON:
the milliseconds that each question took.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from bench.asks import DATASET, HOUR_NS, TIMES, Ask, hour_of, instrument_of, taken_ms, time_of

_HTTP_PORT: Final = 19_310
_PG_PORT: Final = 19_311
_START_S: Final = 60.0
_COLUMNS: Final = ("recv_delay_ns", "sequence", "bid_price", "bid_size", "ask_price", "ask_size")
_SETTINGS: Final = {
    "QDB_HTTP_NET_BIND_TO": f"127.0.0.1:{_HTTP_PORT}",
    "QDB_PG_NET_BIND_TO": f"127.0.0.1:{_PG_PORT}",
    "QDB_LINE_TCP_ENABLED": "false",
    "QDB_HTTP_MIN_ENABLED": "false",
    "QDB_TELEMETRY_ENABLED": "false",
}


@contextmanager
def server(folder: Path, jar: str) -> Generator[None]:
    """Run a server that may read the lake's files, until the end."""
    root = folder / "questdb"
    root.mkdir()
    command = ["java", "-Xmx4g", "-p", jar, "-m", "io.questdb/io.questdb.ServerMain", "-d", str(root)]
    settings = _SETTINGS | {"QDB_CAIRO_SQL_COPY_ROOT": str(folder)}
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(root)


async def connect() -> Any:
    """Connect, once it listens."""
    asyncpg: Any = import_module("asyncpg")
    deadline = time.monotonic() + _START_S
    while True:
        try:
            return await asyncpg.connect(
                host="127.0.0.1", port=_PG_PORT, user="admin", password="quest", database="qdb", timeout=5
            )
        except (OSError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


async def take_in(connection: Any, folder: Path) -> None:
    """Take the rows of the lake in."""
    columns = ", ".join(f"{name} long" for name in _COLUMNS)
    await connection.execute(
        f"CREATE TABLE quotes (ts timestamp_ns, instrument symbol capacity 1024 index, {columns})"
        " TIMESTAMP(ts) PARTITION BY HOUR BYPASS WAL"
    )
    for path in sorted((folder / DATASET / "quotes").rglob("sorted-*.parquet")):
        await connection.execute(
            f"INSERT INTO quotes SELECT cast(ts_event AS timestamp_ns), cast(instrument_id AS symbol),"
            f" {', '.join(_COLUMNS)} FROM read_parquet('{path.relative_to(folder)}')",
            timeout=300,
        )


def asks(connection: Any, loop: asyncio.AbstractEventLoop) -> Ask:
    """Return the queries."""
    middles = "SELECT ts, instrument, (bid_price + ask_price) / 2 AS mid FROM quotes"
    bar = "first(mid), max(mid), min(mid), last(mid), count()"

    def rows(query: str) -> int:
        return len(loop.run_until_complete(connection.fetch(query, timeout=300)))

    def hour(number: int) -> int:
        first = hour_of(number)
        times = f"ts BETWEEN cast({first} AS timestamp_ns) AND cast({first + HOUR_NS - 1} AS timestamp_ns)"
        return rows(f"SELECT * FROM quotes WHERE instrument = '{instrument_of(number)}' AND {times}")

    def as_of(number: int) -> int:
        until = f"ts <= cast({time_of(number)} AS timestamp_ns)"
        return rows(f"SELECT * FROM quotes WHERE {until} LATEST ON ts PARTITION BY instrument")

    def bars_one(number: int) -> int:
        chosen = f"{middles} WHERE instrument = '{instrument_of(number)}'"
        return rows(f"SELECT ts, {bar} FROM ({chosen}) SAMPLE BY 1m")

    return Ask(hour, as_of, bars_one, lambda _: rows(f"SELECT ts, instrument, {bar} FROM ({middles}) SAMPLE BY 1m"))


def main() -> None:
    """Measure."""
    folder, jar = Path(sys.argv[1]).resolve(), sys.argv[2]
    with server(folder, jar), asyncio.Runner() as runner:
        connection = runner.run(connect())
        runner.run(take_in(connection, folder))
        ask = asks(connection, runner.get_loop())
        taken: dict[str, list[float]] = {}
        for name, times in TIMES.items():
            taken_ms(ask, name, 0)
            taken[name] = [taken_ms(ask, name, number) for number in range(times)]
    sys.stdout.write(json.dumps(taken))


if __name__ == "__main__":
    main()
