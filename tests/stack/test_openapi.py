"""The REST interface as its document says, tried by requests that fit the document, and by such that do not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from mda.gateway.parts import folder
from tests.stack.conftest import Stack, start

DOCUMENT = folder() / "openapi.json"
SCHEMA = schemathesis.openapi.from_path(str(DOCUMENT))
OPERATIONS = {
    operation.label: operation for found in SCHEMA.get_all_operations() if (operation := found.ok()) is not None
}
STREAMS = {label for label in OPERATIONS if label.endswith((":stream", ":scan"))}
_SAYS = {"parameters", "requestBody"}
NOTHING_TO_SAY = {label for label, operation in OPERATIONS.items() if not operation.definition.raw.keys() & _SAYS}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 15


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Give a stack of this module's own: it gets clients, datasets and logs that nobody else wants."""
    running = start(tmp_path_factory.mktemp("openapi"))
    try:
        yield running
    finally:
        running.mda("down")


@pytest.fixture(scope="module")
def tokens(stack: Stack) -> Callable[[str], str]:
    """Give a token for a scope."""

    @functools.cache
    def get(key: str) -> str:
        key_id, _, secret = stack.secrets[key].partition(".")
        form = {"grant_type": "client_credentials", "client_id": key_id, "client_secret": secret}
        return httpx.post(f"{stack.url}/oauth2/token", data=form).json()["access_token"]

    return lambda scope: get("admin_api_key" if scope == "clients:admin" else "api_key")


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("label", sorted(OPERATIONS.keys() - STREAMS))
def test_whatever_comes_is_answered_as_the_document_says(
    stack: Stack, tokens: Callable[[str], str], label: str, mode: GenerationMode
) -> None:
    operation = OPERATIONS[label]
    if mode is GenerationMode.NEGATIVE and label in NOTHING_TO_SAY:
        return
    security = operation.definition.raw["security"]
    scopes = [*security[0]["oauth2"], ""] if security else []
    headers = {"authorization": f"Bearer {tokens(scopes[0])}"} if scopes else {}

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def answered(case: Any) -> None:
        response = case.call(base_url=stack.url, headers=headers, timeout=20)
        case.validate_response(response, checks=CHECKS)

    answered()
