"""Sends traces to an OpenTelemetry collector."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def start_traces(service: str, endpoint: str) -> None:
    """Send the spans of this process to a collector's gRPC address, as those of `mda-<service>`."""
    provider = TracerProvider(resource=Resource.create({"service.name": f"mda-{service}"}))
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=True, timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=4096, schedule_delay_millis=500))
    trace.set_tracer_provider(provider)
