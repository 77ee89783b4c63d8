"""ClientService over a real channel, behind the interceptor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from sqlalchemy import text

from marketdata.auth.v1 import client_service_pb2 as pb
from mda.auth import api_key, audit
from mda.auth.admin import create_api_key, ensure_client
from mda.auth.engine import WRITES, open_engine
from mda.auth.keys import KeySet
from mda.auth.store import Store
from mda.auth.tiers import Tier
from mda.auth.tokens import TokenIssuer
from tests.auth.api import CLIENTS, Api, clients_endpoint, serving
from tests.auth.conftest import clients_of

C = grpc.StatusCode
DESK = {"name": "desk", "tier": pb.TIER_PRO, "roles": ["reader"], "datasets": ["SIM"]}


class Changes:
    """Counts how often somebody is told of a change."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def changes() -> Changes:
    return Changes()


def token_of(store: Store, issuer: TokenIssuer, name: str, *scopes: str) -> str:
    client = ensure_client(store, name, Tier.INTERNAL, scopes)
    key = store.find_api_key(create_api_key(store, client).id)
    assert key is not None
    return issuer.issue(key, client.granted, datetime.now(UTC)).token


@pytest_asyncio.fixture
async def api(store: Store, issuer: TokenIssuer, key_set: KeySet, changes: Changes) -> AsyncIterator[Api]:
    async with serving([clients_endpoint(store, changes)], key_set) as serving_api:
        serving_api.token = token_of(store, issuer, "admin", "clients:admin")
        yield serving_api


async def make(api: Api, **changed: Any) -> pb.Client:
    return (await api.call("CreateClient", pb.CreateClientRequest(**(DESK | changed)))).client


async def test_a_client_and_its_keys_from_beginning_to_end(api: Api, store: Store, changes: Changes) -> None:
    made = await make(api, quotas=pb.Quotas(rows_per_day=1000))
    assert (made.name, made.tier, list(made.roles), list(made.scopes)) == (
        "desk",
        pb.TIER_PRO,
        ["reader"],
        ["quotes:read"],
    )
    assert (made.quotas.rows_per_day, made.quotas.HasField("streams")) == (1000, False)
    assert not made.HasField("disable_time")
    asked = await api.call("GetClient", pb.GetClientRequest(client_id=made.client_id))
    assert asked.client == made

    lifetime = Duration(seconds=3600)
    new = (await api.call("CreateApiKey", pb.CreateApiKeyRequest(client_id=made.client_id, lifetime=lifetime))).key
    assert new.api_key == f"{new.key.key_id}.{new.secret}"
    assert new.key.expire_time.ToDatetime() - new.key.create_time.ToDatetime() == timedelta(hours=1)
    stored = store.find_api_key(new.key.key_id)
    assert stored is not None
    assert api_key.verify_secret(new.secret, stored.secret_hash)

    rotated = await api.call("RotateApiKey", pb.RotateApiKeyRequest(key_id=new.key.key_id, overlap=Duration()))
    assert rotated.key.key.client_id == made.client_id
    assert not rotated.key.key.HasField("expire_time")
    assert rotated.old_key.expire_time == rotated.key.key.create_time
    revoked = (await api.call("RevokeApiKey", pb.RevokeApiKeyRequest(key_id=rotated.key.key.key_id))).key
    assert revoked.HasField("revoke_time")
    listed = await api.call("ListApiKeys", pb.ListApiKeysRequest(client_id=made.client_id))
    assert [key.key_id for key in listed.keys] == [new.key.key_id, revoked.key_id]

    wish = pb.UpdateClientRequest(client_id=made.client_id, roles=pb.Roles(names=["publisher"]), tier=pb.TIER_FREE)
    updated = (await api.call("UpdateClient", wish)).client
    assert (updated.tier, list(updated.scopes), list(updated.datasets)) == (pb.TIER_FREE, ["quotes:publish"], ["SIM"])
    wish = pb.UpdateClientRequest(client_id=made.client_id, datasets=pb.Datasets(), quotas=pb.Quotas())
    updated = (await api.call("UpdateClient", wish)).client
    assert (list(updated.datasets), updated.quotas) == ([], pb.Quotas())
    disabled = (await api.call("DisableClient", pb.DisableClientRequest(client_id=made.client_id))).client
    assert disabled.HasField("disable_time")
    assert (await api.call("EnableClient", pb.EnableClientRequest(client_id=made.client_id))).client == updated
    assert changes.count == 8

    log = await api.call("ListAuditEntries", pb.ListAuditEntriesRequest())
    said = [entry.action for entry in reversed(log.entries)]
    assert said == [
        "client.create",
        "api_key.create",
        "client.create",
        "api_key.create",
        "api_key.rotate",
        "api_key.revoke",
        "client.update",
        "client.update",
        "client.disable",
        "client.enable",
    ]
    assert new.secret not in str(log)
    assert rotated.key.secret not in str(log)


