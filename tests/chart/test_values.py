"""The values: what is refused, what is told of them, and what they become."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from rendering import CHART, ROOT, VARIANTS, helm, manifests, of_kind

sys.path.insert(0, str(ROOT / "tools"))
from values_reference import described

PRODUCTION = ("--values", "values-production.yaml")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("--set", "auth.database.kind=postgresql"), "auth.database.existingSecret"),
        (("--set", "nats.enabled=false"), "nats.url"),
        (("--set", "nats.url=nats://elsewhere:4222"), "set nats.enabled false"),
        (("--set", "lake.existingSecret=x"), "set lake.uri"),
        ((*PRODUCTION, "--set-json", "networkPolicy.databaseEgress=[]"), "networkPolicy.databaseEgress"),
        ((*PRODUCTION, "--set-json", "networkPolicy.objectStoreEgress=[]"), "networkPolicy.objectStoreEgress"),
        ((*PRODUCTION, "--set", "nats.enabled=false,nats.url=nats://a:4222"), "networkPolicy.natsEgress"),
        ((*PRODUCTION, "--set", "otlpEndpoint=a:4317"), "networkPolicy.collectorEgress"),
        (("--set", "gateway.drainSeconds=8"), "gateway.drainSeconds"),
        (("--set", "gateway.service.nodePort=30443"), "NodePort"),
        (("--set", "query.autoscaling.enabled=true,query.autoscaling.maxReplicas=1"), "maxReplicas"),
        (("--set", "services.enabled=false"), "gateway.backends"),
        (("--set", "gateway.backends.green=1"), "neither this release nor among its siblings"),
        (("--set", "siblings={green},gateway.backends.green=0"), "gives no release any calls"),
        (("--set", "siblings={green},services.enabled=false,gateway.backends.mda=1"), "takes away"),
        (("--set", "siblings={mda}"), "leave this one out"),
        # These by the schema.
        (("--set", "nats.replicas=2"), "/nats/replicas"),
        (("--set", "querry.replicas=2"), "querry"),
        (("--set", "query.replica=2"), "replica"),
        (("--set", "logLevel=loud"), "/logLevel"),
        (("--set", "issuer=marketdata"), "/issuer"),
        (("--set", "gateway.limits.free.burst=0,gateway.limits.free.per_second=1"), "/gateway/limits/free/burst"),
        (("--set", "query.resources.limits=null"), "resources"),
        (("--set", "image.digest=sha256:1"), "/image/digest"),
    ],
    ids=str,
)
def test_values_that_cannot_work_are_refused(settings: tuple[str, ...], said: str) -> None:
    done = helm(*settings)
    assert done.returncode != 0
    assert said in done.stderr


def leaves(values: Any, path: str = "") -> Iterator[str]:
    """Yield the path of each value that has no others in it."""
    for key, value in values.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, dict) and value:
            yield from leaves(value, here)
        else:
            yield here


def test_every_value_is_described() -> None:
    text = (CHART / "values.yaml").read_text()
    told = {path for path, _ in described(text)}
    # Of these one sentence tells all.
    whole = ("resources", "hard", "defaultRequest", "default", "proxyResources", "dns")
    undescribed = [
        path
        for path in leaves(yaml.safe_load(text))
        if path not in told
        and not any(part in whole for part in path.split("."))
        and not path.endswith(("minReplicas", "maxReplicas"))
    ]
    assert undescribed == []


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def known(part: dict[str, Any], values: dict[str, Any], path: str) -> None:
        part = schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        if "properties" not in part:
            return
        assert part["additionalProperties"] is False, path
        assert values.keys() <= part["properties"].keys(), path
        for key, value in values.items():
            if isinstance(value, dict):
                known(part["properties"][key], value, f"{path}.{key}")

    known(schema, yaml.safe_load((CHART / "values.yaml").read_text()), "")


def test_variables_of_ones_own_count_before_the_chart_s() -> None:
    settings = "query.extraEnv[0].name=MDA_PORT,query.extraEnv[0].value=50052,query.extraEnv[1].name=OWN"
    found = [m for m in yaml.safe_load_all(helm("--set-string", settings).stdout) if m and m["kind"] == "Deployment"]
    for deployment in found:
        env = deployment["spec"]["template"]["spec"]["containers"][0].get("env", [])
        names = [e["name"] for e in env]
        assert len(names) == len(set(names))
        if deployment["metadata"]["name"] == "mda-query":
            assert {"name": "MDA_PORT", "value": "50052"} in env
            assert "OWN" in names
        else:
            assert "OWN" not in names


def test_other_names() -> None:
    done = helm("--set", "fullnameOverride=tape")
    assert done.returncode == 0, done.stderr
    names = {m["metadata"]["name"] for m in yaml.safe_load_all(done.stdout) if m}
    assert all(name.startswith("tape") for name in names)


def test_the_version_is_the_package_s() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f'version = "{chart["appVersion"]}"' in (ROOT / "pyproject.toml").read_text()
    assert of_kind("defaults", "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["image"].endswith(
        f":{chart['appVersion']}"
    )


def test_a_change_of_the_configuration_of_nats_restarts_it() -> None:
    def checksum(*settings: str) -> str:
        (nats,) = [m for m in yaml.safe_load_all(helm(*settings).stdout) if m and m["kind"] == "StatefulSet"]
        return nats["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    assert checksum() == checksum("--set", "query.replicas=3")
    assert checksum() != checksum("--set", "nats.replicas=3")


def test_history_has_pods_of_its_own_where_it_is_wanted() -> None:
    def targets(variant: str) -> dict[str, Any]:
        (gateway,) = [m for m in of_kind(variant, "Deployment") if m["metadata"]["name"] == "mda-gateway"]
        return {e["name"]: e.get("value") for e in gateway["spec"]["template"]["spec"]["initContainers"][0]["env"]}

    assert "MDA_GATEWAY_HISTORY" not in targets("trial")
    assert targets("production")["MDA_GATEWAY_HISTORY"] == "mda-query-history:50051"
    (history,) = [m for m in of_kind("production", "Deployment") if m["metadata"]["name"] == "mda-query-history"]
    env = {e["name"]: e.get("value") for e in history["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["MDA_QUERY_FOLLOW_ALL"] == "false"


def test_two_renderings_are_the_same_where_secrets_are_named() -> None:
    assert helm(*VARIANTS["production"]).stdout == helm(*VARIANTS["production"]).stdout
    assert manifests("production")
