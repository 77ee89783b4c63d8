"""Too much of everything: the neighbour's calls go on, and memory stays bounded."""

from __future__ import annotations

import gzip
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import h2.config
import h2.connection
import httpx
import pytest

from marketdata.ingestion.v1.ingestion_service_pb2 import PublishQuotesRequest
from tests.abuse.conftest import LOG, NOTICED_S, Target, hear
from tests.abuse.neighbour import PATH

IDLE = 9_000
MOST = 10_000
"""Connections that the gateway takes in all."""
RESETS = 20_000
GIB = 1 << 30
Unharmed = Callable[..., Any]


def test_a_thousand_slow_requests(target: Target, unharmed: Unharmed) -> None:
    """Slow loris: each header line after a while, for ever."""
    with unharmed(), ExitStack() as stack:
        slow = [stack.enter_context(target.connect()) for _ in range(1_000)]
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
        began = time.monotonic()
        ended = 0
        while slow and time.monotonic() - began < 30:
            for connection in list(slow):
                try:
                    connection.sendall(b"X-A: 1\r\n")
                    connection.setblocking(False)
                    heard = connection.recv(4096)
                except BlockingIOError:
                    connection.settimeout(15)
                    continue
                except OSError:
                    heard = b""
                assert heard == b"" or heard.startswith(b"HTTP/1.1 408"), heard
                ended += 1
                slow.remove(connection)
            time.sleep(0.5)
        assert (ended, slow) == (1_000, [])


def test_bodies_that_do_not_come(target: Target, unharmed: Unharmed) -> None:
    head = (
        f"POST /v1/datasets/SIM/quotes:publish HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {target.token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    with unharmed(), ExitStack() as stack:
        waiting = [stack.enter_context(target.connect()) for _ in range(500)]
        for connection in waiting:
            connection.sendall(head.encode())
        deadline = time.monotonic() + 45
        for connection in waiting:
            heard = hear(connection, max(deadline - time.monotonic(), 0.1))
            assert heard.startswith(b"HTTP/1.1 408"), heard


def test_many_idle_connections(target: Target, unharmed: Unharmed, usual_p99_s: float) -> None:
    """Some thousands a second that come and go are felt for that moment; those that are there are not."""
    with unharmed(memory_mib=400) as neighbour, ExitStack() as stack:
        for _ in range(IDLE):
            stack.enter_context(target.connect())
        p99_s = neighbour.next_p99_s()
        LOG.info("p99 %.1f ms while they are there, %.2f x", 1e3 * p99_s, p99_s / usual_p99_s)
        assert p99_s < max(2 * usual_p99_s, NOTICED_S)
        assert httpx.get(target.stack.url + PATH, headers=target.headers()).status_code == 200


def test_more_connections_than_there_may_be(target: Target, unharmed: Unharmed) -> None:
    """Those over the limit are closed at once; those that were there go on."""
    with unharmed(memory_mib=400), ExitStack() as stack:
        for _ in range(MOST):
            stack.enter_context(target.connect())
        with target.connect() as one_more:
            assert hear(one_more) == b""


def test_streams_that_are_reset_at_once(target: Target, unharmed: Unharmed) -> None:
    """Rapid reset (CVE-2023-44487): the connection is ended, or all of them are dealt with."""
    with unharmed(), target.connect() as connection:
        talk = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        talk.initiate_connection()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/marketdata.query.v1.QueryService/GetLatestQuotes"),
            ("content-type", "application/grpc"),
            ("authorization", f"Bearer {target.token}"),
        ]
        try:
            for number in range(RESETS):
                stream = 2 * number + 1
                talk.send_headers(stream, headers)
                talk.reset_stream(stream, error_code=8)
                if number % 50 == 0:
                    connection.sendall(talk.data_to_send())
        except OSError:
            return  # it was ended, which is what should become of it
        connection.sendall(talk.data_to_send())


def test_a_flood_of_settings_and_pings(target: Target, unharmed: Unharmed) -> None:
    with unharmed(), target.connect() as connection:
        talk = h2.connection.H2Connection()
        talk.initiate_connection()
        connection.sendall(talk.data_to_send())
        settings = struct.pack(">I", 0)[1:] + b"\x04\x00" + bytes(4)
        ping = struct.pack(">I", 8)[1:] + b"\x06\x00" + bytes(4) + bytes(8)
        try:
            for _ in range(200):
                connection.sendall((settings + ping) * 500)  # and none of the answers is read
        except OSError:
            pass
        connection.settimeout(5)
        ended = b""
        try:
            while data := connection.recv(1 << 20):
                ended += data
        except OSError:
            pass
        assert len(ended) < 8 << 20


