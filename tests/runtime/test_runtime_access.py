"""Every method of every service has an access rule."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from echo_service import SERVICE

from marketdata.auth.v1 import auth_service_pb2
from marketdata.ingestion.v1.ingestion_service_pb2 import PublishRequest
from mda.runtime.access import Rule, access_rules
from mda.runtime.handlers import Malformed
from mda.runtime.server import API_FILES

RULES = access_rules(*API_FILES)
PUBLISH = "ingestion.v1.IngestionService/Publish"
METHODS = [
    (f"/{service.full_name}/{method.name}", method)
    for file in API_FILES
    for service in file.services_by_name.values()
    for method in service.methods
]


@pytest.mark.parametrize(("path", "method"), METHODS, ids=[path for path, _ in METHODS])
def test_a_method_has_a_rule(path: str, method: Any) -> None:
    rule = RULES[path]
    assert rule.public or rule.any_client or re.fullmatch(r"[a-z]+:[a-z]+", rule.scope)
    sides = (method.output_type.fields_by_name, method.input_type.fields_by_name)
    assert not rule.rows or any(rule.rows in side and side[rule.rows].is_repeated for side in sides)


def test_there_are_rules_for_methods_only() -> None:
    assert set(RULES) == {path for path, _ in METHODS}


def test_every_service_of_the_contract_is_served() -> None:
    protos = Path(__file__).parents[2] / "protos/marketdata"
    named = {
        f"{re.search(r'^package (.+);', text, re.MULTILINE)[1]}.{name}"  # type: ignore[index]
        for text in (path.read_text(encoding="utf-8") for path in protos.rglob("*.proto"))
        for name in re.findall(r"^service (\w+)", text, re.MULTILINE)
    }
    assert named == {service.full_name for file in API_FILES for service in file.services_by_name.values()}


def test_only_what_needs_no_token_is_public() -> None:
    names = ("GetJwks", "GetMetadata", "Introspect", "Revoke", "Token")
    assert {path for path, rule in RULES.items() if rule.public} == {
        f"/marketdata.auth.v1.AuthService/{name}" for name in names
    }


def test_what_is_published_needs_a_scope_to_publish() -> None:
    publish, subscribe = (RULES[f"/marketdata.{name}"] for name in (PUBLISH, "query.v1.QueryService/Subscribe"))
    assert (publish.scope, publish.public, publish.field) == ("quotes:publish", False, "open.dataset")
    assert (subscribe.scope, subscribe.public, subscribe.field) == ("quotes:read", False, "start.dataset")
    assert RULES["/marketdata.auth.v1.AuthService/Token"] == Rule(public=True, dataset=())


@pytest.mark.parametrize("path", RULES)
def test_a_method_with_a_scope_says_which_dataset_it_is_about_or_that_it_is_about_none(path: str) -> None:
    assert RULES[path].dataset is not None
    assert (RULES[path].dataset == ()) == (RULES[path].request is None)


def test_a_stream_of_bytes_is_opened_by_what_names_the_dataset() -> None:
    rule = RULES[f"/marketdata.{PUBLISH}"]
    opening = PublishRequest(open=PublishRequest.Open(dataset="SIM", producer="p"))
    assert rule.dataset_of(rule.parsed(opening.SerializeToString())) == "SIM"
    assert rule.parsed(b"\xff") == Malformed("marketdata.ingestion.v1.PublishRequest")
    assert RULES["/marketdata.auth.v1.AuthService/Token"].parsed(b"\xff") == b"\xff"


def test_a_method_without_the_option_has_no_rule() -> None:
    assert access_rules(SERVICE.file) == {}
    assert access_rules() == {}
    assert len(access_rules(auth_service_pb2.DESCRIPTOR)) == 5
