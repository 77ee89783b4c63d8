"""The client as it is installed: by itself, light and quick to import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "clients" / "python"
UV = Path(sys.executable).with_name("uv")
HEAVY = ("grpc", "google/protobuf", "google/_upb", "numpy", "numpy.libs")
"""What does not count: grpcio, protobuf and numpy."""

IMPORT = """
import sys, time
began = time.process_time()
import marketdata.client, marketdata.sync
print(time.process_time() - began)
assert not {"pandas", "polars", "pyarrow", "mda"} & set(sys.modules)
"""
PIECES = """
import json, sysconfig
from pathlib import Path
root = Path(sysconfig.get_path("purelib"))
files = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"]
print(json.dumps({str(path.relative_to(root)): path.stat().st_size for path in files}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, and install it with what it needs in an empty environment; give that one's Python."""
    folder = tmp_path_factory.mktemp("wheel")
    # The build tools are in our environment; nothing else of it comes along.
    build = [UV, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, CLIENT]
    subprocess.run([*build, "--out-dir", folder], check=True)
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    subprocess.run([UV, "pip", "install", "--quiet", "--python", python, wheel], check=True)
    return python


def _run(python: Path, code: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, env=clean).stdout


def test_the_import_is_quick(installed: Path) -> None:
    _run(installed, IMPORT)  # makes the byte code
    # The processor's time, and the least of some: the machine does something else meanwhile.
    assert min(float(_run(installed, IMPORT)) for _ in range(7)) < 0.3


def test_it_is_small_and_brings_nothing_of_the_services(installed: Path) -> None:
    sizes: dict[str, int] = json.loads(_run(installed, PIECES))
    assert any(name.startswith("marketdata/sync") for name in sizes)
    assert "marketdata/py.typed" in sizes
    assert not any(name.startswith(("mda/", "pyarrow/", "pandas/")) for name in sizes)
    ours = sum(size for name, size in sizes.items() if not name.startswith(HEAVY))
    assert ours < 25e6


def test_a_table_without_its_library_says_what_to_install(installed: Path) -> None:
    code = """
from marketdata.columns import Kind, make_batch
try:
    make_batch(Kind.TRADE, {"instrument_id": [1], "ts_event": [0], "price": [1]}).to_polars()
except ImportError as error:
    print(error)
"""
    assert 'pip install "marketdata-client[arrow]"' in _run(installed, code)
