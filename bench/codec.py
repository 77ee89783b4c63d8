"""The codec: views beside the generated stubs. And digests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.report import Report
from bench.stack import quotes
from marketdata.codec import to_bytes
from marketdata.columns import COLUMNS, MAX_ROWS, Batch, Kind, from_message
from marketdata.digest import digest_of
from marketdata.v1 import batch_pb2
from marketdata.wire import parse

_ROWS = 1000


def run(report: Report) -> None:
    """Measure 1,000 rows of 8 columns, and digests of the largest batch, too."""
    batch = quotes(_ROWS, 0)
    data = to_bytes(batch)
    if _typed_build(batch) != data:
        raise AssertionError("the view's bytes are not the stub's")
    build = _ns_per_row(lambda: to_bytes(batch), 2000)
    report.add("codec, 1,000 rows", "build", build, "ns/row", _ns_per_row(lambda: _typed_build(batch), 100))
    read = _ns_per_row(lambda: from_message(parse(batch_pb2.Batch, data)), 2000)
    report.add("codec, 1,000 rows", "parse to NumPy", read, "ns/row", _ns_per_row(lambda: _typed_parse(data), 200))
    report.add("codec, 1,000 rows", "digest", _ns_per_row(lambda: digest_of(batch), 200), "ns/row")
    large = quotes(MAX_ROWS, 0)
    digest = _ns_per_row(lambda: digest_of(large), 20, MAX_ROWS)
    report.add(f"codec, {MAX_ROWS:,} rows", "digest", digest, "ns/row")


def _typed_build(batch: Batch) -> bytes:
    message = batch_pb2.Batch(rows=batch.rows)
    for name, values in batch.columns.items():
        getattr(message.quotes, name).extend(values.tolist())
    return message.SerializeToString()


def _typed_parse(data: bytes) -> list[Any]:
    message = batch_pb2.Batch.FromString(data)
    return [np.array(getattr(message.quotes, column.name), column.dtype) for column in COLUMNS[Kind.QUOTE]]


def _ns_per_row(action: Callable[[], object], times: int, rows: int = _ROWS) -> float:
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter_ns()
        for _ in range(times):
            action()
        best = min(best, (time.perf_counter_ns() - started) / times / rows)
    return best
