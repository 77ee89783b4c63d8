"""The docs where they lie, without their site: `make docs` checks that."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from marketdata.v1.error_reason_pb2 import ErrorReason

ROOT = Path(__file__).parents[2]
WRITTEN = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "clients" / "python" / "README.md", ROOT / "gateway" / "README.md", *WRITTEN]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for file, anchor in LINK.findall(page.read_text()):
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), file
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor[1:] in slugs, anchor


def _paths(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for inner in entry.values() if isinstance(entry, dict) else entry:
            yield from _paths(inner)


def test_every_page_is_in_the_navigation() -> None:
    shown = set(_paths(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    assert {str(page.relative_to(ROOT / "docs")) for page in WRITTEN} <= shown


def test_the_catalogue_of_errors_tells_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    for name in ("generate", "openapi", "reference"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    from generate import compiled  # pyright: ignore[reportMissingImports]
    from openapi import Contract  # pyright: ignore[reportMissingImports]
    from reference import errors_page  # pyright: ignore[reportMissingImports]

    sections = dict(
        section.split("\n", 1) for section in errors_page(Contract(compiled())).split("\n## ")[1:] if section
    )
    reasons = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    assert set(sections) == reasons
    for section in sections.values():
        code, text, *_ = section.strip().split("\n\n")
        assert code.startswith("`")
        assert text.endswith(".")
    assert "The tape is full: the archive lags or is down. With RetryInfo; nothing is lost" in sections["TAPE_FULL"]
