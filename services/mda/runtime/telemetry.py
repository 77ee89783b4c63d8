"""Traces and metrics of a service."""

from __future__ import annotations

import sys
from typing import Final

import structlog
from opentelemetry import trace
from prometheus_client import Counter, Gauge, Histogram, start_http_server

from mda.runtime.settings import ServiceSettings

_LOG: Final = structlog.stdlib.get_logger("mda.telemetry")

CALLS: Final = Counter("mda_grpc_calls_total", "Calls that have ended.", ["method", "code"])
SECONDS: Final = Histogram(
    "mda_grpc_call_seconds",
    "How long unary calls took.",
    ["method"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
OPEN_STREAMS: Final = Gauge("mda_grpc_open_streams", "Streams that are open.", ["method"])
CLIENT_CALLS: Final = Counter(
    "mda_client_calls_total", "Calls of a client that have ended.", ["client", "method", "code"]
)
CLIENT_ROWS: Final = Counter("mda_client_rows_total", "Rows that a client was delivered, or published.", ["client"])
ROWS: Final = Counter("mda_rows_total", "Rows that came in or went out.", ["direction", "dataset"])
BYTES: Final = Counter("mda_row_bytes_total", "Bytes of rows that came in or went out.", ["direction", "dataset"])
DAMAGE: Final = Counter("mda_tape_damage_total", "Places where a tape is damaged.", ["dataset"])
OPEN_GAPS: Final = Gauge("mda_open_gaps", "Gaps that are open.", ["dataset"])
ARCHIVED_ROWS: Final = Counter("mda_archived_rows_total", "Rows that were committed to the lake.", ["dataset"])
ARCHIVE_LAG: Final = Gauge("mda_archive_lag_entries", "Tape entries that are not in the lake yet.", ["dataset"])
LAG: Final = Gauge("mda_stream_lag_entries", "Tape entries that the slowest open stream has yet to send.", ["dataset"])


_MOST_CLIENTS: Final = 500
_OTHERS: Final = "(others)"
_clients: Final[set[str]] = set()


def client_label(client: str) -> str:
    """Return what metrics call a client: its id, or `(others)` for those that come after the first 500."""
    if client in _clients:
        return client
    if len(_clients) >= _MOST_CLIENTS:
        return _OTHERS
    _clients.add(client)
    return client


def start_telemetry(service: str, settings: ServiceSettings) -> None:
    """Send traces to the collector, and serve `/metrics`, where the settings say so."""
    if settings.otlp_endpoint is not None:
        # Imported here: it takes long, and a service that is started again should be quick.
        from mda.runtime.traces import start_traces

        start_traces(service, settings.otlp_endpoint)
    if settings.metrics_port is not None:
        try:
            start_http_server(settings.metrics_port, addr=settings.host)
        except OSError as error:
            _LOG.error("cannot serve metrics: is the port taken?", port=settings.metrics_port, error=str(error))
            sys.exit(1)


def stop_telemetry() -> None:
    """Send what traces are left."""
    shutdown = getattr(trace.get_tracer_provider(), "shutdown", None)  # none has it where no traces are sent
    if shutdown is not None:
        shutdown()
