"""What happens around every call: identity, rules, errors, logs, traces, metrics.

One interceptor wraps the behaviour of each call, of all four kinds, so that it also
sees what goes wrong in mid-stream. Of a stream of requests it looks at the message that
opens it and no further: streams cost next to nothing per message here. Health and
reflection are left alone.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import Message
from opentelemetry import propagate, trace

from marketdata.v1 import error_reason_pb2 as reasons
from mda.market.errors import MarketDataError
from mda.runtime.access import Rule
from mda.runtime.errors import abort, status_code
from mda.runtime.handlers import Malformed, Refused
from mda.runtime.identity import (
    Caller,
    Principal,
    TokenVerifier,
    client_of_call,
    current_account,
    rate_headers,
    require_dataset,
    require_scope,
    set_caller,
)
from mda.runtime.telemetry import CALLS, CLIENT_CALLS, OPEN_STREAMS, SECONDS, client_label
from mda.runtime.usage.account import Usage
from mda.runtime.validation import validate_request

_PEERS: Final = re.compile(r"URI=(spiffe://[^;,\"]+)")
_LEFT_ALONE: Final = ("/grpc.health.", "/grpc.reflection.")
_LOG: Final = structlog.stdlib.get_logger("mda.calls")
_TRACER: Final = trace.get_tracer("mda")

Behaviour = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    streams: bool
    behaviour: Behaviour


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every call of the services' own methods.

    Parameters
    ----------
    rules
        The access rule of each method, by path. A method without one is refused.
    verifier
        Verifies tokens; None where every method is public.
    refused
        Who is told of refusals, by the full name of the service whose calls are refused.
    usage
        What clients use; each process's own where not given.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        verifier: TokenVerifier | None,
        refused: Mapping[str, Refused] = MappingProxyType({}),
        usage: Usage | None = None,
    ) -> None:
        self._rules = rules
        self._verifier = verifier
        self._refused = refused
        self._usage = usage or Usage()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the method's handler with its behaviour wrapped."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or method.startswith(_LEFT_ALONE):
            return handler
        streams = handler.request_streaming or handler.response_streaming
        kind = f"{_KIND[handler.request_streaming]}_{_KIND[handler.response_streaming]}"
        call = _Call(method, streams, getattr(handler, kind))

        async def wrapped(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            return await self._serve(call, request, context)

        factory: Callable[..., grpc.RpcMethodHandler[Any, Any]] = getattr(grpc, f"{kind}_rpc_method_handler")
        return factory(wrapped, handler.request_deserializer, handler.response_serializer)

    async def _serve(self, call: _Call, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        request_id = metadata.get("x-request-id") or uuid.uuid4().hex
        structlog.contextvars.bind_contextvars(request_id=request_id, method=call.method)
        # What a mesh has proved of who is at the other end; the last one is the nearest.
        if peers := _PEERS.findall(metadata.get("x-forwarded-client-cert", "")):
            structlog.contextvars.bind_contextvars(peer=peers[-1])
        parent = propagate.extract(metadata)
        if call.streams:
            OPEN_STREAMS.labels(call.method).inc()
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        try:
            with _TRACER.start_as_current_span(call.method, parent, trace.SpanKind.SERVER) as span:
                span.set_attribute("rpc.system", "grpc")
                span.set_attribute("mda.request_id", request_id)
                return await self._answer(call, request, context, metadata, request_id)
        except MarketDataError as error:
            code = status_code(error)
            await abort(context, error, rate_headers())
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        finally:
            CALLS.labels(call.method, code.name).inc()
            if (client := client_of_call()) is not None:
                CLIENT_CALLS.labels(client_label(client), call.method, code.name).inc()
            if code is grpc.StatusCode.OK:
                _LOG.debug("answered")
            if call.streams:
                OPEN_STREAMS.labels(call.method).dec()
            else:
                SECONDS.labels(call.method).observe(time.perf_counter() - started)

    async def _answer(
        self,
        call: _Call,
        request: Any,
        context: grpc.aio.ServicerContext[Any, Any],
        metadata: Mapping[str, str],
        request_id: str,
    ) -> Any:
        """Serve a call; whatever goes wrong comes out as a `MarketDataError`."""
        try:
            rule = self._rule(call.method)
            principal = None if rule.public else await self._authenticate(rule, metadata)
            return await self._serve_entitled(call, rule, principal, request, context)
        except MarketDataError as error:  # logged here, within the span
            code = status_code(error).name
            _LOG.info("refused", reason=error.reason_name, code=code, problem=error.message)
            raise
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception as error:
            if isinstance(error, grpc.aio.InternalError):  # a write to a reader that has gone
                raise asyncio.CancelledError from error
            _LOG.exception("defect")
            raise MarketDataError(
                reasons.ERROR_REASON_INTERNAL,
                f"The server failed. Report request id {request_id}.",
                request_id=request_id,
            ) from error

    async def _serve_entitled(
        self,
        call: _Call,
        rule: Rule,
        principal: Principal | None,
        request: Any,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> Any:
        try:
            if principal is None:
                check_request(request)
                return await call.behaviour(request, context)
            request = _entitled(rule, principal, request)
            if call.streams:
                account = current_account()
                await account.look_up_rows()
                with account.stream():
                    return await call.behaviour(request, context)
            return await _answer_unary(call, rule, request, context)
        except MarketDataError as error:
            refused = self._refused.get(call.method.split("/")[1])
            if principal is not None and refused is not None and error.reason in _REFUSALS:
                await refused(call.method, principal, error)
            raise

    def _rule(self, method: str) -> Rule:
        rule = self._rules.get(method)
        if rule is None or not (rule.public or rule.dataset is not None):
            raise MarketDataError(
                reasons.ERROR_REASON_MISSING_SCOPE, f"{method} has no access rule, so nobody may call it.", scope=""
            )
        return rule

    async def _authenticate(self, rule: Rule, metadata: Mapping[str, str]) -> Principal:
        if self._verifier is None:
            raise MarketDataError(reasons.ERROR_REASON_INVALID_TOKEN, "No token verifies here.", problem="issuer")
        verifier = self._verifier

        async def renewed(token: str) -> Principal:
            fresh = await verifier.verify(f"Bearer {token}")
            if not rule.any_client:
                require_scope(fresh, rule.scope)
            return fresh

        principal = await verifier.verify(metadata.get("authorization"))
        structlog.contextvars.bind_contextvars(client=principal.client)
        account = self._usage.account(principal.client, principal.quotas)
        set_caller(Caller(principal, account, renewed, verifier.revocations))
        account.take_call()
        return principal


async def _answer_unary(call: _Call, rule: Rule, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
    if rule.rows:
        await current_account().look_up_rows()
        current_account().require_rows()
    answer = await call.behaviour(request, context)
    if rule.rows:
        current_account().count_rows(rule.rows_of(request, answer))
    await _tell_rates(context)
    return answer


async def _tell_rates(context: grpc.aio.ServicerContext[Any, Any]) -> None:
    headers = rate_headers()
    if not headers:
        return
    if any(key == _TRANSCODED for key, _ in context.invocation_metadata() or ()):
        await context.send_initial_metadata(
            headers
        )  # REST's headers; a write of its own, which costs as much as a call
    else:
        context.set_trailing_metadata(headers)


_TRANSCODED: Final = "x-envoy-original-method"
"""What the gateway's transcoder adds to a call that came by REST."""
_KIND: Final = {False: "unary", True: "stream"}
_REFUSALS: Final = frozenset({reasons.ERROR_REASON_MISSING_SCOPE, reasons.ERROR_REASON_DATASET_NOT_ENTITLED})


