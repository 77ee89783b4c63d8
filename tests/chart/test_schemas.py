"""Every object has the form that Kubernetes (1.36) and Istio (1.31) ask for, and no fields that they do not know."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from rendering import VARIANTS, manifests

SCHEMAS: dict[str, Any] = json.loads((Path(__file__).parent / "schemas.json").read_text())
# Their definitions come with operators of their own.
UNKNOWN = {"Gateway", "PodMonitor", "PrometheusRule", "VerticalPodAutoscaler"}


@cache
def validator(kind: str) -> Draft202012Validator:
    """Return what validates a kind."""
    root = {"$ref": f"#/components/schemas/{SCHEMAS['kinds'][kind]}", "components": SCHEMAS["components"]}
    return Draft202012Validator(root)


@pytest.mark.parametrize("variant", VARIANTS)
def test_objects_have_the_form_that_the_api_asks_for(variant: str) -> None:
    wrong: list[str] = []
    seen = 0
    for manifest in manifests(variant):
        if manifest["kind"] in UNKNOWN:
            continue
        seen += 1
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        found = validator(f"{manifest['apiVersion']}/{manifest['kind']}").iter_errors(manifest)
        wrong += [f"{name}: {error.json_path}: {error.message[:200]}" for error in found]
    assert wrong == []
    assert seen > 20


def test_what_is_no_field_is_refused() -> None:
    (deployment, *_) = [m for m in manifests("defaults") if m["kind"] == "Deployment"]
    changed = json.loads(json.dumps(deployment))
    changed["spec"]["template"]["spec"]["containers"][0]["imagePullPolcy"] = "Always"
    assert [e.json_path for e in validator("apps/v1/Deployment").iter_errors(changed)] == [
        "$.spec.template.spec.containers[0]"
    ]
