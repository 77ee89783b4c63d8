"""A caller by gRPC-Web, as a browser would be (grpc/grpc `PROTOCOL-WEB.md`)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import grpc
import httpx

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_TRAILERS = 0x80


@dataclass(frozen=True)
class Answer:
    """What came back."""

    messages: list[bytes]
    code: grpc.StatusCode
    text: str


def call(url: str, method: str, request: bytes, headers: Mapping[str, str]) -> Answer:
    """Call a method, such as `/package.Service/Method`, and read all that it answers."""
    kind = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    answer = httpx.post(url + method, content=frame(request), headers={**headers, **kind}, timeout=10)
    # What the gateway refuses by itself has an HTTP status, too, and its trailers among the headers.
    assert answer.status_code == 200 or "grpc-status" in answer.headers, answer.text
    assert answer.headers["content-type"] == "application/grpc-web+proto"
    messages: list[bytes] = []
    trailers = dict(answer.headers)
    for flags, data in frames(answer.content):
        if flags & _TRAILERS:
            lines = data.decode().split("\r\n")
            trailers |= dict(line.split(":", 1) for line in lines if line)
        else:
            messages.append(data)
    return Answer(messages, _CODES[int(trailers["grpc-status"])], trailers.get("grpc-message", ""))


def frame(message: bytes) -> bytes:
    """Return a message with its flags and length before it."""
    return struct.pack(">BI", 0, len(message)) + message


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the flags and bytes of each frame."""
    while data:
        flags, size = struct.unpack_from(">BI", data)
        yield flags, data[5 : 5 + size]
        data = data[5 + size :]
