"""The same questions for DuckDB, over the lake's own files: where it is installed (`uv pip install duckdb`)."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Final

from bench.asks import DATASET, HOUR_NS, LOOK_BACK_NS, MINUTE_NS, Ask, hour_of, instrument_of, time_of

_NEWEST: Final = ("ts_event", "bid_price", "bid_size", "ask_price", "ask_size")


def duckdb_asks(folder: Path) -> Ask:
    """Return the queries of DuckDB over the lake's own files."""
    files = [str(path) for path in sorted((folder / DATASET / "quotes").rglob("sorted-*.parquet"))]
    connection: Any = import_module("duckdb").connect()
    table = f"read_parquet({files!r}, hive_partitioning=true)"
    bar = (
        f"SELECT instrument_id, ts_event // {MINUTE_NS} AS minute, arg_min(mid, ts_event), max(mid), min(mid),"
        f" arg_max(mid, ts_event), count(*) FROM (SELECT instrument_id, ts_event, (bid_price + ask_price) / 2 AS mid"
        f" FROM {table} WHERE %s) GROUP BY ALL"
    )

    def rows(query: str) -> int:
        return len(next(iter(connection.execute(query).fetchnumpy().values())))

    def hour(number: int) -> int:
        first = hour_of(number)
        where = f"instrument_id = {instrument_of(number)} AND ts_event BETWEEN {first} AND {first + HOUR_NS - 1}"
        return rows(f"SELECT * FROM {table} WHERE {where}")

    def as_of(number: int) -> int:
        at = time_of(number)
        newest = ", ".join(f"arg_max({name}, ts_event)" for name in _NEWEST)
        where = f"ts_event BETWEEN {at - LOOK_BACK_NS} AND {at}"
        return rows(f"SELECT instrument_id, {newest} FROM {table} WHERE {where} GROUP BY instrument_id")

    def bars_one(number: int) -> int:
        return rows(bar % f"instrument_id = {instrument_of(number)}")

    return Ask(hour, as_of, bars_one, lambda _: rows(bar % "true"))
