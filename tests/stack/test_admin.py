"""Who gets in: `mda clients`, `mda keys` and `mda audit`, REST, and what becomes of running streams."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest

from marketdata.errors import ApiError, api_error
from marketdata.query.v1.query_service_pb2 import SubscribeRequest
from marketdata.query.v1.query_service_pb2_grpc import QueryServiceStub
from tests.stack.conftest import Stack


def _json(stack: Stack, *args: str) -> Any:
    return json.loads(stack.mda(*args, "--output", "json").stdout)


@pytest.fixture
def desk(stack: Stack, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Give a client of its own for each test."""
    name = re.sub(r"\W", "-", request.node.name)
    (client,) = _json(stack, "clients", "create", name, "--role", "reader", "--dataset", "SIM", "--tier", "pro")
    return client


@pytest.fixture
def desk_key(stack: Stack, desk: dict[str, Any]) -> str:
    return stack.mda("keys", "create", desk["client_id"]).stdout.strip()


@pytest.fixture
def admin(stack: Stack) -> dict[str, str]:
    return {"authorization": f"Bearer {stack.token(stack.secrets['admin_api_key'])}"}


def test_a_client_and_its_keys_by_command(stack: Stack, desk: dict[str, Any], desk_key: str) -> None:
    assert (desk["tier"], desk["scopes"], desk["datasets"]) == ("TIER_PRO", ["quotes:read"], ["SIM"])
    assert desk["client_id"] in stack.mda("clients", "list").stdout
    key_id = desk_key.split(".")[0]
    stack.token(desk_key)
    (listed,) = _json(stack, "keys", "list", desk["client_id"])
    assert (listed["key_id"], listed["hint"]) == (key_id, desk_key[-4:])
    assert "last_use_time" in listed
    assert desk_key.split(".")[1] not in stack.mda("keys", "list").stdout

    rotated = _json(stack, "keys", "rotate", key_id, "--overlap", "1h", "--lifetime", "90d")
    assert "expire_time" in rotated["old_key"]
    new = rotated["key"]["api_key"]
    assert stack.token(desk_key)
    assert stack.token(new)
    stack.mda("keys", "revoke", key_id)
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        stack.token(desk_key)

    (updated,) = _json(stack, "clients", "update", desk["client_id"], "--role", "publisher", "--tier", "free")
    assert (updated["tier"], updated["scopes"], updated["datasets"]) == ("TIER_FREE", ["quotes:publish"], ["SIM"])
    assert re.search(
        r"SIM +\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$", stack.mda("clients", "disable", desk["client_id"]).stdout
    )
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        stack.token(new)
    stack.mda("clients", "enable", desk["client_id"])
    assert stack.token(new)

    actions = [entry["action"] for entry in _json(stack, "audit", "list", "-n", "1000")]
    assert {"client.create", "api_key.create", "api_key.rotate", "api_key.revoke", "client.update"} <= set(actions)
    assert "client.disable" in stack.mda("audit", "list").stdout


def test_the_audit_log_is_whole_and_tells_its_end(stack: Stack, desk: dict[str, Any]) -> None:
    said = stack.mda("audit", "verify").stdout
    end = re.search(r"\d+:[0-9a-f]{64}", said)
    assert end is not None
    assert _json(stack, "audit", "verify", "--known", end[0])["intact"]
    other = stack.mda("audit", "verify", "--known", f"1:{'0' * 64}", check=False)
    assert (other.returncode, "entry 1 is not the one that is known" in other.stdout) == (1, True)
    for known in ("x", "1:zz"):
        assert stack.mda("audit", "verify", "--known", known, check=False).returncode == 2


def test_what_is_wrong_is_said(stack: Stack) -> None:
    for args, message in (
        (("keys", "revoke", "mdk_9"), "There is no API key mdk_9"),
        (("keys", "rotate", "mdk_9", "--overlap", "soon"), "'soon' is no length of time"),
        (("clients", "create", "x", "--role", "king"), "There is no role 'king'"),
        (("clients", "list", "--api-key-file", str(stack.data / "none")), "The API key cannot be read"),
        (("clients", "list", "--api-key-file", str(stack.data / "state.json")), "not an API key"),
        (("clients", "list", "--api-key", "mdk_x.y"), "No such option"),
    ):
        done = stack.mda(*args, check=False)
        assert done.returncode != 0
        assert message in done.stderr


