"""Build the docs site in `build/docs/site`: `make docs`.

The pages in `docs/` read well where they lie, on a forge. Here they are put together with
what is made from code: the API's reference from the protos, the catalogue of errors, the
command's help, the client's docstrings. Links out of `docs/` become links to the pages
made of those files. Every link and anchor is checked.
"""

from __future__ import annotations

import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

from generate import BIN, ROOT, compiled
from openapi import Contract
from reference import errors_page, metrics_page, page_of, pages

import marketdata

BUILD = ROOT / "build" / "docs"
COPIED = {
    "gateway/README.md": "gateway.md",
    "clients/python/README.md": "client.md",
    "examples/README.md": "examples.md",
    "charts/market-data-agent/VALUES.md": "reference/values.md",
    "mesh/README.md": "mesh.md",
}
"""Pages that lie elsewhere."""
MADE = {"protos/marketdata/v1/error_reason.proto": "reference/errors.md"}
"""Pages that are made of a file, where it is not the one of every proto file."""
_LINK = re.compile(r"\[([^\[\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
_MODULES = (
    "client sync subscriber delivery cursors history scan rows frames tables columns publisher spool errors digest"
    " times"
)


def main() -> int:
    """Put the pages together, and build the site."""
    shutil.rmtree(BUILD, ignore_errors=True)
    target = BUILD / "pages"
    contract = Contract(compiled())
    for path, text in _pages(contract).items():
        page = target / path
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text)
    shutil.copyfile(ROOT / "zensical.toml", BUILD / "zensical.toml")
    environment = {**os.environ, "NO_COLOR": "1"}
    # From its own folder: it makes a cache where it stands.
    done = subprocess.run([BIN / "zensical", "build", "--strict", "--clean"], cwd=BUILD, env=environment, check=False)
    return done.returncode


def _pages(contract: Contract) -> dict[str, str]:
    made = pages(contract)
    made["reference/errors.md"] = errors_page(contract)
    made["reference/metrics.md"] = metrics_page()
    made["reference/client.md"] = _client_page()
    made["reference/command.md"] = _command_page()
    sources = {str(path.relative_to(ROOT)): str(path.relative_to(ROOT / "docs")) for path in _written()} | COPIED
    for source, page in sources.items():
        made[page] = _moved_links((ROOT / source).read_text(), source, page, sources)
    return made


def _written() -> list[Path]:
    return sorted((ROOT / "docs").rglob("*.md"))


def _moved_links(text: str, source: str, page: str, pages_of: dict[str, str]) -> str:
    """Return a page whose links to files lead to their pages, from where it now lies."""

    def moved(found: re.Match[str]) -> str:
        file = (ROOT / source).parent.joinpath(found[2]).resolve()
        if not file.exists():
            raise SystemExit(f"{source}: there is no {found[2]}")
        name = str(file.relative_to(ROOT))
        aim = {**pages_of, **MADE}.get(name) or (page_of(name) if name.endswith(".proto") else None)
        if aim is None and file.suffix == ".md":
            raise SystemExit(f"{source}: {found[2]} is no page of the site")
        if aim is None:  # a file of the project: the site has no page of it
            return found[1]
        up = "../" * page.count("/")
        return f"[{found[1]}]({up}{aim}{found[3] or ''})"

    return _LINK.sub(moved, text)


def _client_page() -> str:
    known = {module.name for module in pkgutil.iter_modules(marketdata.__path__)}
    names = _MODULES.split()
    if missing := set(names) - known:
        raise SystemExit(f"no modules: {missing}")
    return "# The Python client\n\n" + "\n".join(f"::: marketdata.{name}\n" for name in names)


def _command_page() -> str:
    docs = ["utils", "docs", "--name", "mda", "--title", "The command"]
    command = [sys.executable, "-m", "typer", "mda.cli.__main__", *docs]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
