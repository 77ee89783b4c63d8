"""What fields REST bodies may have: the protos' messages, as tables for the Lua filter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from mda.gateway.methods import FILES
from mda.gateway.parts import text

_HTTP: Final[Any] = annotations_pb2.http  # the stub does not tell of what it is an extension
_OURS: Final = "marketdata."


def strict_fields_code() -> str:
    """Return the filter's code, with the tables that it needs before it."""
    bodies = dict(_bodies())
    messages: dict[str, Descriptor] = {}
    for message in bodies.values():
        _collect(message, messages)
    requests = [f"{{{_quoted(pattern)}, {_quoted(message.full_name)}}}" for pattern, message in bodies.items()]
    fields = [f"[{_quoted(name)}] = {_table(_fields(message))}" for name, message in sorted(messages.items())]
    tables = ["local REQUESTS = {", *_lines(requests), "}", "local MESSAGES = {", *_lines(fields), "}", ""]
    return "\n".join(tables) + text("filters/47-strict-fields.lua")


def _lines(entries: Iterable[str]) -> Iterable[str]:
    return (f"  {entry}," for entry in entries)


def _bodies() -> Iterable[tuple[str, Descriptor]]:
    """Yield the path's pattern and the body's message of each method that has such a body."""
    for file in FILES:
        for service in file.services_by_name.values():
            for method in service.methods:
                rule = method.GetOptions().Extensions[_HTTP]
                if rule.body == "*" and method.input_type.full_name.startswith(_OURS):
                    yield _pattern(rule.post), method.input_type


def _pattern(template: str) -> str:
    """Return a path template (`/v1/datasets/{dataset}/quotes:publish`) as a Lua pattern."""
    parts = re.split(r"\{[^}]*\}", template)
    return "^" + "[^/]+".join(re.sub(r"[^A-Za-z0-9/_:]", r"%\g<0>", part) for part in parts) + "$"


def _collect(message: Descriptor, found: dict[str, Descriptor]) -> None:
    if message.full_name in found or not message.full_name.startswith(_OURS):
        return
    found[message.full_name] = message
    for field in message.fields:
        if field.message_type is not None:
            _collect(field.message_type, found)


def _fields(message: Descriptor) -> dict[str, str]:
    names: dict[str, str] = {}
    for field in message.fields:
        names |= dict.fromkeys((field.name, field.json_name), _kind(field))
    return names


def _kind(field: FieldDescriptor) -> str:
    name = field.message_type.full_name if field.message_type is not None else ""
    return name if name.startswith(_OURS) else ""


def _table(entries: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"[{_quoted(key)}] = {_quoted(value)}" for key, value in entries.items()) + "}"


def _quoted(value: str) -> str:
    # Names and patterns have neither quotes nor backslashes.
    return f'"{value}"'