def test_the_admins_key_comes_by_the_environment_a_file_or_stdin(stack: Stack, tmp_path: Path) -> None:
    """The stack's own admin key is what is taken where there is none of those; so this one has too few scopes."""
    key = stack.secrets["api_key"]
    file = tmp_path / "key"
    file.write_text(f"{key}\n")
    file_option = ("--api-key-file", str(file))
    for options, given in (
        ((), {"env": {**os.environ, "MDA_ADMIN_API_KEY": key}}),
        (file_option, {}),
        (("--api-key-file", "-"), {"input": f"{key}\n"}),
        (file_option, {"env": {**os.environ, "MDA_ADMIN_API_KEY": stack.secrets["admin_api_key"]}}),
    ):
        done = stack.mda("clients", "list", *options, check=False, **given)
        assert (done.returncode, "lacks the scope" in done.stderr) == (1, True), done.stderr


def test_clients_by_rest(stack: Stack, admin: dict[str, str]) -> None:
    with httpx.Client(base_url=stack.url, headers=admin) as http:
        body = {"name": "by-rest", "tier": "TIER_FREE", "roles": ["reader"], "datasets": ["TEST"]}
        made = http.post("/v1/clients", json=body).json()["client"]
        path = f"/v1/clients/{made['client_id']}"
        assert http.get(path).json()["client"] == made
        assert http.post("/v1/clients", json=body).status_code == 409
        wrong = http.post("/v1/clients", json=body | {"role": []})
        assert (wrong.status_code, wrong.json()["details"][0]["metadata"]["field"]) == (400, "role")
        new = http.post(f"{path}/keys", json={"lifetime": "3600s"}).json()["key"]
        key_path = f"/v1/keys/{new['key']['key_id']}"
        assert "secret" not in http.get(f"{path}/keys").json()["keys"][0]
        assert http.post(f"{key_path}:rotate", json={"overlap": "60s"}).status_code == 200
        assert http.post(f"{key_path}:revoke", json={}).json()["key"]["revoke_time"]
        updated = http.post(f"{path}:update", json={"datasets": {"names": ["*"]}}).json()["client"]
        assert (updated["datasets"], updated["roles"]) == (["*"], ["reader"])
        for verb in ("disable", "enable"):
            assert http.post(f"{path}:{verb}", json={}).status_code == 200
        assert {role["name"] for role in http.get("/v1/roles").json()["roles"]} >= {"admin", "reader"}
        page = http.get("/v1/audit?page_size=2").json()
        assert (len(page["entries"]), page["next_page_token"] != "") == (2, True)
        assert http.get("/v1/audit:verify").json()["intact"] is True
        assert http.get("/v1/clients?page_size=1").json()["next_page_token"]
    reader = {"authorization": f"Bearer {stack.token(stack.api_key('another-reader', ['quotes:read']))}"}
    unscoped = httpx.get(f"{stack.url}/v1/clients", headers=reader)
    assert (unscoped.status_code, unscoped.json()["details"][0]["reason"]) == (403, "MISSING_SCOPE")


def test_a_dataset_that_is_not_the_clients_is_refused(stack: Stack, desk_key: str) -> None:
    headers = {"authorization": f"Bearer {stack.token(desk_key)}"}
    assert httpx.get(f"{stack.url}/v1/datasets/SIM/quotes:latest", headers=headers).status_code == 200
    refused = httpx.get(f"{stack.url}/v1/datasets/TEST/quotes:latest", headers=headers)
    info = refused.json()["details"][0]
    assert (refused.status_code, info["reason"]) == (403, "DATASET_NOT_ENTITLED")
    assert info["metadata"] == {"field": "dataset", "dataset": "TEST"}
    listed = httpx.get(f"{stack.url}/v1/datasets", headers=headers).json()["datasets"]
    assert [dataset["name"] for dataset in listed] == ["SIM"]


