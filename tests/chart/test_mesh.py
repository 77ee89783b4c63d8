"""The mesh's policies: who may call what is what `mesh/calls.yaml` says, and every method of the protos is in it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from rendering import ROOT, VARIANTS, component, helm, of_kind, pod_templates

from mda.gateway.methods import methods

MESHES = ("mesh", "production", "everything", "shared", "services")
PREFIX = "cluster.local/ns/market-data/sa/mda-"


def allowed(variant: str) -> set[tuple[str, str, str]]:
    """Return who may call what, from the policies: caller, callee, path."""
    found: set[tuple[str, str, str]] = set()
    for policy in of_kind(variant, "AuthorizationPolicy"):
        for rule in policy["spec"].get("rules", []):
            principals = [p for f in rule.get("from", []) for p in f["source"]["principals"]]
            paths = [p for t in rule["to"] for p in t["operation"].get("paths", [])]
            found |= {(who.removeprefix(PREFIX), component(policy), path) for who in principals for path in paths}
    return found


def test_policies_are_the_table() -> None:
    calls: dict[str, Any] = yaml.safe_load((ROOT / "mesh" / "calls.yaml").read_text())
    expected: set[tuple[str, str, str]] = set()
    for entry in calls["methods"]:
        for to in entry["to"]:
            served = [m.path for m in methods() if m.cluster == to.removesuffix("-history")]
            paths = served if entry["call"] == "protos" else [f"/{name}" for name in entry["call"]]
            expected |= {(who, to, path) for who in entry["from"] for path in paths}
    assert allowed("production") == expected
    assert allowed("mesh") == expected


def test_every_method_can_be_called_through_the_gateway() -> None:
    reached = {(to, path) for who, to, path in allowed("production") if who == "gateway"}
    assert {(m.cluster, m.path) for m in methods() if m.public or m.scope or m.any_client} <= reached


@pytest.mark.parametrize("variant", MESHES)
def test_what_no_rule_allows_is_refused(variant: str) -> None:
    policies = of_kind(variant, "AuthorizationPolicy")
    (nothing,) = [p for p in policies if "rules" not in p["spec"]]
    assert "action" not in nothing["spec"]  # ALLOW, of nothing
    for name, template in pod_templates(variant):
        if name.startswith(("Job/", "Pod/")):
            continue
        labels = template["metadata"]["labels"]
        assert nothing["spec"]["selector"]["matchLabels"].items() <= labels.items()
        mine = [p for p in policies if p["spec"]["selector"]["matchLabels"].items() <= labels.items()]
        assert len(mine) == 2, name
    assert all(p["spec"].get("action", "ALLOW") == "ALLOW" for p in policies)


@pytest.mark.parametrize("variant", MESHES)
def test_mutual_tls_everywhere_but_where_callers_bring_their_own(variant: str) -> None:
    for peer in of_kind(variant, "PeerAuthentication"):
        assert peer["spec"]["mtls"] == {"mode": "STRICT"}
        ports = peer["spec"].get("portLevelMtls", {})
        assert ports == ({8443: {"mode": "DISABLE"}} if component(peer) == "gateway" else {})
    for name, template in pod_templates(variant):
        labels = template["metadata"]["labels"].items()
        peers = of_kind(variant, "PeerAuthentication")
        mine = [p for p in peers if p["spec"]["selector"]["matchLabels"].items() <= labels]
        # Of two Istio would take the older one alone.
        assert len(mine) == (0 if name.startswith(("Job/", "Pod/")) else 1), name
    hosts = {rule["spec"]["host"].partition(".")[0] for rule in of_kind(variant, "DestinationRule")}
    services = {s["metadata"]["name"] for s in of_kind(variant, "Service")}
    assert hosts == services - {"mda-gateway", "mda-nats-peers"}


@pytest.mark.parametrize("variant", MESHES)
def test_sidecars_start_before_and_end_after_what_they_serve(variant: str) -> None:
    for name, template in pod_templates(variant):
        labels, notes = template["metadata"]["labels"], template["metadata"].get("annotations", {})
        inside = not name.startswith(("Job/", "Pod/"))
        assert labels["sidecar.istio.io/inject"] == str(inside).lower()
        assert (notes.get("sidecar.istio.io/nativeSidecar") == "true") == inside


def test_ambient_has_a_waypoint_that_looks_at_methods() -> None:
    (waypoint,) = of_kind("ambient", "Gateway")
    by_method = [p for p in of_kind("ambient", "AuthorizationPolicy") if "targetRefs" in p["spec"]]
    assert {component(p) for p in by_method} == {"archive", "auth", "ingestion", "query", "query-history"}
    assert {p["spec"]["targetRefs"][0]["name"] for p in by_method} == {waypoint["metadata"]["name"]}
    assert not of_kind("ambient", "Sidecar")
    for name, template in pod_templates("ambient"):
        inside = not name.startswith(("Job/", "Pod/"))
        mode = template["metadata"]["labels"].get("istio.io/dataplane-mode")
        assert mode == ("ambient" if inside else "none"), name


def test_certificates_live_as_long_as_one_says() -> None:
    def configuration(*settings: str) -> dict[str, Any]:
        done = helm(*VARIANTS["mesh"], *settings)
        (query,) = [
            m
            for m in yaml.safe_load_all(done.stdout)
            if m and (m["kind"], m["metadata"]["name"]) == ("Deployment", "mda-query")
        ]
        return yaml.safe_load(query["spec"]["template"]["metadata"]["annotations"]["proxy.istio.io/config"])

    usual = configuration()["proxyMetadata"]
    assert "SECRET_TTL" not in usual
    assert configuration("--set", "mesh.certificateLifetime=1h")["proxyMetadata"] == {**usual, "SECRET_TTL": "1h"}