async def test_pages(api: Api) -> None:
    made = {(await make(api, name=f"c{number}")).client_id for number in range(5)}
    pages: list[list[pb.Client]] = []
    token = ""
    while True:
        page = await api.call("ListClients", pb.ListClientsRequest(page_size=2, page_token=token))
        pages.append(list(page.clients))
        token = page.next_page_token
        if not token:
            break
    assert [len(page) for page in pages] == [2, 2, 2]
    assert {client.client_id for page in pages for client in page if client.name != "admin"} == made
    first = await api.call("ListAuditEntries", pb.ListAuditEntriesRequest(page_size=3))
    second = await api.call(
        "ListAuditEntries", pb.ListAuditEntriesRequest(page_size=3, page_token=first.next_page_token)
    )
    assert [entry.sequence for entry in (*first.entries, *second.entries)] == [7, 6, 5, 4, 3, 2]
    one = await api.call("ListApiKeys", pb.ListApiKeysRequest(client_id="-", page_size=1))
    assert (len(one.keys), one.next_page_token) == (1, "")


async def test_the_audit_log_is_verified(api: Api, database_url: str) -> None:
    await make(api)
    whole = await api.call("VerifyAudit", pb.VerifyAuditRequest())
    assert (whole.intact, whole.entries, whole.problem) == (True, 3, "")
    known = pb.VerifyAuditRequest(known_sequence=3, known_hash=whole.head_hash)
    assert (await api.call("VerifyAudit", known)).intact
    engine = open_engine(database_url).execution_options(**{WRITES: True})
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM audit WHERE sequence = 3"))
    engine.dispose()
    assert (await api.call("VerifyAudit", pb.VerifyAuditRequest())).intact
    cut = await api.call("VerifyAudit", known)
    assert (cut.intact, cut.problem) == (False, "entry 3 is missing: the log ends with 2")