class Streams:
    """A subscription that runs."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._call: Any = QueryServiceStub(channel).Subscribe(
            metadata=(("authorization", f"Bearer {token}"),), timeout=60
        )

    async def start(self, dataset: str = "SIM") -> None:
        await self._call.write(SubscribeRequest(start={"dataset": dataset}))
        assert await self._call.read() is not grpc.aio.EOF

    async def ended(self) -> tuple[float, ApiError]:
        """Return when the stream ended, and why."""
        try:
            while await self._call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return time.monotonic(), api_error(error)
        raise AssertionError("it ended well")


@pytest.fixture
async def channel(stack: Stack) -> AsyncGenerator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(stack.target) as opened:
        yield opened


@pytest.mark.parametrize("what", ["token", "key", "client disabled", "client updated"])
async def test_a_revocation_ends_running_streams_within_a_second(
    stack: Stack, channel: grpc.aio.Channel, admin: dict[str, str], desk: dict[str, Any], desk_key: str, what: str
) -> None:
    token = stack.token(desk_key)
    key_id, secret = desk_key.split(".")
    running, other = Streams(channel, token), Streams(channel, stack.token(stack.secrets["api_key"]))
    await running.start()
    await other.start()
    ending = asyncio.create_task(running.ended())
    going_on = asyncio.create_task(other.ended())
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=stack.url) as http:
        began = time.monotonic()
        if what == "token":
            form = {"token": token, "client_id": key_id, "client_secret": secret}
            answer = await http.post("/oauth2/revoke", data=form)
        elif what == "key":
            answer = await http.post(f"/v1/keys/{key_id}:revoke", json={}, headers=admin)
        elif what == "client disabled":
            answer = await http.post(f"/v1/clients/{desk['client_id']}:disable", json={}, headers=admin)
        else:
            change = {"datasets": {"names": ["TEST"]}}
            answer = await http.post(f"/v1/clients/{desk['client_id']}:update", json=change, headers=admin)
        assert answer.status_code == 200, answer.text
        async with asyncio.timeout(5):
            ended, error = await ending
        refused = (await http.get("/v1/datasets/SIM/quotes:latest", headers=headers)).json()
    assert ended - began < 1
    assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")
    assert not going_on.done()
    going_on.cancel()
    assert refused["details"][0]["metadata"]["problem"] == "revoked"


def test_oauths_endpoints_by_rest(stack: Stack, desk_key: str) -> None:
    metadata = httpx.get(f"{stack.url}/.well-known/oauth-authorization-server").json()
    assert metadata["issuer"] == "https://auth.marketdata.local"
    key_id, secret = desk_key.split(".")
    token = stack.token(desk_key)
    told = httpx.post(metadata["introspection_endpoint"], data={"token": token}, auth=(key_id, secret))
    assert (told.status_code, told.json()["active"]) == (200, True)
    assert told.headers["cache-control"] == "no-store"
    refused = httpx.post(metadata["introspection_endpoint"], data={"token": token}, auth=(key_id, "wrong"))
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert httpx.post(metadata["revocation_endpoint"], data={"token": token}, auth=(key_id, secret)).status_code == 200
    told = httpx.post(metadata["introspection_endpoint"], data={"token": token}, auth=(key_id, secret))
    assert told.json() == {"active": False}


def test_secrets_stand_in_no_log_and_no_process_list(stack: Stack, desk_key: str) -> None:
    key_id, secret = desk_key.split(".")
    token = stack.token(desk_key)
    url = f"{stack.url}/oauth2/token"
    for form in (
        {"grant_type": "client_credentials", "client_id": secret, "client_secret": secret},
        {"grant_type": secret, "client_id": key_id, "client_secret": secret},
        {"grant_type": "client_credentials", "client_id": key_id, "client_secret": secret, "scope": secret},
    ):
        answer = httpx.post(url, data=form)
        assert answer.status_code in {400, 401}
        assert secret not in answer.text
    httpx.post(url, data={"token": token}, auth=(key_id, secret))
    stack.mda("audit", "list", "-n", "1000")
    own = stack.secrets
    hidden = [secret, token, own["auth_kek"], own["nats_token"]]
    hidden += [own[name].split(".")[1] for name in ("api_key", "feed_api_key", "admin_api_key")]
    texts = {path.name: path.read_text(errors="replace") for path in (stack.data / "logs").iterdir()}
    texts["processes"] = " ".join(_command_lines(stack))
    texts["audit"] = stack.mda("audit", "list", "-n", "1000", "--output", "json").stdout
    texts["database"] = "".join(path.read_bytes().decode("latin-1") for path in Path(stack.data).glob("auth.db*"))
    assert "PRIVATE KEY" not in texts["database"]
    assert {name for name, text in texts.items() for value in hidden if value in text} == set()
    assert "token_refused" in texts["auth.log"]


def _command_lines(stack: Stack) -> list[str]:
    supervisor = psutil.Process(stack.state["supervisor"])
    return [part for process in (supervisor, *supervisor.children(recursive=True)) for part in process.cmdline()]
