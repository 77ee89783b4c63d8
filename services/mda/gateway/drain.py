"""`python -m mda.gateway.drain`: waits for SIGTERM, then has Envoy beside it let its connections go.

Envoy itself cuts all connections off on SIGTERM. So a pod holds Envoy's SIGTERM back for as long as this takes.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from typing import Final

_TIMEOUT_S: Final = 5.0


async def drain(admin_port: int, delay_s: float) -> None:
    """Fail the health check, wait until balancers have seen it, then close listeners and idle connections.

    Parameters
    ----------
    admin_port
        The port of Envoy's admin interface, on loopback.
    delay_s
        How long balancers need.
    """
    await _post(admin_port, "/healthcheck/fail")
    await asyncio.sleep(delay_s)
    await _post(admin_port, "/drain_listeners?graceful")


async def _post(port: int, path: str) -> None:
    # By hand: an HTTP library would be most of what this process needs.
    async with asyncio.timeout(_TIMEOUT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"POST {path} HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        status = await reader.readline()
        writer.close()
    if b" 200 " not in status:
        raise ConnectionError(f"{path}: {status.decode().strip()}")


async def _run(admin_port: int, delay_s: float) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    sys.stdout.write("Waits for SIGTERM.\n")
    sys.stdout.flush()
    await stopping.wait()
    await drain(admin_port, delay_s)


def main(arguments: list[str] | None = None) -> None:
    """Run until a signal, and drain."""
    parser = argparse.ArgumentParser(prog="python -m mda.gateway.drain", description=__doc__)
    parser.add_argument("--admin-port", type=int, default=9901, help="Envoy's admin interface, on loopback; 9901.")
    parser.add_argument("--delay", type=float, default=4.0, help="How many seconds balancers need; 4.")
    given = parser.parse_args(arguments)
    try:
        asyncio.run(_run(given.admin_port, given.delay))
    except OSError as error:  # TimeoutError is one, too
        sys.exit(f"error: Envoy was not drained: {error!r}")


if __name__ == "__main__":
    main()
