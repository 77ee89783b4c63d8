"""A service with a method of each kind, whose behaviour a request's description picks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from marketdata.v1.instrument_pb2 import Instrument
from mda.market.errors import unknown_symbol
from mda.runtime.access import Rule
from mda.runtime.handlers import Endpoint, Refused
from mda.runtime.identity import TokenVerifier, current_principal
from mda.runtime.interceptors import CallInterceptor, check_request
from mda.runtime.lease import while_token_lives
from mda.runtime.usage.account import Usage

PATH: Final = "/mda.test.v1.Echo"
_MESSAGE: Final = ".marketdata.v1.Instrument"
KINDS: Final = {
    "OneOne": (False, False),
    "OneMany": (False, True),
    "ManyOne": (True, False),
    "ManyMany": (True, True),
}


def _service() -> Any:
    pool = descriptor_pool.Default()
    methods = [
        MethodDescriptorProto(
            name=name, input_type=_MESSAGE, output_type=_MESSAGE, client_streaming=reads, server_streaming=writes
        )
        for name, (reads, writes) in {**KINDS, "Ruleless": (False, False)}.items()
    ]
    file = FileDescriptorProto(
        name="mda/test/v1/echo.proto",
        package="mda.test.v1",
        syntax="proto3",
        dependency=["marketdata/v1/instrument.proto"],
        service=[ServiceDescriptorProto(name="Echo", method=methods)],
    )
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName("mda.test.v1.Echo")


SERVICE: Final = _service()
PUBLIC: Final = {f"{PATH}/{name}": Rule(public=True) for name in KINDS}
SCOPED: Final = {f"{PATH}/{name}": Rule("quotes:read", dataset=()) for name in KINDS}


class Echo:
    """Does as it is told."""

    def __init__(self) -> None:
        self.hanging = 0

    async def OneOne(self, request: Instrument, context: Any) -> Instrument:
        await self._act(request, context)
        return request

    async def OneMany(self, request: Instrument, context: Any) -> None:
        await context.write(Instrument(symbol="first"))
        await self._act(request, context)
        await context.write(request)

    async def ManyOne(self, requests: AsyncIterator[Any], context: Any) -> Instrument:
        last = Instrument()
        async for request in requests:
            check_request(request)
            await self._act(request, context)
            last = request
        return last

    async def ManyMany(self, requests: AsyncIterator[Any], context: Any) -> None:
        async for request in requests:
            check_request(request)
            await self._act(request, context)
            await context.write(request)

    Ruleless = OneOne

    async def _act(self, request: Instrument, context: Any) -> None:
        match request.description:
            case "refuse":
                raise unknown_symbol("SIM", request.symbol, "symbols[0]")
            case "defect":
                raise ZeroDivisionError("secret of the house")
            case "who":
                request.description = current_principal().client
            case "token":
                async with while_token_lives():
                    await asyncio.Event().wait()
            case "hang":
                self.hanging += 1
                try:
                    await asyncio.Event().wait()
                finally:
                    self.hanging -= 1
            case "stubborn":
                self.hanging += 1
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
                await context.write(request)
            case "flood":
                while True:
                    await context.write(Instrument(description="x" * 250))
                    await asyncio.sleep(0)
            case _:
                pass


class Caller:
    """Calls the service over a real channel."""

    def __init__(self, channel: grpc.aio.Channel, echo: Echo) -> None:
        self.channel = channel
        self.echo = echo

    def call(self, method: str, *requests: Instrument | bytes, metadata: Mapping[str, str] | None = None) -> Any:
        """Return the call of a method."""
        reads, writes = KINDS.get(method, (False, False))
        kind = f"{'stream' if reads else 'unary'}_{'stream' if writes else 'unary'}"
        stub = getattr(self.channel, kind)(
            f"{PATH}/{method}",
            request_serializer=lambda request: request if isinstance(request, bytes) else request.SerializeToString(),
            response_deserializer=Instrument.FromString,
        )
        pairs = tuple((metadata or {}).items())
        return stub(iter(requests) if reads else requests[0], metadata=pairs)

    async def answers(self, method: str, *requests: Instrument | bytes, **options: Any) -> list[Instrument]:
        """Return all that a call answers."""
        call = self.call(method, *requests, **options)
        if KINDS.get(method, (False, False))[1]:
            return [answer async for answer in call]
        return [await call]


@asynccontextmanager
async def serving(
    rules: Mapping[str, Rule],
    verifier: TokenVerifier | None = None,
    refused: Refused | None = None,
    usage: Usage | None = None,
) -> AsyncIterator[Caller]:
    """Run the service in this process, on a free port, with health beside it."""
    echo = Echo()
    server = grpc.aio.server(
        interceptors=[CallInterceptor(rules, verifier, {SERVICE.full_name: refused} if refused else {}, usage)]
    )
    server.add_generic_rpc_handlers((Endpoint(SERVICE, echo).handler(),))
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Caller(channel, echo)
    finally:
        await server.stop(None)
