"""The access rule of every method, read from the protos' `(marketdata.v1.access)` option."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from google.protobuf.descriptor import FileDescriptor, MethodDescriptor

from marketdata.v1 import access_pb2
from marketdata.v1.access_pb2 import Access

_ACCESS: Final[Any] = access_pb2.access  # the stub does not tell of what it is an extension


def access_rules(*files: FileDescriptor) -> Mapping[str, Access]:
    """Return the rule of every method that has one, by path (`/package.Service/Method`)."""
    return {path: rule for file in files for path, rule in _rules(file)}


def _rules(file: FileDescriptor) -> Iterator[tuple[str, Access]]:
    for service in file.services_by_name.values():
        for method in service.methods:
            if (rule := _rule(method)) is not None:
                yield f"/{service.full_name}/{method.name}", rule


def _rule(method: MethodDescriptor) -> Access | None:
    options = method.GetOptions()
    return options.Extensions[_ACCESS] if options.HasExtension(_ACCESS) else None
