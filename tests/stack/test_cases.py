"""`cases.yaml` over gRPC, gRPC-Web and REST, through the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass

from marketdata.archive.v1 import archive_service_pb2
from marketdata.errors import ApiError, api_error
from marketdata.ingestion.v1 import ingestion_service_pb2
from marketdata.query.v1 import query_service_pb2
from tests.stack import grpc_web
from tests.stack.conftest import Stack

CASES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("cases.yaml").read_text())
_LATEST = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"].methods_by_name["GetLatestQuotes"]
"""Stands in for methods that there are not."""
_FILES = (archive_service_pb2.DESCRIPTOR, ingestion_service_pb2.DESCRIPTOR, query_service_pb2.DESCRIPTOR)


def _request(case: dict[str, Any]) -> dict[str, Any]:
    request = dict(case.get("request", {}))
    if "repeat" in case:
        field, times = case["repeat"]
        request[field] = request[field] * times
    return request


def _headers(tokens: dict[str, str | None], case: dict[str, Any]) -> dict[str, str]:
    token = tokens[case.get("token", "good")]
    return {} if token is None else {"authorization": f"Bearer {token}"}


def _method(path: str) -> Any:
    service, _, name = f"marketdata.{path}".partition("/")
    for file in _FILES:
        for descriptor in file.services_by_name.values():
            if descriptor.full_name == service and name in descriptor.methods_by_name:
                return descriptor.methods_by_name[name]
    return None


@pytest.mark.parametrize("case", [case for case in CASES if case.get("only") != "rest"], ids=lambda case: case["name"])
async def test_grpc(stack: Stack, tokens: dict[str, str | None], case: dict[str, Any]) -> None:
    method = _method(case["method"])
    known = method or _LATEST
    request = json_format.ParseDict(_request(case), GetMessageClass(known.input_type)())
    async with grpc.aio.insecure_channel(stack.target) as channel:
        call = channel.unary_unary(
            f"/marketdata.{case['method']}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(known.output_type).FromString,
        )
        metadata = tuple(_headers(tokens, case).items())
        if case.get("code", "OK") == "OK":
            answer = json_format.MessageToDict(
                await call(request, metadata=metadata, timeout=10), preserving_proto_field_name=True
            )
            _assert_within(case["answer"], answer)
            return
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request, metadata=metadata, timeout=10)
    codes = case["code"] if isinstance(case["code"], list) else [case["code"]]
    assert caught.value.code().name in codes, caught.value.details()
    _assert_error(case, api_error(caught.value))


@pytest.mark.parametrize("case", [case for case in CASES if case.get("only") != "rest"], ids=lambda case: case["name"])
def test_grpc_web(stack: Stack, tokens: dict[str, str | None], case: dict[str, Any]) -> None:
    method = _method(case["method"]) or _LATEST
    request = json_format.ParseDict(_request(case), GetMessageClass(method.input_type)())
    answer = grpc_web.call(
        stack.url, f"/marketdata.{case['method']}", request.SerializeToString(), _headers(tokens, case)
    )
    codes = case.get("code", "OK")
    assert answer.code.name in (codes if isinstance(codes, list) else [codes]), answer.text
    if answer.code is not grpc.StatusCode.OK:
        assert answer.text
        return
    (message,) = answer.messages
    found = json_format.MessageToDict(
        GetMessageClass(method.output_type).FromString(message), preserving_proto_field_name=True
    )
    _assert_within(case["answer"], found)


def _assert_error(case: dict[str, Any], error: ApiError) -> None:
    assert error.message
    if error.reason or "field" in case:  # the gateway's own refusals have no details over gRPC
        assert error.reason == case["reason"]
        assert error.metadata.get("field") == case.get("field")


@pytest.mark.parametrize("case", [case for case in CASES if case.get("only") != "grpc"], ids=lambda case: case["name"])
def test_rest(stack: Stack, tokens: dict[str, str | None], case: dict[str, Any]) -> None:
    verb, path = case["rest"]
    body = {key: value for key, value in _request(case).items() if key != "dataset"}
    content: dict[str, Any] = {}
    if verb == "POST":
        content = {"content": case["body"]} if "body" in case else {"json": body}
    answer = httpx.request(verb, stack.url + path, headers=_headers(tokens, case), timeout=10, **content)
    assert answer.status_code == case.get("http", 200), answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    if answer.status_code == 200:
        _assert_within(case["answer"], answer.json())
        return
    status = answer.json()
    assert status["code"] > 0
    assert status["message"]
    if "reason" in case:
        info = status["details"][0]
        assert info["reason"] == case["reason"]
        assert info["domain"] == "marketdata"
        assert info["metadata"].get("field") == case.get("field")


def _assert_within(expected: Any, actual: Any) -> None:
    """Check that what is expected is there; more may be."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            _assert_within(value, actual[key])
    elif isinstance(expected, list):
        assert len(expected) == len(actual)
        for one, other in zip(expected, actual, strict=True):
            _assert_within(one, other)
    else:
        assert expected == actual
