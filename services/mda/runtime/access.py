"""Who may call each method, on which dataset: read from the protos' `(marketdata.v1.access)` option."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from marketdata.v1 import access_pb2
from mda.runtime.handlers import Malformed

_ACCESS: Final[Any] = access_pb2.access  # the stub does not tell of what it is an extension
_DATASET: Final = "dataset"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call a method.

    Attributes
    ----------
    scope
        The scope that the token must hold; empty where the method is public, or open to each
        client.
    public
        Whether it is open to callers without a token.
    dataset
        The path of the request's field that names the dataset to which the token must be
        entitled; empty where the method is about none; None where it should name one and
        does not, so that nobody may call it.
    request
        The type of its requests; None where they name no dataset.
    any_client
        Whether it is open to each client, whatever its token's scopes.
    rows
        The field of the response, or else of the request, whose items are rows that count;
        empty where none does.
    """

    scope: str = ""
    public: bool = False
    dataset: tuple[str, ...] | None = None
    request: type[Message] | None = None
    any_client: bool = False
    rows: str = ""

    @property
    def field(self) -> str:
        """The path of the dataset's field, as errors tell it."""
        return ".".join(self.dataset or ())

    def dataset_of(self, request: object) -> str:
        """Return the dataset that a request names; empty if it names none."""
        value: Any = request
        for name in self.dataset or ():
            value = getattr(value, name)
        return str(value)

    def rows_of(self, request: object, response: object) -> int:
        """Return how many rows a unary call was about."""
        side = response if hasattr(response, self.rows) else request
        return len(getattr(side, self.rows))

    def parsed(self, request: object) -> object:
        """Return a request as a message where it came as bytes; a `Malformed` where it is none."""
        if self.request is None or not isinstance(request, bytes):
            return request
        try:
            return self.request.FromString(request)
        except DecodeError:
            return Malformed(self.request.DESCRIPTOR.full_name)


def access_rules(*files: FileDescriptor) -> Mapping[str, Rule]:
    """Return the rule of every method that has one, by path (`/package.Service/Method`)."""
    return {path: rule for file in files for path, rule in _rules(file)}


def _rules(file: FileDescriptor) -> Iterator[tuple[str, Rule]]:
    for service in file.services_by_name.values():
        for method in service.methods:
            if (rule := _rule(method)) is not None:
                yield f"/{service.full_name}/{method.name}", rule


def _rule(method: MethodDescriptor) -> Rule | None:
    options = method.GetOptions()
    if not options.HasExtension(_ACCESS):
        return None
    access = options.Extensions[_ACCESS]
    if access.public or access.no_dataset:
        return Rule(access.scope, access.public, (), any_client=access.any_client)
    request = GetMessageClass(method.input_type)
    return Rule(access.scope, dataset=_dataset_path(method), request=request, rows=access.rows)


def _dataset_path(method: MethodDescriptor) -> tuple[str, ...] | None:
    if _DATASET in method.input_type.fields_by_name:
        return (_DATASET,)
    if not method.client_streaming:
        return None
    # What opens a stream is one of several messages.
    openings = [field.name for field in method.input_type.fields if _names_dataset(field)]
    return (openings[0], _DATASET) if len(openings) == 1 else None


def _names_dataset(field: FieldDescriptor) -> bool:
    return field.message_type is not None and _DATASET in field.message_type.fields_by_name
