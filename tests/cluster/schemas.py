"""`python -m tests.cluster.schemas`: writes the schemas of what the chart renders, as its API server has them.

`make chart-test` validates with them where there is no cluster. Kinds that this cluster does not know are left out.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from tests.cluster.kube import ROOT, CommandError, kubectl

sys.path.insert(0, str(ROOT / "tests" / "chart"))
from rendering import VARIANTS, manifests

TARGET: Final = ROOT / "tests" / "chart" / "schemas.json"
_PREFIX: Final = "#/components/schemas/"


def kinds() -> list[tuple[str, str]]:
    """Return API version and kind of all that the chart renders."""
    return sorted({(m["apiVersion"], m["kind"]) for variant in VARIANTS for m in manifests(variant)})


def components(api_version: str) -> dict[str, Any]:
    """Return the schemas of an API version; none where the cluster does not know it."""
    path = f"/openapi/v3/api{'s' if '/' in api_version else ''}/{api_version}"
    try:
        return json.loads(kubectl("get", "--raw", path))["components"]["schemas"]
    except CommandError:
        return {}


def strict(schema: Any) -> Any:
    """Return a schema without what is for people, that takes no fields that it does not name."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    dropped = {"description", "default", "example"}
    # Within `properties` these would be names of fields.
    made = {
        key: {name: strict(field) for name, field in value.items()} if key == "properties" else strict(value)
        for key, value in schema.items()
        if key not in dropped and not key.startswith("x-kubernetes-")
    }
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in schema and not open_ended:
        made["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        made = {"type": ["integer", "string"]}
    return made


def referred(schema: Any) -> set[str]:
    """Return the names of the schemas that a schema refers to."""
    if isinstance(schema, list):
        return {name for item in schema for name in referred(item)}
    if not isinstance(schema, dict):
        return set()
    own = {schema["$ref"].removeprefix(_PREFIX)} if isinstance(schema.get("$ref"), str) else set()
    return own | {name for value in schema.values() for name in referred(value)}


def main() -> None:
    """Write the file."""
    roots: dict[str, str] = {}
    kept: dict[str, Any] = {}
    for api_version, kind in kinds():
        known = components(api_version)
        group, _, version = api_version.rpartition("/")
        wanted = {"group": group, "kind": kind, "version": version}
        for name, schema in known.items():
            if wanted in schema.get("x-kubernetes-group-version-kind", []):
                roots[f"{api_version}/{kind}"] = name
                todo = {name}
                while todo:
                    found = todo.pop()
                    if found not in kept:
                        kept[found] = strict(known[found])
                        todo |= referred(kept[found])
    document = {"kinds": roots, "components": {"schemas": dict(sorted(kept.items()))}}
    TARGET.write_text(json.dumps(document, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
