"""What happens around calls of all four kinds, over a real channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from echo_service import KINDS, PATH, PUBLIC, SCOPED, Caller, serving
from grpc_health.v1 import health_pb2, health_pb2_grpc
from issuing import AUDIENCE, ISSUER, Issuer, eventually
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from marketdata.errors import ApiError, api_error
from marketdata.v1.instrument_pb2 import Instrument
from mda.runtime import telemetry
from mda.runtime.identity import TokenVerifier

METHODS = list(KINDS)
STREAMS = [name for name, kind in KINDS.items() if any(kind)]
OK = Instrument(symbol="ALFA")
C = grpc.StatusCode


def told(description: str) -> Instrument:
    return Instrument(symbol="ALFA", description=description)


@pytest_asyncio.fixture
async def public() -> AsyncIterator[Caller]:
    async with serving(PUBLIC) as caller:
        yield caller


@pytest_asyncio.fixture
async def scoped(issuer: Issuer) -> AsyncIterator[Caller]:
    async with serving(SCOPED, TokenVerifier(issuer.fetch, ISSUER, AUDIENCE)) as caller:
        yield caller


async def refused(caller: Caller, method: str, *requests: Instrument | bytes, **options: Any) -> ApiError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.answers(method, *requests, **options)
    return api_error(caught.value)


def counted(method: str, code: C) -> float:
    labels = {"method": f"{PATH}/{method}", "code": code.name}
    return REGISTRY.get_sample_value("mda_grpc_calls_total", labels) or 0


@pytest.mark.parametrize("method", METHODS)
async def test_a_good_call_is_answered(public: Caller, method: str) -> None:
    assert (await public.answers(method, OK))[-1] == OK


@pytest.mark.parametrize("method", METHODS)
async def test_an_error_has_reason_and_facts(public: Caller, method: str) -> None:
    error = await refused(public, method, told("refuse"))
    assert (error.code, error.reason) == (C.NOT_FOUND, "UNKNOWN_INSTRUMENT")
    assert error.metadata == {"field": "symbols[0]", "symbol": "ALFA", "dataset": "SIM"}
    assert error.message.startswith("SIM has no instrument 'ALFA'.")


@pytest.mark.parametrize("method", ["OneMany", "ManyMany"])
@pytest.mark.parametrize(("act", "code"), [("refuse", C.NOT_FOUND), ("defect", C.INTERNAL)])
async def test_what_was_written_comes_before_the_error(public: Caller, method: str, act: str, code: C) -> None:
    requests = [told(act)] if method == "OneMany" else [Instrument(symbol="first"), told(act)]
    call = public.call(method, *requests)
    assert (await call.read()).symbol == "first"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is code


async def test_an_error_after_many_requests_ends_the_call(public: Caller) -> None:
    assert (await refused(public, "ManyOne", OK, OK, told("refuse"))).code is C.NOT_FOUND


@pytest.mark.parametrize("method", METHODS)
async def test_a_defect_is_told_by_request_id_alone(public: Caller, method: str) -> None:
    with capture_logs([merge_contextvars]) as logs:
        error = await refused(public, method, told("defect"), metadata={"x-request-id": "r-7"})
    assert (error.code, error.reason) == (C.INTERNAL, "INTERNAL")
    assert error.metadata == {"request_id": "r-7"}
    assert error.message == "The server failed. Report request id r-7."
    (entry,) = [entry for entry in logs if entry["event"] == "defect"]
    assert (entry["request_id"], entry["method"]) == ("r-7", f"{PATH}/{method}")
    assert entry["log_level"] == "error"
    assert entry["exc_info"]


async def test_a_call_without_request_id_is_given_one(public: Caller) -> None:
    first = (await refused(public, "OneOne", told("defect"))).metadata["request_id"]
    second = (await refused(public, "OneOne", told("defect"))).metadata["request_id"]
    assert len(first) == len(second) == 32
    assert first != second


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("request_", "field", "rule"),
    [
        (Instrument(symbol="with space"), "symbol", "string.pattern"),
        (Instrument(symbol="A", tick_size_nanos=-1), "tick_size_nanos", "int64.gte"),
        (Instrument(symbol="A", description="x" * 257), "description", "string.max_len"),
    ],
)
async def test_a_broken_rule_names_the_field(
    public: Caller, method: str, request_: Instrument, field: str, rule: str
) -> None:
    error = await refused(public, method, request_)
    assert (error.code, error.reason) == (C.INVALID_ARGUMENT, "INVALID_FIELD")
    assert error.metadata == {"field": field, "rule": rule}
    assert error.message.startswith(f"{field}: ")


@pytest.mark.parametrize("method", METHODS)
async def test_bytes_that_are_no_message_are_an_invalid_argument(public: Caller, method: str) -> None:
    error = await refused(public, method, b"\xff\xff")
    assert (error.code, error.reason) == (C.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
    assert error.metadata == {"type": "marketdata.v1.Instrument"}


@pytest.mark.parametrize("method", METHODS)
async def test_a_token_opens_the_method_and_names_the_client(scoped: Caller, issuer: Issuer, method: str) -> None:
    metadata = {"authorization": f"Bearer {issuer.token(sub='desk')}"}
    assert (await scoped.answers(method, told("who"), metadata=metadata))[-1].description == "desk"


@pytest.mark.parametrize("method", METHODS)
async def test_without_token_or_scope_nothing_is_served(scoped: Caller, issuer: Issuer, method: str) -> None:
    missing = await refused(scoped, method, OK)
    assert (missing.code, missing.metadata) == (C.UNAUTHENTICATED, {"problem": "missing"})
    lacking = {"authorization": f"Bearer {issuer.token(scope='quotes:publish')}"}
    denied = await refused(scoped, method, OK, metadata=lacking)
    assert (denied.code, denied.reason) == (C.PERMISSION_DENIED, "MISSING_SCOPE")
    assert denied.metadata == {"scope": "quotes:read"}


async def test_a_public_method_knows_no_client(public: Caller, issuer: Issuer) -> None:
    metadata = {"authorization": f"Bearer {issuer.token()}"}
    assert (await refused(public, "OneOne", told("who"), metadata=metadata)).reason == "INTERNAL"


async def test_a_method_without_a_rule_is_refused_to_everybody(scoped: Caller, issuer: Issuer) -> None:
    metadata = {"authorization": f"Bearer {issuer.token()}"}
    error = await refused(scoped, "Ruleless", OK, metadata=metadata)
    assert (error.code, error.reason) == (C.PERMISSION_DENIED, "MISSING_SCOPE")
    assert "no access rule" in error.message


async def test_a_service_that_verifies_nothing_takes_no_token(issuer: Issuer) -> None:
    async with serving(SCOPED) as caller:
        error = await refused(caller, "OneOne", OK, metadata={"authorization": f"Bearer {issuer.token()}"})
    assert (error.code, error.metadata) == (C.UNAUTHENTICATED, {"problem": "issuer"})


async def test_a_method_that_is_not_there_is_unimplemented(public: Caller) -> None:
    assert (await refused(public, "Nothing", OK)).code is C.UNIMPLEMENTED


async def test_health_needs_no_rule_and_no_token(scoped: Caller) -> None:
    answer = await health_pb2_grpc.HealthStub(scoped.channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def opened(method: str) -> float:
    return REGISTRY.get_sample_value("mda_grpc_open_streams", {"method": f"{PATH}/{method}"}) or 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("act", "code"), [("", C.OK), ("refuse", C.NOT_FOUND), ("defect", C.INTERNAL)])
async def test_ended_calls_are_counted_by_method_and_code(public: Caller, method: str, act: str, code: C) -> None:
    before = counted(method, code)
    if code is C.OK:
        await public.answers(method, told(act))
    else:
        await refused(public, method, told(act))
    await eventually(lambda: counted(method, code) == before + 1)


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_that_its_caller_ends_is_cancelled(public: Caller, method: str) -> None:
    before = counted(method, C.CANCELLED)
    call = public.call(method, told("hang"))
    await eventually(lambda: public.echo.hanging == 1)
    call.cancel()
    await eventually(lambda: counted(method, C.CANCELLED) == before + 1)
    assert public.echo.hanging == 0


@pytest.mark.parametrize("method", STREAMS)
async def test_open_streams_are_counted_while_they_are_open(public: Caller, method: str) -> None:
    before = opened(method)
    call = public.call(method, told("hang"))
    await eventually(lambda: opened(method) == before + 1)
    call.cancel()
    await eventually(lambda: opened(method) == before)


async def test_ended_calls_are_counted_by_client(scoped: Caller, issuer: Issuer) -> None:
    def seen(code: C) -> float:
        labels = {"client": "counted-desk", "method": f"{PATH}/OneOne", "code": code.name}
        return REGISTRY.get_sample_value("mda_client_calls_total", labels) or 0

    for scope, code in (("quotes:read", C.OK), ("quotes:publish", C.PERMISSION_DENIED)):
        metadata = {"authorization": f"Bearer {issuer.token(sub='counted-desk', scope=scope)}"}
        await asyncio.gather(scoped.answers("OneOne", OK, metadata=metadata), return_exceptions=True)
        await eventually(lambda code=code: seen(code) == 1)


def test_metrics_name_so_many_clients_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_MOST_CLIENTS", 2)
    monkeypatch.setattr(telemetry, "_clients", set())
    labels = [telemetry.client_label(client) for client in ("a", "b", "c", "a", "d")]
    assert labels == ["a", "b", "(others)", "a", "(others)"]


async def test_unary_calls_are_timed(public: Caller) -> None:
    labels = {"method": f"{PATH}/OneOne"}
    before = REGISTRY.get_sample_value("mda_grpc_call_seconds_count", labels) or 0
    await public.answers("OneOne", OK)
    await eventually(lambda: REGISTRY.get_sample_value("mda_grpc_call_seconds_count", labels) == before + 1)


async def test_a_write_to_a_reader_that_has_gone_is_no_defect(public: Caller) -> None:
    before = counted("OneMany", C.CANCELLED)
    with capture_logs() as logs:
        call = public.call("OneMany", told("stubborn"))
        await eventually(lambda: public.echo.hanging == 1)
        call.cancel()
        await eventually(lambda: counted("OneMany", C.CANCELLED) == before + 1)
    assert [entry for entry in logs if entry["event"] == "defect"] == []


async def test_a_reader_that_goes_away_is_no_defect(public: Caller) -> None:
    before = counted("OneMany", C.CANCELLED)
    with capture_logs() as logs:
        call = public.call("OneMany", told("flood"))
        await call.read()
        call.cancel()
        await eventually(lambda: counted("OneMany", C.CANCELLED) == before + 1)
    assert [entry for entry in logs if entry["event"] == "defect"] == []


async def test_a_refusal_is_logged_with_request_id_method_and_client(scoped: Caller, issuer: Issuer) -> None:
    metadata = {"authorization": f"Bearer {issuer.token(sub='desk')}", "x-request-id": "r-9"}
    with capture_logs([merge_contextvars]) as logs:
        await refused(scoped, "OneOne", told("refuse"), metadata=metadata)
        await refused(scoped, "OneOne", OK, metadata={"x-request-id": "r-10"})
    first, second = (entry for entry in logs if entry["event"] == "refused")
    assert (first["request_id"], first["method"], first["client"]) == ("r-9", f"{PATH}/OneOne", "desk")
    assert (first["reason"], first["code"]) == ("UNKNOWN_INSTRUMENT", "NOT_FOUND")
    assert second["request_id"] == "r-10"
    assert "client" not in second


async def test_a_refusal_is_logged_with_who_a_mesh_says_is_at_the_other_end(scoped: Caller) -> None:
    gateway = "spiffe://cluster.local/ns/md/sa/gateway"
    proved = f'By=spiffe://x;URI=spiffe://elsewhere/sa/other,By=spiffe://y;Hash=00;Subject="";URI={gateway}'
    with capture_logs([merge_contextvars]) as logs:
        await refused(scoped, "OneOne", OK, metadata={"x-forwarded-client-cert": proved})
        await refused(scoped, "OneOne", OK, metadata={"x-forwarded-client-cert": "URI=https://elsewhere"})
    first, second = (entry for entry in logs if entry["event"] == "refused")
    assert first["peer"] == gateway
    assert "peer" not in second


async def test_an_answer_is_logged_with_its_peer_for_who_looks_closely(public: Caller) -> None:
    with capture_logs([merge_contextvars]) as logs:
        await public.answers("OneOne", OK, metadata={"x-forwarded-client-cert": "By=spiffe://y;URI=spiffe://a/sa/b"})
    (answered,) = (entry for entry in logs if entry["event"] == "answered")
    assert (answered["log_level"], answered["peer"]) == ("debug", "spiffe://a/sa/b")


async def test_a_call_is_a_span_of_its_callers_trace(public: Caller, spans: InMemorySpanExporter) -> None:
    trace_id, parent_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    metadata = {"traceparent": f"00-{trace_id}-{parent_id}-01", "x-request-id": "r-3"}
    await public.answers("OneOne", OK, metadata=metadata)
    (span,) = await eventually(spans.get_finished_spans)
    assert (span.name, span.kind) == (f"{PATH}/OneOne", SpanKind.SERVER)
    assert f"{span.context.trace_id:032x}" == trace_id
    assert f"{span.parent.span_id:016x}" == parent_id
    assert span.attributes["mda.request_id"] == "r-3"
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("method", METHODS)
async def test_a_refused_call_is_a_span_with_an_error(public: Caller, spans: InMemorySpanExporter, method: str) -> None:
    await refused(public, method, told("refuse"))
    (span,) = await eventually(spans.get_finished_spans)
    assert span.status.status_code is StatusCode.ERROR
    assert span.events[0].attributes["exception.type"].endswith("MarketDataError")
