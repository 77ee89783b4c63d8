"""Where `mda` begins. The rest of it takes a while to import, in which Ctrl-C is no error either."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command."""
    try:
        from mda.cli.__main__ import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()
