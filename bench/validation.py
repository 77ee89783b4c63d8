"""Validation: rows of many instruments, interleaved, by the default rules and by all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from google.protobuf.duration_pb2 import Duration

from bench.report import Report
from marketdata.columns import NANOS, Batch, Kind, make_batch
from marketdata.v1.instrument_pb2 import Instrument
from marketdata.v1.policy_pb2 import Policy
from mda.market.history import History
from mda.market.instruments import Directory
from mda.market.policy import Rules, make_rules
from mda.market.verdicts import check, flag

_NOW_NS = 1_767_225_600 * NANOS
_INSTRUMENTS = 500
_BATCHES = 32
_DEFAULT = Policy()
_ALL = Policy(
    locked=Policy.ACTION_FLAG,
    duplicate_sequence=Policy.ACTION_FLAG,
    missing_side=Policy.ACTION_FLAG,
    stale_after=Duration(seconds=60),
    future_after=Duration(seconds=1),
    outlier_basis_points=500,
)


def run(report: Report) -> None:
    """Measure batches of 1,000 and of 10,000 quotes, beside a copy of their columns."""
    directory = Directory()
    directory.apply(directory.plan([Instrument(symbol=f"S{i}") for i in range(_INSTRUMENTS)])[1], 1)
    for rows in (1_000, 10_000):
        in_order, mixed, worst = (_batches(rows, disorder_ns) for disorder_ns in (0, 3_000, 10_000_000))
        bare = _ns_per_row(in_order, lambda: _copy)
        group = f"validation, {rows:,} rows of {_INSTRUMENTS} instruments"
        for name, batches, policy in (
            ("in order, default policy", in_order, _DEFAULT),
            ("in order, all verdicts", in_order, _ALL),
            ("a little out of order, all verdicts", mixed, _ALL),
            ("half of them late, all verdicts", worst, _ALL),
        ):
            validation = partial(_validation, directory, make_rules(policy))
            report.add(group, name, _ns_per_row(batches, validation), "ns/row", bare)


def _batches(rows: int, disorder_ns: int) -> list[Batch]:
    random = np.random.default_rng(7)
    prices = random.integers(50, 500, _INSTRUMENTS + 1) * NANOS
    made: list[Batch] = []
    for number in range(_BATCHES):
        ids = random.integers(1, _INSTRUMENTS + 1, rows)
        times = _NOW_NS + (np.arange(rows) + number * rows) * 1_000 - random.integers(0, disorder_ns + 1, rows)
        columns = {
            "instrument_id": ids,
            "ts_event": times,
            "sequence": np.arange(rows) + number * rows,
            "bid_price": prices[ids],
            "ask_price": prices[ids] + 10_000_000,
        }
        made.append(make_batch(Kind.QUOTE, columns))
    return made


def _validation(directory: Directory, rules: Rules) -> Callable[[Batch], object]:
    history = History()
    now_ns = _NOW_NS + NANOS
    return lambda batch: flag(check(batch, directory, now_ns, rules), history, directory, rules)


def _copy(batch: Batch) -> object:
    return [values.copy() for values in batch.columns.values()]


def _ns_per_row(batches: list[Batch], make_action: Callable[[], Callable[[Batch], object]]) -> float:
    best = float("inf")
    for _ in range(20):
        action = make_action()  # anew: to what has seen the rows before, all of them are late
        started = time.perf_counter_ns()
        for batch in batches:
            action(batch)
        best = min(best, (time.perf_counter_ns() - started) / len(batches) / batches[0].rows)
    return best
