"""The lake: one day of generated quotes of 500 instruments, asked for as people ask, beside others over the same rows.

Others are measured where they are installed; see `bench.rivals`, `bench.arctic` and `bench.questdb`.
Their `bare` figure is ours.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.asks import (
    ALL,
    DATASET,
    DAY_NS,
    HOUR_NS,
    INSTRUMENTS,
    MINUTE_NS,
    NANOS,
    START_NS,
    TIMES,
    Ask,
    hour_of,
    instrument_of,
    taken_ms,
    time_of,
)
from bench.report import Report
from bench.rivals import duckdb_asks
from marketdata.columns import Batch, Kind, make_batch
from mda.archive.commits import Tables
from mda.archive.compaction import compact
from mda.archive.pending import Pending
from mda.archive.settings import ArchiveSettings
from mda.lake.lake import Lake
from mda.lake.location import Location
from mda.market.bars import Fill, no_gaps
from mda.market.intervals import Interval
from mda.market.sessions import Session
from mda.query.history.as_of import rows_as_of
from mda.query.history.bars import BarQuery, make_bars, stretch_of
from mda.query.history.source import Source, Wanted
from mda.tape.damage import Inspector
from mda.tape.payload import encode_payload
from mda.tape.tape import Entry, StoredEntry

_BATCH: Final = 5_000
_COMMIT_ROWS: Final = 1 << 20
_CENT: Final = 10_000_000
_EPOCH: Final = 7


def batches(rows: int) -> Iterator[Batch]:
    """Yield quotes in the order of time: busy instruments have many, quiet ones few."""
    random = np.random.default_rng(1)
    weights = 1 / np.arange(1, INSTRUMENTS + 1) ** 0.7
    weights /= weights.sum()
    prices = random.integers(1_000, 50_000, INSTRUMENTS) * _CENT
    for first in range(0, rows, _BATCH):
        chosen = random.choice(INSTRUMENTS, _BATCH, p=weights)
        times = START_NS + DAY_NS * first // rows + np.sort(random.integers(0, DAY_NS * _BATCH // rows, _BATCH))
        bids = prices[chosen] + random.integers(-2, 3, _BATCH) * _CENT
        yield make_batch(
            Kind.QUOTE,
            {
                "instrument_id": chosen + 1,
                "ts_event": times,
                "ts_recv": times + random.lognormal(11, 0.5, _BATCH).astype(np.int64),
                "sequence": np.arange(first, first + _BATCH),
                "bid_price": bids,
                "bid_size": random.integers(1, 50, _BATCH) * 100 * NANOS,
                "ask_price": bids + random.integers(1, 4, _BATCH) * _CENT,
                "ask_size": random.integers(1, 50, _BATCH) * 100 * NANOS,
            },
        )


def fill(folder: Path, rows: int, report: Report) -> None:
    """Archive the rows as the archive service does, and write the files together."""
    tables = Tables(Location(str(folder)), DATASET, _EPOCH)
    tables.open()
    inspector, pending, spent_s, before = Inspector(0), Pending(_EPOCH), 0.0, ""
    for sequence, batch in enumerate(batches(rows), 1):
        entry = Entry(sequence, sequence, 1, encode_payload([batch]))
        link = entry.link("bench", before)
        before = link.hash
        stored = StoredEntry(sequence, int(batch["ts_event"][-1]), "bench", entry, link, {})
        began = time.perf_counter()
        pending.add(stored, inspector)
        if pending.rows >= _COMMIT_ROWS:
            tables.commit(pending)
            pending = Pending(_EPOCH)
        spent_s += time.perf_counter() - began
    if len(pending):
        tables.commit(pending)
    report.add("lake", "archived", rows / spent_s / 1e6, "M rows/s")
    began = time.perf_counter()
    compact(Location(str(folder / DATASET)), ArchiveSettings(), whole=True)
    report.add("lake", "written together", rows / (time.perf_counter() - began) / 1e6, "M rows/s")


def ours(source: Source) -> Ask:
    """Return our queries: what the query service works with."""

    def hour(number: int) -> int:
        first = hour_of(number)
        ids = np.array([instrument_of(number)], np.uint32)
        return sum(p.batch.rows for p in source.rows(Wanted(Kind.QUOTE, ids, (first, first + HOUR_NS - 1))))

    def as_of(number: int) -> int:
        found = rows_as_of(source, Kind.QUOTE, ALL, time_of(number))
        return found.rows if found is not None else 0

    def bars(ids: NDArray[np.uint32]) -> int:
        query = BarQuery(ids, START_NS, START_NS + DAY_NS, Interval(MINUTE_NS), Session(), Kind.QUOTE, Fill.NONE)
        return len(make_bars(source, query, stretch_of(query, 1 << 30, (0, 0)), START_NS + 2 * DAY_NS, no_gaps()))

    return Ask(hour, as_of, lambda n: bars(np.array([instrument_of(n)], np.uint32)), lambda _: bars(ALL))


def measure(asks: dict[str, Ask]) -> dict[str, dict[str, list[float]]]:
    """Ask each engine the same, in turns; return the milliseconds, by question and engine."""
    taken: dict[str, dict[str, list[float]]] = {}
    for name, times in TIMES.items():
        for ask in asks.values():
            taken_ms(ask, name, 0)
        taken[name] = {engine: [] for engine in asks}
        for number in range(times):
            for engine, ask in asks.items():
                taken[name][engine].append(taken_ms(ask, name, number))
    return taken


def run(report: Report, rows: int, arcticdb: str | None, questdb: str | None) -> None:
    """Measure.

    Parameters
    ----------
    report
        Where the figures go.
    rows
        How many rows there are.
    arcticdb
        The Python of an environment with ArcticDB; None where there is none.
    questdb
        QuestDB's server, a jar; None where there is none.
    """
    folder = Path("build/bench-lake").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    try:
        fill(folder, rows, report)
        lake = Lake(Location(str(folder)), DATASET, _EPOCH)
        view = lake.view()
        quotes, entries = view.tables["quotes"], view.tables["entries"]
        size = sum(file.size for file in (*quotes.files, *entries.files))
        report.add("lake", "disk", size / quotes.rows, "bytes/row")
        asks = {"ours": ours(Source(_EPOCH, view.archived, lake, view))}
        if importlib.util.find_spec("duckdb") is not None:
            asks["DuckDB"] = duckdb_asks(folder)
        taken = measure(asks)
        if arcticdb is not None:
            _add(taken, "ArcticDB", [arcticdb, "-m", "bench.arctic", str(folder)])
        if questdb is not None:
            _add(taken, "QuestDB", [sys.executable, "-m", "bench.questdb", str(folder), questdb])
        _tell(taken, report)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _add(taken: dict[str, dict[str, list[float]]], engine: str, command: list[str]) -> None:
    """Add what an engine's own process has measured."""
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    for name, found in json.loads(answer.stdout).items():
        taken[name][engine] = found


def _tell(taken: dict[str, dict[str, list[float]]], report: Report) -> None:
    for name, engines in taken.items():
        for share in (50, 99):
            base = float(np.percentile(engines["ours"], share))
            for engine, found in engines.items():
                value = float(np.percentile(found, share))
                report.add(f"lake: {name}", f"{engine}, p{share}", value, "ms", None if engine == "ours" else base)
