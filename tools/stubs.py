"""Make the stubs of another language: `python tools/stubs.py go`.

What `examples/<language>/buf.gen.yaml` says is made from the protos without the import of
`buf/validate`, which only services use.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from generate import BIN, ROOT, build_image, compiled


def main() -> int:
    """Generate."""
    folder = ROOT / "examples" / sys.argv[1]
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "image.binpb"
        build_image(compiled(), image)
        command = [
            BIN / "buf",
            "generate",
            image,
            "--template",
            folder / "buf.gen.yaml",
            "--output",
            folder,
            "--path",
            "marketdata",
        ]
        return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