def _entitled(rule: Rule, principal: Principal, request: Any) -> Any:
    """Return a request, or a stream of them, once its scope and its dataset are found to be the caller's."""
    if not rule.any_client:
        require_scope(principal, rule.scope)
    if isinstance(request, AsyncIterator):
        return _opened(rule, principal, request) if rule.dataset else request
    _require_dataset(rule, principal, request)
    return request


async def _opened(rule: Rule, principal: Principal, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    opening = True
    async for request in requests:
        if opening:
            _require_dataset(rule, principal, request)
            opening = False
        yield request


def _require_dataset(rule: Rule, principal: Principal, request: Any) -> None:
    message = rule.parsed(request)
    check_request(message)
    dataset = rule.dataset_of(message)
    if rule.dataset and (dataset or len(rule.dataset) == 1):  # what opens no stream is refused by its service
        require_dataset(principal, dataset, rule.field)


def check_request(request: Any) -> None:
    """Check a request, or a message of a stream of requests; iterators pass.

    Raises
    ------
    MarketDataError
        MALFORMED_MESSAGE or INVALID_FIELD.
    """
    if isinstance(request, Malformed):
        raise MarketDataError(
            reasons.ERROR_REASON_MALFORMED_MESSAGE,
            f"The bytes are not a {request.type_name}. Send the message that the contract describes.",
            type=request.type_name,
        )
    if isinstance(request, Message):
        validate_request(request)
