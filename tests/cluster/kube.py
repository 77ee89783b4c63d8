"""kubectl and Helm, with the cluster that KUBECONFIG names."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
CHART: Final = ROOT / "charts" / "market-data-agent"
HELM: Final = ROOT / "build" / "tools" / "helm"
FOLDER: Final = Path(__file__).parent
RELEASE: Final = "mda"
NAMESPACE: Final = os.environ.get("MDA_CLUSTER_NAMESPACE", "market-data-tests")
MESH: Final = os.environ.get("MDA_CLUSTER_MESH") == "1"
IMAGES: Final = os.environ.get("MDA_CLUSTER_IMAGES", "localhost/market-data-agent")
TAG: Final = os.environ.get("MDA_CLUSTER_TAG", "dev")
POSTGRESQL: Final = os.environ.get("MDA_CLUSTER_POSTGRESQL") == "1"
DATABASE_SETTINGS: Final = (
    *("--set", "auth.database.kind=postgresql,auth.database.existingSecret=tests-database"),
    "--set-json",
    'networkPolicy.databaseEgress=[{"ports":[{"port":5432}],"to":[{"podSelector":{"matchLabels":{"tests":"postgres"}}}]}]',
)
POSTGRES_IMAGE: Final = f"{IMAGES}/postgres:{TAG}"
OBJECT_STORE: Final = os.environ.get("MDA_CLUSTER_OBJECT_STORE") == "1"
LAKE_SETTINGS: Final = (
    *("--set", "lake.uri=s3://lake/tests,lake.existingSecret=tests-object-store"),
    "--set-json",
    'networkPolicy.objectStoreEgress=[{"ports":[{"port":7070}],"to":[{"podSelector":{"matchLabels":{"tests":"object-store"}}}]}]',
)
OBJECT_STORE_IMAGE: Final = f"{IMAGES}/object-store:{TAG}"
SERVICES_IMAGE: Final = f"{IMAGES}/services:{TAG}"
SETTINGS: Final = [
    *("--values", str(CHART / "values-ci.yaml")),
    *("--set", f"image.repository={IMAGES}/services,image.tag={TAG}"),
    *("--set", f"gateway.image.repository={IMAGES}/envoy,gateway.image.tag={TAG}"),
    *("--set", f"nats.image.repository={IMAGES}/nats,nats.image.tag={TAG}"),
    *("--set", f"mesh.enabled={str(MESH).lower()}"),
    *("--set", os.environ.get("MDA_CLUSTER_SETTINGS") or "fullnameOverride="),
    *(DATABASE_SETTINGS if POSTGRESQL else ()),
    *(LAKE_SETTINGS if OBJECT_STORE else ()),
]
"""What differs from the chart's own values for CI."""


class CommandError(RuntimeError):
    """A command that failed, with what it said."""


def run(*command: str, stdin: str | None = None, timeout_s: float = 300) -> str:
    """Run a command and return what it prints."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        raise CommandError(f"{' '.join(command)}: {done.stderr}{done.stdout}")
    return done.stdout


async def run_async(*command: str, timeout_s: float = 300) -> str:
    """Run a command beside what else goes on."""
    return await asyncio.to_thread(run, *command, timeout_s=timeout_s)


def kubectl(*arguments: str, stdin: str | None = None, namespace: str = NAMESPACE) -> str:
    """Run kubectl in a namespace."""
    return run("kubectl", "--namespace", namespace, *arguments, stdin=stdin)


def get(*arguments: str, namespace: str = NAMESPACE) -> Any:
    """Return what `kubectl get` gives."""
    return json.loads(kubectl("get", *arguments, "-o", "json", namespace=namespace))


def helm(*arguments: str, timeout_s: float = 300) -> str:
    """Run Helm in the namespace of the release."""
    return run(str(HELM), "--namespace", NAMESPACE, *arguments, timeout_s=timeout_s)


def upgrade(*more: str, wait_s: int = 120, release: str = RELEASE) -> str:
    """Install a release, or change it, and wait until it serves."""
    names = f"gateway.tls.selfSignedNames={{localhost,{node_address()}}}"
    wait = ("--set", names, "--wait", "--timeout", f"{wait_s}s")
    return helm("upgrade", "--install", release, str(CHART), *SETTINGS, *wait, *more, timeout_s=wait_s + 60)


def roll_back(release: str = RELEASE) -> None:
    """Go back to what was there before changes that failed."""
    history = json.loads(helm("history", release, "--output", "json"))
    revision = next(past["revision"] for past in reversed(history) if past["status"] == "deployed")
    helm("rollback", release, str(revision), "--wait", "--timeout", "120s")


def node_address() -> str:
    """Return the address of the first node."""
    addresses = get("nodes")["items"][0]["status"]["addresses"]
    return next(a["address"] for a in addresses if a["type"] == "InternalIP")


def apply(file: str, *, namespace: str = NAMESPACE, **values: object) -> None:
    """Apply a file of this folder, with values in the places of its names."""
    kubectl("apply", "-f", "-", stdin=Template((FOLDER / file).read_text()).substitute(values), namespace=namespace)


def selector(component: str, release: str = RELEASE) -> str:
    """Return the labels of a component's pods."""
    return f"app.kubernetes.io/instance={release},app.kubernetes.io/component={component}"


def pods(component: str, release: str = RELEASE) -> list[Any]:
    """Return a component's pods that are not on their way out."""
    found = get("pods", "-l", selector(component, release))["items"]
    return [p for p in found if "deletionTimestamp" not in p["metadata"]]


def ready(pod: Any) -> bool:
    """Tell whether a pod is ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def secret(name: str, key: str) -> bytes:
    """Return what a secret holds."""
    import base64

    return base64.b64decode(get("secret", name)["data"][key])


def eventually(true: Callable[[], bool], timeout_s: float = 60) -> float:
    """Wait until something is true; return how long that took, in seconds."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"not within {timeout_s} s")
        time.sleep(0.2)
    return time.monotonic() - began
