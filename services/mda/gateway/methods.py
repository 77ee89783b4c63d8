"""The services' methods, as their protos describe them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from google.api import annotations_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc import error_details_pb2

from marketdata.archive.v1 import archive_service_pb2
from marketdata.auth.v1 import auth_service_pb2, client_service_pb2
from marketdata.ingestion.v1 import ingestion_service_pb2
from marketdata.query.v1 import query_service_pb2
from marketdata.v1 import access_pb2

# Stubs type extensions as no more than descriptors.
_ACCESS: Final[Any] = access_pb2.access
_HTTP: Final[Any] = annotations_pb2.http

# Every file with services, and the cluster that serves them.
FILES: Final[dict[FileDescriptor, str]] = {
    archive_service_pb2.DESCRIPTOR: "archive",
    auth_service_pb2.DESCRIPTOR: "auth",
    client_service_pb2.DESCRIPTOR: "auth",
    ingestion_service_pb2.DESCRIPTOR: "ingestion",
    query_service_pb2.DESCRIPTOR: "query",
}


@dataclass(frozen=True)
class Method:
    """A method, and what the gateway has to know of it.

    Parameters
    ----------
    service, name
        The service's full name, and the method's.
    cluster
        Where it is served.
    streaming
        Whether either side streams.
    idempotent
        Whether it is HTTP GET, and so may be tried again.
    scope
        The scope that opens it; empty where none does.
    public
        Whether it is open to callers without a token.
    past
        Whether it reads the past, and may take long.
    any_client
        Whether any token opens it.
    """

    service: str
    name: str
    cluster: str
    streaming: bool
    idempotent: bool
    scope: str
    public: bool
    past: bool = False
    any_client: bool = False

    @property
    def path(self) -> str:
        """The path of its gRPC calls."""
        return f"/{self.service}/{self.name}"


def methods() -> list[Method]:
    """Return every method of every service, in the order of the protos."""
    return [
        _method(cluster, method)
        for file, cluster in FILES.items()
        for service in file.services_by_name.values()
        for method in service.methods
    ]


def services() -> list[str]:
    """Return the full names of the services."""
    return [service.full_name for file in FILES for service in file.services_by_name.values()]


def _method(cluster: str, method: MethodDescriptor) -> Method:
    options = method.GetOptions()
    access = options.Extensions[_ACCESS]
    return Method(
        service=method.containing_service.full_name,
        name=method.name,
        cluster=cluster,
        streaming=method.client_streaming or method.server_streaming,
        idempotent=bool(options.Extensions[_HTTP].get),
        scope=access.scope,
        public=access.public,
        past=access.past,
        any_client=access.any_client,
    )


def descriptor_set() -> FileDescriptorSet:
    """Return the descriptors of the services and all that they import, imports first.

    The details of errors are among them, because the transcoder writes those by name.
    """
    found: dict[str, FileDescriptorProto] = {}
    for file in (*FILES, error_details_pb2.DESCRIPTOR):
        _collect(file, found)
    return FileDescriptorSet(file=found.values())


def _collect(file: FileDescriptor, found: dict[str, FileDescriptorProto]) -> None:
    if file.name in found:
        return
    for dependency in file.dependencies:
        _collect(dependency, found)
    found[file.name] = FileDescriptorProto.FromString(file.serialized_pb)
