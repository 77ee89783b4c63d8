"""The gateway's environment in the chart is the one that its golden configuration was made from."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from rendering import ROOT, of_kind

from mda.gateway.environment import GatewayEnvironment
from mda.gateway.parts import folder
from mda.gateway.render import render
from mda.gateway.sds import dump
from mda.runtime.settings import ServiceSettings

MEMORY = "1073741824"
"""The memory limit of the values, as a kubelet tells it."""


def environment(variant: str) -> dict[str, str]:
    """Return the environment of the container that renders."""
    (gateway,) = [m for m in of_kind(variant, "Deployment") if m["metadata"]["name"] == "mda-gateway"]
    env: list[Any] = gateway["spec"]["template"]["spec"]["initContainers"][0]["env"]
    return {e["name"]: e.get("value", MEMORY) for e in env}


def test_it_is_what_the_golden_configuration_was_made_from(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("gateway_conftest", ROOT / "tests" / "gateway" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert environment("defaults") == module.CLUSTER
    for name, value in environment("defaults").items():
        monkeypatch.setenv(name, value)
    made = GatewayEnvironment().settings(ServiceSettings())  # pyright: ignore[reportCallIssue]
    assert dump(render(made)).decode() == (folder() / "golden" / "cluster.yaml").read_text()


def test_every_variable_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nobody reads would be ignored in silence."""
    own = {f"MDA_GATEWAY_{name.upper()}" for name in GatewayEnvironment.model_fields}
    common = {f"MDA_{name.upper()}" for name in ServiceSettings.model_fields}
    assert environment("everything").keys() <= own | common
