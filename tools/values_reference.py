"""Make `charts/market-data-agent/VALUES.md` from the comments of `values.yaml`.

A comment that begins with `--` tells what the value after it is. Run by `make generate`; with `--check` it writes
nothing and fails where the committed file differs from what it would write.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
CHART: Final = ROOT / "charts" / "market-data-agent"
TARGET: Final = CHART / "VALUES.md"
HEADER: Final = """# Values

Made from the comments of [`values.yaml`](values.yaml) by `make generate`. Where a workload (`auth`, `ingestion`,
`query`, `queryHistory`, `archive`, `gateway`, `nats`) has a value that is in `defaults`, too, its own counts.

| value | default | what it is |
|---|---|---|
"""
_KEY: Final = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):")
_COMMENT: Final = re.compile(r"^ *# ?(?P<text>.*)$")


def described(text: str) -> Iterator[tuple[str, str]]:
    """Yield each value that a comment tells of: its path, and what the comment says."""
    path: list[str] = []
    lines: list[str] = []
    for line in text.splitlines():
        if comment := _COMMENT.match(line):
            lines.append(comment["text"])
            continue
        if key := _KEY.match(line):
            path = [*path[: len(key["indent"]) // 2], key["key"]]
            start = next((i for i, said in enumerate(lines) if said.startswith("-- ")), None)
            if start is not None:
                yield ".".join(path), " ".join(lines[start:]).removeprefix("-- ")
        lines = []


def reference() -> str:
    """Return the document."""
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    rows = [f"| `{path}` | {_default(values, path)} | {said} |\n" for path, said in described(text)]
    return HEADER + "".join(rows)


def _default(values: Any, path: str) -> str:
    for key in path.split("."):
        values = values[key]
    return f"`{json.dumps(values)}`" if values not in ("", [], {}) else "-"


def main() -> int:
    """Write, or check."""
    document = reference()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(document)
        return 0
    fresh = TARGET.exists() and TARGET.read_text() == document
    if not fresh:
        print(f"stale: {TARGET.relative_to(ROOT)} (run `make generate`)")
    return 0 if fresh else 1


if __name__ == "__main__":
    sys.exit(main())
