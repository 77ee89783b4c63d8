"""Every example in Python of the READMEs and the docs runs as it stands, against a stack."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.polling import until
from tests.stack.conftest import Stack

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "clients" / "python" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(code, id=f"{page.relative_to(ROOT)}:{number}")
    for page in PAGES
    for number, code in enumerate(EXAMPLE.findall(page.read_text()), 1)
    if not re.search(r"\bduckdb\b|\bspark\b", code)  # these are not installed here
]


SCRIPTS = sorted((ROOT / "examples" / "python").glob("*.py"))
EXAMPLES += [pytest.param(script.read_text(), id=str(script.relative_to(ROOT))) for script in SCRIPTS]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize("code", EXAMPLES)
def test_it_runs(stack: Stack, code: str, tmp_path: Path) -> None:
    environment = {**os.environ, "MDA_URL": stack.url, "MDA_API_KEY": stack.secrets["api_key"]}
    (tmp_path / ".mda").symlink_to(stack.data)
    until((stack.data / "lake" / "SIM" / "quotes" / "_delta_log").is_dir, within_s=60)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
