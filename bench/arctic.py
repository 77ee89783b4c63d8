"""The same questions for ArcticDB, in an environment of its own: it wants other versions of what we use.

`uv venv X; uv pip install --python X arcticdb duckdb`, and `--arcticdb X/bin/python` for the
bench. It has the rows in its own form, a symbol for each instrument, as it advises. Prints
JSON: the milliseconds that each question took.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from bench.asks import (
    ALL,
    DATASET,
    DAY_NS,
    HOUR_NS,
    LOOK_BACK_NS,
    START_NS,
    TIMES,
    Ask,
    hour_of,
    instrument_of,
    taken_ms,
    time_of,
)

_BAR: Final = {"open": "first", "high": "max", "low": "min", "close": "last", "rows": "count"}


def asks(folder: Path) -> Ask:
    """Take the rows of the lake in, and return the queries."""
    arctic: Any = import_module("arcticdb")
    pandas: Any = import_module("pandas")
    library = arctic.Arctic(f"lmdb://{folder / 'arctic'}?map_size=40GB").create_library("quotes")
    _take_in(library, folder)

    def request(instrument: int, first_ns: int, last_ns: int, query: Any = None) -> Any:
        times = (pandas.Timestamp(first_ns), pandas.Timestamp(last_ns))
        return arctic.ReadRequest(str(instrument), date_range=times, query_builder=query)

    def read(requests: list[Any]) -> int:
        return sum(len(found.data) for found in library.read_batch(requests))

    def as_of(number: int) -> int:
        at = time_of(number)
        found = library.read_batch([request(i, at - LOOK_BACK_NS, at) for i in ALL.tolist()])
        return len(pandas.concat([one.data.tail(1) for one in found]))

    def bars(instruments: list[int]) -> int:
        query = arctic.QueryBuilder()
        query = query.apply("mid", (query["bid_price"] + query["ask_price"]) / 2).resample("1min")
        query = query.agg({name: ("mid", how) for name, how in _BAR.items()})
        return read([request(i, START_NS, START_NS + DAY_NS, query) for i in instruments])

    def hour(number: int) -> int:
        first = hour_of(number)
        return read([request(instrument_of(number), first, first + HOUR_NS - 1)])

    return Ask(hour, as_of, lambda number: bars([instrument_of(number)]), lambda _: bars(ALL.tolist()))


def _take_in(library: Any, folder: Path) -> None:
    connection: Any = import_module("duckdb").connect()
    pandas: Any = import_module("pandas")
    files = [str(path) for path in sorted((folder / DATASET / "quotes").rglob("sorted-*.parquet"))]
    columns = "ts_event, ts_event + recv_delay_ns AS ts_recv, sequence, bid_price, bid_size, ask_price, ask_size"
    for instrument in ALL.tolist():
        query = f"SELECT {columns} FROM read_parquet({files!r}) WHERE instrument_id = {instrument} ORDER BY ts_event"
        frame = connection.execute(query).df()
        library.write(str(instrument), frame.set_index(pandas.DatetimeIndex(frame.pop("ts_event"))))


def main() -> None:
    """Measure."""
    ask = asks(Path(sys.argv[1]).resolve())
    taken: dict[str, list[float]] = {}
    for name, times in TIMES.items():
        taken_ms(ask, name, 0)
        taken[name] = [taken_ms(ask, name, number) for number in range(times)]
    sys.stdout.write(json.dumps(taken))


if __name__ == "__main__":
    main()
