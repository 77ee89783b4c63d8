"""`python -m mda.gateway`: writes what Envoy needs to a directory, from environment variables.

In a cluster this runs before Envoy does, in the same pod.
"""

from __future__ import annotations

import sys

from mda.gateway.environment import GatewayEnvironment
from mda.gateway.render import write
from mda.runtime.settings import ServiceSettings


def main() -> None:
    """Write the files, and the configuration's path to stdout."""
    environment = GatewayEnvironment()  # pyright: ignore[reportCallIssue] - from the environment
    config = write(environment.settings(ServiceSettings()), environment.directory)
    sys.stdout.write(f"{config}\n")


if __name__ == "__main__":
    main()
