"""The bare chain: client, grpc.aio, JetStream, grpc.aio, client, with an append and an fsync for each batch.

What a first prototype does: no checks, no numbers, no group commit, no gateway. The
services are processes of their own, as ours are.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import uvloop
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.js import api

from bench.stack import Running, free_port

STREAM: Final = "BARECHAIN"
PUBLISH: Final = "/bench.Chain/Publish"
SUBSCRIBE: Final = "/bench.Chain/Subscribe"


@asynccontextmanager
async def chain(running: Running) -> AsyncGenerator[tuple[grpc.aio.Channel, grpc.aio.Channel]]:
    """Run the two services on the stack's NATS; give a channel to each: to publish, to subscribe."""
    ports = {"publish": free_port(), "subscribe": free_port()}
    async with running.nats() as client:
        jetstream = client.jetstream()
        await jetstream.add_stream(api.StreamConfig(name=STREAM, subjects=["barechain"], storage=api.StorageType.FILE))
        processes = [await _service(running, role, port) for role, port in ports.items()]
        try:
            async with (
                grpc.aio.insecure_channel(f"127.0.0.1:{ports['publish']}") as publishing,
                grpc.aio.insecure_channel(f"127.0.0.1:{ports['subscribe']}") as subscribing,
            ):
                await asyncio.gather(publishing.channel_ready(), subscribing.channel_ready())
                yield publishing, subscribing
        finally:
            for process in processes:
                process.terminate()
                await process.wait()
            await jetstream.delete_stream(STREAM)


async def _service(running: Running, role: str, port: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.chain", role, str(port), f"nats://{running.target('nats')}"),
        stdin=asyncio.subprocess.PIPE,
    )
    if process.stdin is None:
        raise AssertionError("a pipe was asked for")
    process.stdin.write(f"{running.secrets['nats_token']}\n".encode())  # not on the command line
    return process


class _Chain:
    def __init__(self, nats: Nats) -> None:
        self._nats = nats
        self._jetstream = nats.jetstream()

    async def publish(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Append each message; answer once it is durable."""
        async for data in requests:
            await self._jetstream.publish("barechain", data)
            await context.write(b"")

    async def subscribe(self, _requests: AsyncIterator[bytes], context: Any) -> None:
        """Write what comes."""

        async def take(message: Msg) -> None:
            await context.write(message.data)

        await self._jetstream.subscribe("barechain", cb=take, ordered_consumer=True)
        await context.write(b"")
        await asyncio.Event().wait()


async def _serve(role: str, port: int, url: str, token: str) -> None:
    nats = Nats()
    await nats.connect(url, token=token)
    behaviour = getattr(_Chain(nats), role)
    server = grpc.aio.server()
    service, method = (PUBLISH if role == "publish" else SUBSCRIBE)[1:].split("/")
    handlers = {method: grpc.stream_stream_rpc_method_handler(behaviour)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.stdin.readline().strip()))
