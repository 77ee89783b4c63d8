"""gRPC method handlers made from a service's descriptor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from mda.market.errors import MarketDataError
from mda.runtime.identity import Principal

Refused = Callable[[str, Principal, MarketDataError], Awaitable[None]]
"""Is told of a call, by its path, that was refused to somebody, and why."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A service and the object that serves it.

    Attributes
    ----------
    service
        The service's descriptor.
    servicer
        Has a coroutine method for each of the service's methods. Those that stream
        out write with `context.write` instead of yielding.
    raw_requests, raw_responses
        Names of methods that take or give a message's bytes instead of a message, so
        that bytes which exist are not parsed or written again.
    refused
        Told of each call that is refused to the holder of a good token, if anybody is.
    """

    service: ServiceDescriptor
    servicer: object
    raw_requests: frozenset[str] = field(default_factory=frozenset)
    raw_responses: frozenset[str] = field(default_factory=frozenset)
    refused: Refused | None = None

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler of all the service's methods."""
        handlers = {method.name: self._method(method) for method in self.service.methods}
        return grpc.method_handlers_generic_handler(self.service.full_name, handlers)

    def _method(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
        behaviour = getattr(self.servicer, method.name)
        return _FACTORIES[method.client_streaming, method.server_streaming](
            behaviour,
            request_deserializer=None if method.name in self.raw_requests else _parser(method),
            response_serializer=None if method.name in self.raw_responses else _write,
        )


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands for a request whose bytes are not a message of the expected type.

    grpc answers INTERNAL when a deserializer raises; the interceptor answers
    INVALID_ARGUMENT when it meets this.
    """

    type_name: str


def _parser(method: MethodDescriptor) -> Callable[[bytes], Any]:
    message = GetMessageClass(method.input_type)
    malformed = Malformed(method.input_type.full_name)

    def parse(data: bytes) -> Any:
        try:
            return message.FromString(data)
        except DecodeError:
            return malformed

    return parse


def _write(message: Any) -> bytes:
    return message.SerializeToString()


_FACTORIES: dict[tuple[bool, bool], Callable[..., grpc.RpcMethodHandler[Any, Any]]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
