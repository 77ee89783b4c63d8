"""Runs in a pod: tries calls and says how each ended. Standard input is JSON: `[[target, path], …]` and ports.

A path is called with an empty message and no token. What the mesh refuses never comes to the service, and says so in
its own words; any answer of the service itself means that the mesh let the call pass.
"""

from __future__ import annotations

import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

REFUSED = "RBAC: access denied"


def call(target: str, path: str) -> str:
    """Return `passed`, `refused` by the mesh, or how else it failed, three times."""
    answer = ""
    for _ in range(3):  # many connections at once: one may break, which says nothing
        answer = call_once(target, path)
        if answer in {"passed", "refused"}:
            break
    return answer


def call_once(target: str, path: str) -> str:
    """Return how one try ended."""
    with grpc.insecure_channel(target) as channel:
        stream = channel.stream_stream(path, request_serializer=bytes, response_deserializer=bytes)
        try:
            for _ in stream(iter([b""]), timeout=10):
                break
        except grpc.RpcError as error:
            known: Any = error
            if known.code() is grpc.StatusCode.PERMISSION_DENIED and REFUSED in (known.details() or ""):
                return "refused"
            if known.code() is grpc.StatusCode.UNAVAILABLE and "grpc-status-details-bin" not in dict(
                known.trailing_metadata() or ()
            ):
                return f"unreachable: {known.details()}"
    return "passed"


def connect(host: str, port: int) -> str:
    """Return whether NATS answers.

    It greets whoever connects, and a mesh judges with the first byte that a caller sends: so the greeting says nothing.
    """
    try:
        with socket.create_connection((host, port), 5) as connection:
            connection.settimeout(5)
            with connection.makefile("rwb") as stream:
                stream.readline()
                stream.write(b'CONNECT {"verbose":true}\r\nPING\r\n')
                stream.flush()
                return "passed" if stream.readline() else "refused"
    except OSError as error:
        return f"unreachable: {error}"


def main() -> None:
    """Try all, some at a time; print the answers in the same order."""
    wanted = json.load(sys.stdin)
    with ThreadPoolExecutor(8) as pool:
        calls = pool.map(lambda row: call(*row), wanted["calls"])
        ports = pool.map(lambda row: connect(*row), wanted["ports"])
        json.dump({"calls": list(calls), "ports": list(ports)}, sys.stdout)


if __name__ == "__main__":
    main()
