"""Auth as a gRPC service, in process, on a real store."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import grpc
import jwt
import pytest
import pytest_asyncio
import structlog
from google.api.httpbody_pb2 import HttpBody
from sqlalchemy import text

from marketdata.auth.v1.auth_service_pb2 import GetJwksRequest, GetMetadataRequest
from marketdata.auth.v1.auth_service_pb2_grpc import (
    AuthServiceStub,
    add_AuthServiceServicer_to_server,
)
from mda.auth.admin import NewApiKey, create_api_key, ensure_client
from mda.auth.engine import WRITES, open_engine
from mda.auth.gate import Gate
from mda.auth.keys import KeySet
from mda.auth.metadata import metadata
from mda.auth.oauth import TokenEndpoint
from mda.auth.servicer import AuthServicer, Documents
from mda.auth.store import Store
from mda.auth.tiers import Tier
from mda.auth.token_status import TokenStatus
from mda.auth.tokens import TokenIssuer, TokenReader
from tests.auth.conftest import api_keys_of

if TYPE_CHECKING:
    from marketdata.auth.v1.auth_service_pb2_grpc import AuthServiceAsyncStub

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def endpoint(store: Store, key_set: KeySet, issuer: TokenIssuer, clock: Callable[[], datetime]) -> TokenEndpoint:
    return TokenEndpoint(store, issuer, clock)


@pytest.fixture
def reader(key_set: KeySet) -> TokenReader:
    return TokenReader(key_set, issuer="https://auth.test", audience="marketdata-test")


@pytest.fixture
def new_key(store: Store) -> NewApiKey:
    client = ensure_client(store, "desk", Tier.PRO, ["quotes:read"])
    return create_api_key(store, client)


@pytest_asyncio.fixture
async def stub(
    endpoint: TokenEndpoint, store: Store, key_set: KeySet, reader: TokenReader, clock: Callable[[], datetime]
) -> AsyncIterator[AuthServiceAsyncStub]:
    server = grpc.aio.server()
    status = TokenStatus(store, Gate(store, clock), reader, clock)
    documents = Documents(metadata("https://auth.test", "https://api.test"), max_age_s=120)
    servicer = AuthServicer(endpoint, status, key_set, documents, changed=lambda: None)
    add_AuthServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield AuthServiceStub(channel)
    await server.stop(None)


async def token(
    stub: AuthServiceAsyncStub, *authorization: str, method: str = "Token", content_type: str = FORM, **form: str
) -> tuple[dict[str, str], dict[str, Any]]:
    body = HttpBody(content_type=content_type, data=urlencode(form).encode())
    call = getattr(stub, method)(body, metadata=tuple(("authorization", value) for value in authorization))
    answer = await call
    assert answer.content_type == "application/json"
    metadata = {name: str(value) for name, value in await call.initial_metadata()}
    assert await call.code() is grpc.StatusCode.OK
    return metadata, json.loads(answer.data)


async def test_an_api_key_becomes_a_token_that_the_key_set_verifies(
    stub: AuthServiceAsyncStub, store: Store, new_key: NewApiKey, clock: Callable[[], datetime]
) -> None:
    metadata, answer = await token(
        stub, grant_type="client_credentials", client_id=new_key.id, client_secret=new_key.secret
    )
    assert metadata == {"x-http-status": "200", "cache-control": "no-store", "pragma": "no-cache"}
    jwks = await stub.GetJwks(GetJwksRequest())
    (key,) = jwt.PyJWKSet.from_json(jwks.data.decode()).keys
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(
        answer["access_token"], key, ["ES256"], options, audience="marketdata-test", issuer="https://auth.test"
    )
    (stored,) = api_keys_of(store)
    assert (claims["client_id"], claims["sub"]) == (new_key.id, stored.client.id)
    assert stored.last_used_at == clock()


async def test_basic(stub: AuthServiceAsyncStub, new_key: NewApiKey) -> None:
    pair = base64.b64encode(f"{new_key.id}:{new_key.secret}".encode()).decode()
    metadata, answer = await token(stub, f"Basic {pair}", grant_type="client_credentials")
    assert (metadata["x-http-status"], answer["scope"]) == ("200", "quotes:read")


async def test_two_authorization_headers(stub: AuthServiceAsyncStub) -> None:
    metadata, answer = await token(stub, "Basic YTpi", "Basic YTpi", grant_type="client_credentials")
    assert metadata["x-http-status"] == "400"
    assert answer["error_description"] == "there is more than one authorization header"


async def test_a_refusal(stub: AuthServiceAsyncStub) -> None:
    with structlog.testing.capture_logs() as logs:
        metadata, answer = await token(
            stub, grant_type="client_credentials", client_id="mdk_none", client_secret="hush"
        )
    assert metadata == {
        "x-http-status": "401",
        "cache-control": "no-store",
        "pragma": "no-cache",
        "www-authenticate": 'Basic realm="marketdata", charset="UTF-8"',
    }
    assert answer["error"] == "invalid_client"
    assert logs == [
        {
            "event": "token_refused",
            "log_level": "info",
            "error": "invalid_client",
            "reason": "the client_id is unknown or the client_secret is wrong",
        }
    ]


async def test_the_content_type_counts(stub: AuthServiceAsyncStub, new_key: NewApiKey) -> None:
    metadata, answer = await token(
        stub,
        content_type="application/json",
        grant_type="client_credentials",
        client_id=new_key.id,
        client_secret=new_key.secret,
    )
    assert (metadata["x-http-status"], answer["error"]) == ("400", "invalid_request")


BREAK = {"sqlite": "ALTER TABLE api_keys RENAME TO gone", "postgresql": "LOCK TABLE api_keys"}


async def test_a_store_that_does_not_answer(
    stub: AuthServiceAsyncStub, store: Store, new_key: NewApiKey, database_url: str
) -> None:
    with (
        open_engine(database_url).execution_options(**{WRITES: True}).begin() as connection,
        structlog.testing.capture_logs() as logs,
    ):
        connection.execute(text(BREAK[connection.dialect.name]))
        if connection.dialect.name == "sqlite":
            connection.commit()
        metadata, answer = await token(
            stub, grant_type="client_credentials", client_id=new_key.id, client_secret=new_key.secret
        )
    assert (metadata["x-http-status"], metadata["retry-after"]) == ("503", "1")
    assert answer["error"] == "temporarily_unavailable"
    assert [(log["event"], log["log_level"]) for log in logs] == [
        ("store_unavailable", "error"),
        ("token_refused", "info"),
    ]


async def test_the_key_set(stub: AuthServiceAsyncStub, key_set: KeySet) -> None:
    call = stub.GetJwks(GetJwksRequest())
    answer = await call
    assert (answer.content_type, answer.data) == ("application/json", key_set.jwks)
    metadata = {name: str(value) for name, value in await call.initial_metadata()}
    assert metadata == {"x-http-status": "200", "cache-control": "public, max-age=120"}


async def test_a_token_is_told_of_and_ended(stub: AuthServiceAsyncStub, store: Store, new_key: NewApiKey) -> None:
    mine = {"client_id": new_key.id, "client_secret": new_key.secret}
    _, issued = await token(stub, grant_type="client_credentials", **mine)
    _, told = await token(stub, method="Introspect", token=issued["access_token"], **mine)
    assert (told["active"], told["client_id"], told["scope"]) == (True, new_key.id, "quotes:read")
    metadata, answer = await token(stub, method="Revoke", token=issued["access_token"], **mine)
    assert (metadata["x-http-status"], answer) == ("200", {})
    _, told = await token(stub, method="Introspect", token=issued["access_token"], **mine)
    assert told == {"active": False}
    assert [revocation.id for _, revocation in store.unsent_revocations()] == [
        jwt.decode(issued["access_token"], options={"verify_signature": False})["jti"]
    ]


async def test_the_metadata(stub: AuthServiceAsyncStub) -> None:
    call = stub.GetMetadata(GetMetadataRequest())
    document = json.loads((await call).data)
    assert document["issuer"] == "https://auth.test"
    assert document["token_endpoint"] == "https://api.test/oauth2/token"
    assert document["grant_types_supported"] == ["client_credentials"]
    assert "clients:admin" in document["scopes_supported"]
    metadata = {name: str(value) for name, value in await call.initial_metadata()}
    assert metadata == {"x-http-status": "200", "cache-control": "public, max-age=120"}


async def test_guessing_is_slowed_and_who_is_behind_the_gateway_counts(
    stub: AuthServiceAsyncStub, new_key: NewApiKey
) -> None:
    form = {"grant_type": "client_credentials", "client_id": new_key.id}

    async def guess(address: str, secret: str = "wrong") -> tuple[dict[str, str], dict[str, Any]]:
        body = HttpBody(content_type=FORM, data=urlencode(form | {"client_secret": secret}).encode())
        call = stub.Token(body, metadata=(("x-forwarded-for", f"192.0.2.9, {address}"),))
        answer = await call
        return {name: str(value) for name, value in await call.initial_metadata()}, json.loads(answer.data)

    statuses = [(await guess("198.51.100.1"))[0]["x-http-status"] for _ in range(6)]
    assert statuses == ["401"] * 5 + ["429"]
    metadata, answer = await guess("198.51.100.1", new_key.secret)
    assert (metadata["retry-after"], answer["error"]) == ("1", "slow_down")
    assert (await guess("198.51.100.2", new_key.secret))[0]["x-http-status"] == "200"