def test_headers_that_go_on_for_ever(target: Target, unharmed: Unharmed) -> None:
    """CONTINUATION flood (CVE-2024-27316 and its kin)."""
    with unharmed(), target.connect() as connection:
        talk = h2.connection.H2Connection()
        talk.initiate_connection()
        connection.sendall(talk.data_to_send())
        block = b"\x00\x01a\x7f\x81\x01" + b"b" * 256
        connection.sendall(_frame(1, 0, 1, block))
        sent = 0
        try:
            for sent in range(100_000):  # noqa: B007
                connection.sendall(_frame(9, 0, 1, block))
        except OSError:
            pass
        assert sent < 99_999, "25 MB of headers were taken"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def test_a_body_of_a_gibibyte(target: Target, unharmed: Unharmed) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(GIB >> 20):
            yield b" " * (1 << 20)

    with unharmed():
        try:
            answer = httpx.post(
                f"{target.stack.url}/v1/datasets/SIM/quotes:publish",
                content=chunks(),
                headers=target.headers() | {"content-type": "application/json"},
                timeout=30,
            )
            assert answer.status_code == 413
        except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
            pass  # the connection was closed while we were still sending


def test_a_message_of_a_gibibyte(target: Target, unharmed: Unharmed) -> None:
    """A gRPC message that says it is that long, and begins to come."""
    with unharmed(), target.connect() as connection:
        assert _publish(connection, target, struct.pack(">BI", 0, GIB - 1), b" " * (8 << 20)) == "8"


def test_a_bomb(target: Target, unharmed: Unharmed) -> None:
    """A GiB of zeros as a megabyte of gzip, as a gRPC message: refused, and never whole in memory."""
    bomb = gzip.compress(bytes(GIB), 9)
    assert len(bomb) < 2 << 20
    with unharmed(), target.connect() as connection:
        data = struct.pack(">BI", 1, len(bomb)) + bomb
        assert _publish(connection, target, data, b"", ("grpc-encoding", "gzip")) in {"8", "13"}


def test_a_body_that_is_a_bomb_by_rest(target: Target, unharmed: Unharmed) -> None:
    """Bodies are not unpacked here: what is not JSON is refused as such."""
    with unharmed():
        answer = httpx.post(
            f"{target.stack.url}/v1/datasets/SIM/quotes:publish",
            content=gzip.compress(bytes(64 << 20), 9),
            headers=target.headers() | {"content-type": "application/json", "content-encoding": "gzip"},
            timeout=30,
        )
        assert answer.status_code in {400, 415}


def _publish(connection: socket.socket, target: Target, *parts: bytes | tuple[str, str], seconds: float = 20) -> str:
    """Send the bytes of a gRPC request, as fast as they are taken; return the status that comes."""
    talk = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    talk.initiate_connection()
    talk.send_headers(
        1,
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/marketdata.ingestion.v1.IngestionService/PublishQuotes"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("authorization", f"Bearer {target.token}"),
            *(part for part in parts if isinstance(part, tuple)),
        ],
    )
    data = b"".join(part for part in parts if isinstance(part, bytes))
    connection.settimeout(seconds)
    while True:
        room = min(len(data), talk.local_flow_control_window(1), talk.max_outbound_frame_size)
        if room:
            talk.send_data(1, data[:room], end_stream=room == len(data))
            data = data[room:]
        connection.sendall(talk.data_to_send())
        if room and data:
            continue
        received = connection.recv(1 << 16)
        assert received, "closed without a status"
        for event in talk.receive_data(received):
            for name, value in getattr(event, "headers", None) or ():
                if name == "grpc-status":
                    return str(value)


def test_a_large_message_is_refused_as_such(target: Target) -> None:
    """The same limit, as a client of gRPC meets it."""
    request = PublishQuotesRequest(dataset="SIM", quotes=[{"symbol": "A" * (5 << 20)}])
    with grpc.insecure_channel(target.stack.target) as channel:
        call = channel.unary_unary(
            "/marketdata.ingestion.v1.IngestionService/PublishQuotes",
            request_serializer=PublishQuotesRequest.SerializeToString,
        )
        with pytest.raises(grpc.RpcError) as caught:
            call(request, metadata=tuple(target.headers().items()), timeout=10)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
