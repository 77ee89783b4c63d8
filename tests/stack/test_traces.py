"""One trace runs from the gateway to the tape and on to the reader."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.polling import until
from tests.stack.conftest import Stack, free_port, start

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OpenTelemetry collector that keeps the spans of one trace."""

    def __init__(self) -> None:
        self.spans: set[tuple[str, str]] = set()

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    if span.trace_id.hex() == TRACE:
                        self.spans.add((names["service.name"], span.name))
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Generator[tuple[Collector, int]]:
    port = free_port()
    server = grpc.server(ThreadPoolExecutor(4))
    collecting = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collecting, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    yield collecting, port
    server.stop(1).wait()


@pytest.fixture
def traced(collector: tuple[Collector, int], tmp_path_factory: pytest.TempPathFactory) -> Generator[Stack]:
    running = start(tmp_path_factory.mktemp("traced"), "--no-feed", "--otlp", f"127.0.0.1:{collector[1]}")
    yield running
    running.mda("down")


def test_a_quote_is_traced_from_the_gateway_to_the_reader(traced: Stack, collector: tuple[Collector, int]) -> None:
    headers = {
        "authorization": f"Bearer {traced.token(traced.secrets['api_key'])}",
        "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
    }
    with httpx.Client(base_url=traced.url, headers=headers) as http:
        http.post("/v1/datasets/TRACED/instruments", json={"instruments": [{"symbol": "A"}]}).raise_for_status()
        quote = {"symbol": "A", "event_time": "2024-07-01T00:00:00Z", "bid_price": "1"}
        http.post("/v1/datasets/TRACED/quotes:publish", json={"quotes": [quote]}).raise_for_status()
        until(lambda: http.get("/v1/datasets/TRACED/quotes:latest").json()["quotes"] != [])
    wanted = {
        ("mda-ingestion", "/marketdata.ingestion.v1.IngestionService/PublishQuotes"),
        ("mda-ingestion", "tape append"),
        ("mda-query", "tape deliver"),
    }
    until(lambda: wanted <= collector[0].spans, within_s=15)
    assert any("gateway" in service for service, _ in collector[0].spans)
    log = (traced.data / "logs" / "ingestion.log").read_text()
    assert "serving" in log
