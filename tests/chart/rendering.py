"""The chart, rendered by Helm without a cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent.parent
CHART: Final = ROOT / "charts" / "market-data-agent"
HELM: Final = ROOT / "build" / "tools" / "helm"
APIS: Final = ("monitoring.coreos.com/v1", "security.istio.io/v1")
VARIANTS: Final[dict[str, tuple[str, ...]]] = {
    "defaults": (),
    "trial": ("--values", "values-trial.yaml"),
    "production": ("--values", "values-production.yaml"),
    "ci": ("--values", "values-ci.yaml"),
    "mesh": ("--values", "values-ci.yaml", "--set", "mesh.enabled=true,mesh.telemetry.accessLog=true"),
    "ambient": ("--values", "values-production.yaml", "--set", "mesh.mode=ambient"),
    "everything": (
        *("--values", "values-production.yaml"),
        *("--set", "verticalPodAutoscaler.enabled=true,gateway.service.plain=true,mesh.telemetry.accessLog=true"),
        *("--set", "mesh.gatewayPrincipals={cluster.local/ns/desks/sa/*},otlpEndpoint=collector.monitoring:4317"),
        *("--set-json", 'networkPolicy.collectorEgress=[{"ports":[{"port":4317}]}]'),
    ),
    # Blue-green: what two releases share, and the services of one of them.
    "shared": (
        *("--values", "values-production.yaml", "--set", "services.enabled=false,siblings={mda-blue,green}"),
        *("--set", "gateway.backends.mda-blue=90,gateway.backends.green=10"),
    ),
    "services": (
        *("--values", "values-production.yaml", "--set", "gateway.enabled=false,nats.enabled=false"),
        *("--set", "nats.url=nats://mda-shared-nats:4222,siblings={mda-shared}"),
    ),
}
"""Values to render with, by name."""


def helm(*settings: str) -> subprocess.CompletedProcess[str]:
    """Render, whatever comes of it."""
    command = [HELM, "template", "mda", ".", "--namespace", "market-data", *settings]
    return subprocess.run(command, cwd=CHART, capture_output=True, text=True, timeout=60, check=False)


@cache
def manifests(variant: str) -> tuple[dict[str, Any], ...]:
    """Return the manifests of a variant, hooks and tests among them."""
    done = helm(*VARIANTS[variant])
    assert done.returncode == 0, done.stderr
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


def of_kind(variant: str, *kinds: str) -> list[dict[str, Any]]:
    """Return the manifests of some kinds."""
    return [manifest for manifest in manifests(variant) if manifest["kind"] in kinds]


def pod_templates(variant: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each pod or template of pods: whose it is, and its metadata and spec."""
    for manifest in of_kind(variant, "Deployment", "StatefulSet", "Job", "Pod"):
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        yield name, manifest if manifest["kind"] == "Pod" else manifest["spec"]["template"]


def containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all containers of a pod."""
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def component(manifest: dict[str, Any]) -> str:
    """Return a manifest's component."""
    return manifest["metadata"]["labels"]["app.kubernetes.io/component"]
