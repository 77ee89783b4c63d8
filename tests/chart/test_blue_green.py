"""Two releases of services behind one gateway, which is a third one's: each may reach what it needs of the others."""

from __future__ import annotations

from typing import Any

from rendering import component, of_kind

PREFIX = "cluster.local/ns/market-data/sa"


def environment(variant: str, name: str) -> dict[str, str]:
    """Return the environment of a Deployment's first container, or of the one before that."""
    (found,) = [m for m in of_kind(variant, "Deployment") if m["metadata"]["name"] == name]
    spec = found["spec"]["template"]["spec"]
    container = spec.get("initContainers", spec["containers"])[0]
    return {e["name"]: e["value"] for e in container["env"] if "value" in e}


def test_each_release_has_its_part() -> None:
    assert {component(m) for m in of_kind("shared", "Deployment", "StatefulSet")} == {"gateway", "nats"}
    services = {"archive", "auth", "ingestion", "query", "query-history"}
    assert {component(m) for m in of_kind("services", "Deployment", "StatefulSet")} == services


def test_the_gateway_shares_calls_out_by_weight() -> None:
    env = environment("shared", "mda-gateway")
    # A release whose name lacks "mda" has it in the names of its objects.
    for name in ("archive", "auth", "ingestion", "query"):
        assert env[f"MDA_GATEWAY_{name.upper()}"] == f"green-mda-{name}:50051=10,mda-blue-{name}:50051=90"
    assert env["MDA_GATEWAY_HISTORY"] == "green-mda-query-history:50051=10,mda-blue-query-history:50051=90"


def test_services_use_the_tape_that_is_shared() -> None:
    assert environment("services", "mda-ingestion")["MDA_NATS_URL"] == "nats://mda-shared-nats:4222"


def peers(variant: str, name: str, way: str) -> set[tuple[str, str, int]]:
    """Return release, component and port of those whom a component's network policy names."""
    (policy,) = [p for p in of_kind(variant, "NetworkPolicy") if component(p) == name]
    found: set[tuple[str, str, int]] = set()
    for rule in policy["spec"]["ingress" if way == "from" else "egress"]:
        for peer in rule.get(way, []):
            selector: dict[str, Any] = peer.get("podSelector", {})
            for expression in selector.get("matchExpressions", []):
                assert expression["key"] == "app.kubernetes.io/instance"
                who = selector["matchLabels"]["app.kubernetes.io/component"]
                found |= {(release, who, port["port"]) for release in expression["values"] for port in rule["ports"]}
    return found


def test_the_network_lets_siblings_through() -> None:
    assert {("green", "query", 50051), ("mda-blue", "query", 50051)} <= peers("shared", "gateway", "to")
    assert {("green", "ingestion", 4222), ("mda-blue", "auth", 4222)} <= peers("shared", "nats", "from")
    assert ("mda-shared", "gateway", 50051) in peers("services", "query", "from")
    assert ("mda-shared", "nats", 4222) in peers("services", "archive", "to")


def principals(variant: str, name: str) -> set[str]:
    """Return whom the mesh lets call a component."""
    (policy,) = [p for p in of_kind(variant, "AuthorizationPolicy") if component(p) == name and "action" in p["spec"]]
    return {p for rule in policy["spec"]["rules"] for f in rule.get("from", []) for p in f["source"]["principals"]}


def test_the_mesh_lets_siblings_through() -> None:
    assert {f"{PREFIX}/green-mda-query", f"{PREFIX}/mda-blue-query"} <= principals("shared", "nats")
    assert f"{PREFIX}/mda-shared-gateway" in principals("services", "query")
