"""Make the chart's `files/access.yaml`, and the table in `mesh/README.md`, from `mesh/calls.yaml` and the protos.

Run by `make generate`; with `--check` it writes nothing and fails where the committed files differ from what it would
write.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import yaml

from mda.gateway.methods import methods

ROOT: Final = Path(__file__).resolve().parent.parent
CALLS: Final = ROOT / "mesh" / "calls.yaml"
ACCESS: Final = ROOT / "charts" / "market-data-agent" / "files" / "access.yaml"
README: Final = ROOT / "mesh" / "README.md"
BEGIN: Final = "<!-- the table: made by `make generate` -->\n"
END: Final = "<!-- the end of the table -->\n"
HEADER: Final = "# Made by tools/mesh.py from mesh/calls.yaml: `make generate`.\n"
_COMMON: Final = ("grpc.health.v1.", "grpc.reflection.v1")


def own_methods(workload: str) -> list[str]:
    """Return the methods that a workload serves and somebody may call, as `package.Service/Method`."""
    service = "query" if workload == "query-history" else workload
    return [m.path[1:] for m in methods() if m.cluster == service and (m.public or m.scope or m.any_client)]


def called(entry: dict[str, Any], workload: str) -> list[str]:
    """Return which methods of a workload an entry allows.

    Raises
    ------
    ValueError
        If one is not a method of that workload.
    """
    served = own_methods(workload)
    if entry["call"] == "protos":
        return served
    for name in entry["call"]:
        if name not in served and not name.startswith(_COMMON):
            raise ValueError(f"{CALLS.name}: {workload} has no method {name}")
    return entry["call"]


def access(calls: dict[str, Any]) -> dict[str, Any]:
    """Return, by who is called, the methods and ports and who may call them."""
    allowed: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for entry in calls["methods"]:
        for workload in entry["to"]:
            for name in called(entry, workload):
                allowed[workload][f"/{name}"].update(entry["from"])
    ports: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for entry in calls["ports"]:
        ports[entry["to"]][str(entry["port"])] = sorted(entry["from"])
    return {"methods": {name: _rules(paths) for name, paths in sorted(allowed.items())}, "ports": dict(ports)}


def _rules(paths: dict[str, set[str]]) -> list[dict[str, list[str]]]:
    """Put together the paths that the same workloads may call."""
    together: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path, callers in sorted(paths.items()):
        together[tuple(sorted(callers))].append(path)
    return [{"from": list(callers), "paths": found} for callers, found in sorted(together.items())]


def table(calls: dict[str, Any]) -> str:
    """Return who may call whom, as a table for people."""
    cells: dict[tuple[str, str], list[str]] = defaultdict(list)
    for entry in calls["methods"]:
        for caller in entry["from"]:
            for workload in entry["to"]:
                cells[caller, workload].append(_short(entry["call"]))
    for entry in calls["ports"]:
        for caller in entry["from"]:
            cells[caller, entry["to"]].append(f"port {entry['port']}")
    callers = sorted({caller for caller, _ in cells})
    callees = sorted({callee for _, callee in cells})
    lines = [f"| from ↓ to → | {' | '.join(callees)} |", "|---" * (len(callees) + 1) + "|"]
    lines += [f"| {caller} | {' | '.join(', '.join(cells[caller, c]) or '-' for c in callees)} |" for caller in callers]
    return "\n".join(lines) + "\n"


def _short(call: str | list[str]) -> str:
    if isinstance(call, str):
        return "its methods"
    services = sorted({name.partition("/")[0].rpartition(".")[2] for name in call})
    return f"`{call[0].rpartition('.')[2]}`" if len(call) == 1 else ", ".join(f"`{name}`" for name in services)


def fresh() -> dict[Path, str]:
    """Return what the files should hold."""
    calls = yaml.safe_load(CALLS.read_text())
    before, _, rest = README.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    return {
        ACCESS: HEADER + yaml.safe_dump(access(calls), sort_keys=False, width=120),
        README: before + BEGIN + table(calls) + END + after,
    }


def main() -> int:
    """Write, or check."""
    stale = {path: text for path, text in fresh().items() if not path.exists() or path.read_text() != text}
    if "--check" not in sys.argv[1:]:
        for path, text in stale.items():
            path.write_text(text)
        return 0
    for path in stale:
        print(f"stale: {path.relative_to(ROOT)} (run `make generate`)")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
