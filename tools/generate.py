"""Make the Python stubs in `clients/python/marketdata`, and `gateway/openapi.json`, from `protos/`.

The stubs keep the validation rules (they are options, that is, bytes) but not the
import of `buf/validate`, so that the client needs no package that only services use.
Run by `make generate`; with `--check` it writes nothing and fails where the
committed files differ from what it would write.
"""

from __future__ import annotations

import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from openapi import openapi

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "clients" / "python"
OPENAPI = ROOT / "gateway" / "openapi.json"
BIN = Path(sys.executable).parent
STUBS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def compiled() -> FileDescriptorSet:
    """Return the protos, and what they import."""
    command = [BIN / "buf", "build", "-o", "-", "--as-file-descriptor-set"]
    return FileDescriptorSet.FromString(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def build_image(files: FileDescriptorSet, image: Path) -> list[str]:
    """Write the protos without the imports of `buf/`, and return our files' names."""
    kept = [file for file in files.file if not file.name.startswith("buf/")]
    for file in kept:
        imports = [name for name in file.dependency if not name.startswith("buf/")]
        del file.dependency[:]
        file.dependency.extend(imports)
    image.write_bytes(FileDescriptorSet(file=kept).SerializeToString())
    return [file.name for file in kept if file.name.startswith("marketdata/")]


def generate(files: FileDescriptorSet, out: Path) -> None:
    """Write the stubs of every one of our protos below `out`."""
    image = out / "image.binpb"
    names = build_image(files, image)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--descriptor_set_in={image}",
            f"--plugin=protoc-gen-mypy_grpc={BIN / 'protoc-gen-mypy_grpc'}",
            f"--python_out={out}",
            f"--pyi_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_grpc_out={out}",
            *names,
        ],
        check=True,
    )
    image.unlink()
    for path in out.rglob("*_pb2_grpc.py"):
        if "Servicer" not in path.read_text():  # no service in that file
            path.unlink()
            path.with_suffix(".pyi").unlink()


def stubs(root: Path) -> set[Path]:
    """Return the paths of the stubs below `root`, relative to it."""
    return {path.relative_to(root) for pattern in STUBS for path in root.rglob(pattern)}


def main() -> int:
    """Generate, or check."""
    files = compiled()
    document = openapi(files)  # before the imports of `buf/` are taken out
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(files, fresh)
        made, standing = stubs(fresh), stubs(TARGET)
        stale = {p for p in made & standing if not filecmp.cmp(fresh / p, TARGET / p, shallow=False)}
        if "--check" in sys.argv[1:]:
            wrong = sorted(stale | (made ^ standing))
            if not OPENAPI.exists() or OPENAPI.read_text() != document:
                wrong.append(OPENAPI.relative_to(ROOT))
            print("\n".join(f"stale: {path} (run `make generate`)" for path in wrong), end="\n" if wrong else "")
            return 1 if wrong else 0
        OPENAPI.write_text(document)
        for path in standing - made:
            (TARGET / path).unlink()
        for path in made:
            (TARGET / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / path, TARGET / path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
