"""Every method of every service with every role, on a dataset of its own and on another one.

The table below is written by hand: a method, a scope or a role that is added or changed
has to be said here, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from marketdata.errors import api_error
from mda.auth.actor import Actor
from mda.auth.clients import Clients, Wish
from mda.auth.keys import KeySet
from mda.auth.roles import ROLES
from mda.auth.store import Store
from mda.auth.tiers import Tier
from mda.auth.tokens import TokenIssuer
from mda.runtime import interceptors
from mda.runtime.handlers import Endpoint
from mda.runtime.server import API_FILES
from tests.auth.api import Api, serving

_PUBLISH = "Publish PublishQuotes PublishTrades"
_READ = "ListInstruments GetPolicy"
_STEW = "PutInstruments PutPolicy ListQuarantined ReleaseQuarantined"
_CLIENTS = (
    "CreateClient GetClient ListClients UpdateClient DisableClient EnableClient"
    " CreateApiKey ListApiKeys RotateApiKey RevokeApiKey ListRoles ListAuditEntries VerifyAudit GetClientUsage"
)
_QUERY = (
    "GetLatestQuotes GetLatestTrades StreamQuotes StreamTrades GetDigest ListGaps Subscribe"
    " ListDatasets ListQuotes ListTrades ListTradesWithQuotes ListBars StreamBars GetQuotesAsOf Scan"
)
PUBLIC = {f"AuthService/{name}" for name in ("Token", "GetJwks", "GetMetadata", "Introspect", "Revoke")}
ANY_CLIENT = {"ClientService/GetUsage"}
NO_DATASET = {"QueryService/ListDatasets", *(f"ClientService/{name}" for name in _CLIENTS.split())}
ALLOWED: dict[str, dict[str, str]] = {
    "admin": {"ClientService": _CLIENTS},
    "publisher": {"IngestionService": _PUBLISH},
    "reader": {"IngestionService": _READ, "QueryService": _QUERY, "ArchiveService": "GetStatus"},
    "steward": {
        "IngestionService": f"{_READ} {_STEW}",
        "QueryService": _QUERY,
        "ArchiveService": "GetStatus Compact Verify",
    },
}
OPENINGS = {"Publish": "open", "Subscribe": "start"}
SERVICES = [service for file in API_FILES for service in file.services_by_name.values()]
METHODS = {f"{service.name}/{method.name}": method for service in SERVICES for method in service.methods}
RAW = {"IngestionService": frozenset({"Publish"})}


class Anything:
    """Serves every method, with nothing."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        answer = self._answers[name]

        async def serve(request: Any, _context: Any) -> Any:
            if hasattr(request, "__aiter__"):
                async for _ in request:
                    break
            return answer

        return serve


def answers(service: Any) -> dict[str, Any]:
    return {
        method.name: None if method.server_streaming else GetMessageClass(method.output_type)()
        for method in service.methods
    }


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url


@pytest_asyncio.fixture
async def api(key_set: KeySet, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    # Who may call is decided here, not what a request must hold.
    monkeypatch.setattr(interceptors, "validate_request", lambda _: None)
    endpoints = [
        Endpoint(service, Anything(answers(service)), RAW.get(service.name, frozenset())) for service in SERVICES
    ]
    async with serving(endpoints, key_set) as everything:
        yield everything


def request_of(method: MethodDescriptor, dataset: str) -> Any:
    request = GetMessageClass(method.input_type)()
    if method.name in OPENINGS:
        getattr(request, OPENINGS[method.name]).dataset = dataset
    elif "dataset" in method.input_type.fields_by_name:
        setattr(request, "dataset", dataset)  # noqa: B010 - whatever message it is
    return request


async def outcome(api: Api, name: str, token: str, dataset: str) -> str:
    """Return `OK`, or why a call was refused."""
    method = METHODS[name]
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    call = getattr(api.channel, kind)(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    request = request_of(method, dataset)
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    try:
        if method.client_streaming:
            done = call(metadata=metadata, timeout=10)
            with suppress(asyncio.InvalidStateError):  # refused before it was written: reading tells why
                await done.write(request)
                await done.done_writing()
        else:
            done = call(request, metadata=metadata, timeout=10)
        if method.server_streaming:
            assert [message async for message in done] == []
        else:
            await done
    except grpc.aio.AioRpcError as error:
        return api_error(error).reason
    return "OK"


def expected(role: str, name: str, dataset: str) -> str:
    service, _, method = name.partition("/")
    if name in PUBLIC | ANY_CLIENT:
        return "OK"
    if method not in ALLOWED[role].get(service, "").split():
        return "MISSING_SCOPE"
    return "OK" if name in NO_DATASET or dataset == "SIM" else "DATASET_NOT_ENTITLED"


async def walk(api: Api, token: str, dataset: str) -> dict[str, str]:
    outcomes = await asyncio.gather(*(outcome(api, name, token, dataset) for name in METHODS))
    return dict(zip(METHODS, outcomes, strict=True))


@pytest.mark.parametrize("dataset", ["SIM", "GLBX.MDP3"])
@pytest.mark.parametrize("role", ROLES)
async def test_a_role_opens_what_the_table_says(
    api: Api, store: Store, actor: Actor, issuer: TokenIssuer, role: str, dataset: str
) -> None:
    clients = Clients(store)
    client = clients.create(actor, "c", Wish(Tier.PRO, [role], ["SIM"]))
    _, key = clients.create_key(actor, client.id, None)
    token = issuer.issue(key, client.granted, datetime.now(UTC)).token
    assert await walk(api, token, dataset) == {name: expected(role, name, dataset) for name in METHODS}


async def test_without_a_token_only_what_is_public_is_open(api: Api) -> None:
    assert await walk(api, "", "SIM") == {name: "OK" if name in PUBLIC else "INVALID_TOKEN" for name in METHODS}


def test_every_scope_of_the_contract_is_a_roles() -> None:
    named = {f"{service}/{name}" for role in ALLOWED.values() for service in role for name in role[service].split()}
    assert named | PUBLIC | ANY_CLIENT == set(METHODS)