async def test_a_long_audit_log_is_verified_call_by_call(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_WITHIN_S", -1.0)
    request = pb.VerifyAuditRequest()
    heads: list[int] = []
    while True:
        answer = await api.call("VerifyAudit", request)
        heads.append(answer.entries)
        if answer.complete:
            break
        request = pb.VerifyAuditRequest(after_sequence=answer.entries, after_hash=answer.head_hash)
    assert (answer.intact, heads) == (True, [1, 2, 2])


@pytest.mark.parametrize(
    "half",
    [{"known_sequence": 1}, {"known_hash": "0" * 64}, {"after_sequence": 1}, {"after_hash": "0" * 64}],
)
async def test_half_an_entry_is_none(api: Api, half: dict[str, Any]) -> None:
    error = await api.refused("VerifyAudit", pb.VerifyAuditRequest(**half))
    assert (error.code, error.reason) == (C.INVALID_ARGUMENT, INVALID)
    assert "go together" in error.message


async def test_roles(api: Api) -> None:
    roles = (await api.call("ListRoles", pb.ListRolesRequest())).roles
    assert [role.name for role in roles] == ["admin", "publisher", "reader", "steward"]
    assert list(roles[0].scopes) == ["clients:admin"]


def creating(**changed: Any) -> tuple[str, Any]:
    return "CreateClient", pb.CreateClientRequest(**(DESK | changed))


INVALID, MISSING = "INVALID_FIELD", "UNKNOWN_CLIENT"
LONG = Duration(seconds=7776001)
BAD: dict[str, tuple[tuple[str, Any], str, str]] = {
    "a name with a space": (creating(name="a b"), INVALID, "name"),
    "no tier": (creating(tier=0), INVALID, "tier"),
    "no role": (creating(roles=[]), INVALID, "roles"),
    "a role twice": (creating(roles=["reader", "reader"]), INVALID, "roles"),
    "an unknown role": (creating(roles=["king"]), INVALID, "roles[0]"),
    "a dataset that is none": (creating(datasets=["**"]), INVALID, "datasets[0]"),
    "a dataset in small letters": (creating(datasets=["sim"]), INVALID, "datasets[0]"),
    "a quota of nothing": (creating(quotas=pb.Quotas(streams=0)), INVALID, "quotas.streams"),
    "a name that is had": (creating(name="admin"), "CLIENT_EXISTS", "name"),
    "an unknown client": (("GetClient", pb.GetClientRequest(client_id="mdc_9")), MISSING, "client_id"),
    "a client id that is none": (("GetClient", pb.GetClientRequest(client_id="x")), INVALID, "client_id"),
    "an unknown key": (("RevokeApiKey", pb.RevokeApiKeyRequest(key_id="mdk_9")), "UNKNOWN_API_KEY", "key_id"),
    "no lifetime": (
        ("CreateApiKey", pb.CreateApiKeyRequest(client_id="mdc_9", lifetime=Duration())),
        INVALID,
        "lifetime",
    ),
    "a long overlap": (("RotateApiKey", pb.RotateApiKeyRequest(key_id="mdk_9", overlap=LONG)), INVALID, "overlap"),
    "a page too long": (("ListClients", pb.ListClientsRequest(page_size=1001)), INVALID, "page_size"),
    "a page of another list": (("ListClients", pb.ListClientsRequest(page_token="AAAA")), INVALID, "page_token"),
}
CODES = {
    INVALID: C.INVALID_ARGUMENT,
    MISSING: C.NOT_FOUND,
    "UNKNOWN_API_KEY": C.NOT_FOUND,
    "CLIENT_EXISTS": C.ALREADY_EXISTS,
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_refused(api: Api, changes: Changes, name: str) -> None:
    (method, request), reason, field = BAD[name]
    error = await api.refused(method, request)
    assert (error.code, error.reason, error.metadata.get("field")) == (CODES[reason], reason, field)
    assert changes.count == 0


async def test_who_lacks_the_scope_is_refused_and_it_is_put_down(api: Api, store: Store, issuer: TokenIssuer) -> None:
    reader = token_of(store, issuer, "reader", "quotes:read")
    error = await api.refused("ListClients", pb.ListClientsRequest(), token=reader)
    assert (error.code, error.reason) == (C.PERMISSION_DENIED, "MISSING_SCOPE")
    (*_, entry) = store.audit()
    (client,) = (client for client in clients_of(store) if client.name == "reader")
    assert (entry.event.actor, entry.event.refused) == (client.id, True)
    assert entry.event.details == {
        "method": "/marketdata.auth.v1.ClientService/ListClients",
        "reason": "MISSING_SCOPE",
        "scope": "clients:admin",
    }


async def test_a_revoked_admin_is_refused_though_no_service_was_told(
    api: Api, store: Store, issuer: TokenIssuer, changes: Changes
) -> None:
    other = token_of(store, issuer, "other", "clients:admin")
    (mine,) = (client for client in store.page_of_clients(None, 10) if client.name == "admin")
    await api.call("DisableClient", pb.DisableClientRequest(client_id=mine.id), token=other)
    requests = {
        "CreateClient": pb.CreateClientRequest(**DESK),
        "GetClient": pb.GetClientRequest(client_id=mine.id),
        "ListClients": pb.ListClientsRequest(),
        "UpdateClient": pb.UpdateClientRequest(client_id=mine.id),
        "DisableClient": pb.DisableClientRequest(client_id=mine.id),
        "EnableClient": pb.EnableClientRequest(client_id=mine.id),
        "CreateApiKey": pb.CreateApiKeyRequest(client_id=mine.id),
        "ListApiKeys": pb.ListApiKeysRequest(client_id="-"),
        "RotateApiKey": pb.RotateApiKeyRequest(key_id="mdk_1"),
        "RevokeApiKey": pb.RevokeApiKeyRequest(key_id="mdk_1"),
        "ListRoles": pb.ListRolesRequest(),
        "ListAuditEntries": pb.ListAuditEntriesRequest(),
        "VerifyAudit": pb.VerifyAuditRequest(),
        "GetUsage": pb.GetUsageRequest(),
        "GetClientUsage": pb.GetClientUsageRequest(client_id=mine.id),
    }
    assert requests.keys() == {method.name for method in CLIENTS.methods}
    for method, request in requests.items():
        error = await api.refused(method, request)
        assert (error.code, error.reason, error.metadata["problem"]) == (C.UNAUTHENTICATED, "INVALID_TOKEN", "revoked")
    assert changes.count == 1


async def test_a_client_sees_what_it_uses(api: Api, store: Store, issuer: TokenIssuer) -> None:
    made = await make(api, tier=pb.TIER_FREE, quotas=pb.Quotas(streams=7))
    limits = pb.Quotas(requests_per_second=20, streams=7, symbols_per_subscription=50, rows_per_day=10_000_000)
    of_it = (await api.call("GetClientUsage", pb.GetClientUsageRequest(client_id=made.client_id))).usage
    assert (of_it.client_id, of_it.tier, of_it.limits) == (made.client_id, pb.TIER_FREE, limits)
    assert (of_it.requests_left, of_it.streams, of_it.rows_today) == (40, 0, 0)
    reader = token_of(store, issuer, "reader", "quotes:read")
    own = (await api.call("GetUsage", pb.GetUsageRequest(), token=reader)).usage
    (client,) = (client for client in store.page_of_clients(None, 10) if client.name == "reader")
    assert own.client_id == client.id
    assert own.day_end_time.ToDatetime(UTC) > datetime.now(UTC)
    error = await api.refused("GetClientUsage", pb.GetClientUsageRequest(client_id=made.client_id), token=reader)
    assert error.reason == "MISSING_SCOPE"
    error = await api.refused("GetClientUsage", pb.GetClientUsageRequest(client_id="mdc_none"))
    assert error.reason == "UNKNOWN_CLIENT"


async def test_a_rate_of_its_own_is_at_most_twice_the_tiers(api: Api) -> None:
    made = await make(api, tier=pb.TIER_FREE, quotas=pb.Quotas(requests_per_second=40))
    too_fast = pb.UpdateClientRequest(client_id=made.client_id, quotas=pb.Quotas(requests_per_second=41))
    error = await api.refused("UpdateClient", too_fast)
    assert (error.reason, error.metadata["field"]) == (INVALID, "quotas.requests_per_second")


async def test_refusals_cannot_fill_the_audit_log(api: Api, store: Store, issuer: TokenIssuer) -> None:
    reader = token_of(store, issuer, "reader", "quotes:read")
    before = len(list(store.audit()))
    for method, request in (("ListClients", pb.ListClientsRequest()), ("ListRoles", pb.ListRolesRequest())) * 5:
        assert (await api.refused(method, request, token=reader)).reason == "MISSING_SCOPE"
    assert len(list(store.audit())) == before + 2


async def test_a_database_that_does_not_answer(api: Api, store: Store, issuer: TokenIssuer, database_url: str) -> None:
    reader = token_of(store, issuer, "reader", "quotes:read")
    engine = open_engine(database_url).execution_options(**{WRITES: True})
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE clients, audit"))
        error = await api.refused("CreateClient", pb.CreateClientRequest(**DESK))
        assert (error.code, error.reason) == (C.UNAVAILABLE, "AUTH_UNAVAILABLE")
        # A refusal stands, though it cannot be put down.
        assert (await api.refused("ListClients", pb.ListClientsRequest(), token=reader)).reason == "MISSING_SCOPE"
    engine.dispose()
