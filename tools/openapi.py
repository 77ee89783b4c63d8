"""Make the OpenAPI document of the REST interface, `gateway/openapi.json`, from the protos.

All of it comes from the contract: paths and bodies from `google.api.http`, scopes from
`marketdata.v1.access`, limits from `buf.validate`, texts from the comments. Where OAuth's
endpoints take forms, which protos cannot describe, the RFCs are followed (`FORMS`).
Run by `make generate`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

Json = dict[str, Any]

_OURS: Final = "marketdata."
_HTTP_BODY: Final = "google.api.HttpBody"
_INTEGERS: Final = {
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_SINT32: "int32",
}
_LONG: Final = {
    FieldDescriptor.TYPE_INT64: ("int64", r"^-?[0-9]{1,19}$"),
    FieldDescriptor.TYPE_UINT64: ("uint64", r"^[0-9]{1,20}$"),
}
_WELL_KNOWN: Final[dict[str, Json]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {
        "type": "string",
        "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
        "examples": ["60s", "0.25s"],
    },
    "google.protobuf.FieldMask": {"type": "string", "description": "Names of fields, separated by commas."},
    "google.rpc.Status": {"$ref": "#/components/schemas/Error"},
}
_ERROR: Final[Json] = {
    "type": "object",
    "description": "Why a call was refused: `google.rpc.Status`.",
    "required": ["code", "message"],
    "properties": {
        "code": {"type": "integer", "format": "int32", "description": "The gRPC status code."},
        "message": {"type": "string", "description": "What is wrong, and what to do about it."},
        "details": {
            "type": "array",
            "description": "Among others `google.rpc.ErrorInfo`, whose `reason` is one of `ErrorReason`.",
            "items": {"type": "object", "required": ["@type"], "properties": {"@type": {"type": "string"}}},
        },
    },
}
_OAUTH_ERROR: Final[Json] = {
    "type": "object",
    "description": "RFC 6749, section 5.2.",
    "required": ["error"],
    "properties": {"error": {"type": "string"}, "error_description": {"type": "string"}},
}
_TOKEN: Final[Json] = {"token": {"type": "string"}, "token_type_hint": {"type": "string"}}
_CLIENT: Final[Json] = {"client_id": {"type": "string"}, "client_secret": {"type": "string", "format": "password"}}
FORMS: Final[dict[str, Json]] = {
    "/oauth2/token": {
        "required": ["grant_type"],
        "properties": {"grant_type": {"const": "client_credentials"}, "scope": {"type": "string"}, **_CLIENT},
    },
    "/oauth2/introspect": {"required": ["token"], "properties": _TOKEN | _CLIENT},
    "/oauth2/revoke": {"required": ["token"], "properties": _TOKEN | _CLIENT},
}
"""The forms of OAuth's endpoints (RFC 6749, 7662, 7009); a client may also show its key as HTTP Basic."""


class Contract:
    """The protos, with their options and comments.

    Parameters
    ----------
    files
        All of them, with their source's information.
    """

    def __init__(self, files: FileDescriptorSet) -> None:
        self._pool = DescriptorPool()
        for file in files.file:
            self._pool.Add(file)
        self._comments: dict[str, str] = {}
        for file in files.file:
            if file.name.startswith("marketdata/"):
                self._read_comments(self._pool.FindFileByName(file.name), file)
        self.files: list[FileDescriptor] = [
            self._pool.FindFileByName(file.name) for file in files.file if file.name.startswith("marketdata/")
        ]

    def option(self, descriptor: Any, name: str) -> Any:
        """Return an option of a method or a field; its default where it is not set."""
        made: Message = descriptor.GetOptions()
        kind = GetMessageClass(self._pool.FindMessageTypeByName(made.DESCRIPTOR.full_name))
        extension: Any = self._pool.FindExtensionByName(name)
        return kind.FromString(made.SerializeToString()).Extensions[extension]

    def comment(self, name: str) -> str:
        """Return what stands above something, by its full name, in one paragraph a paragraph."""
        return self._comments.get(name, "")

    def _read_comments(self, file: FileDescriptor, source: Any) -> None:
        names = dict(_named(file))
        for location in source.source_code_info.location:
            name = names.get(tuple(location.path))
            if name is not None and location.leading_comments:
                self._comments[name] = _prose(location.leading_comments)


def _prose(comment: str) -> str:
    lines = [line for line in comment.strip().splitlines() if not line.strip().startswith("buf:lint:")]
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines))
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _named(file: FileDescriptor) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield the path in a file's source information, and the full name, of all that has a comment."""
    for number, message in enumerate(file.message_types_by_name.values()):
        yield from _named_of_message((4, number), message)
    for number, enum in enumerate(file.enum_types_by_name.values()):
        yield from _named_of_enum((5, number), enum)
    for number, service in enumerate(file.services_by_name.values()):
        yield (6, number), service.full_name
        for place, method in enumerate(service.methods):
            yield (6, number, 2, place), method.full_name


def _named_of_message(path: tuple[int, ...], message: Descriptor) -> Iterator[tuple[tuple[int, ...], str]]:
    yield path, message.full_name
    for number, field in enumerate(message.fields):
        yield (*path, 2, number), field.full_name
    for number, nested in enumerate(message.nested_types):
        yield from _named_of_message((*path, 3, number), nested)
    for number, enum in enumerate(message.enum_types):
        yield from _named_of_enum((*path, 4, number), enum)


def _named_of_enum(path: tuple[int, ...], enum: EnumDescriptor) -> Iterator[tuple[tuple[int, ...], str]]:
    yield path, enum.full_name
    for number, value in enumerate(enum.values):
        yield (*path, 2, number), f"{enum.full_name}.{value.name}"


class Document:
    """An OpenAPI document in the making."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._schemas: dict[str, Json] = {}
        self._paths: dict[str, Json] = {}
        self._tags: list[Json] = []
        self._scopes: set[str] = set()

    def make(self) -> Json:
        """Return the document of all services."""
        for file in self._contract.files:
            for service in file.services_by_name.values():
                found = [self._add(method) for method in service.methods]
                if any(found):
                    self._tags.append({"name": service.name, "description": self._contract.comment(service.full_name)})
        flow = {"tokenUrl": "/oauth2/token", "scopes": dict.fromkeys(sorted(self._scopes), "")}
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Market Data Agent",
                "version": "v1",
                "description": "The same services as over gRPC. Numbers of 64 bits and decimals are strings.",
            },
            "servers": [{"url": "/"}],
            "tags": self._tags,
            "paths": dict(sorted(self._paths.items())),
            "components": {
                "schemas": dict(sorted({**self._schemas, "Error": _ERROR, "OAuthError": _OAUTH_ERROR}.items())),
                "responses": {"Error": _content("It is refused.", {"$ref": "#/components/schemas/Error"})},
                "securitySchemes": {"oauth2": {"type": "oauth2", "flows": {"clientCredentials": flow}}},
            },
        }

    def _add(self, method: MethodDescriptor) -> bool:
        """Add a method; return whether it is there over REST."""
        rule = self._contract.option(method, "google.api.http")
        verb = rule.WhichOneof("pattern")
        if verb is None:
            return False
        template: str = getattr(rule, verb)
        self._paths.setdefault(template, {})[verb] = self._operation(method, template, has_body=rule.body == "*")
        return True

    def _operation(self, method: MethodDescriptor, template: str, *, has_body: bool) -> Json:
        access = self._contract.option(method, "marketdata.v1.access")
        text = self._contract.comment(method.full_name)
        in_path = re.findall(r"\{(\w+)\}", template)
        operation: Json = {
            "operationId": f"{method.containing_service.name}_{method.name}",
            "tags": [method.containing_service.name],
            "summary": re.split(r"(?<=[.:])\s", text, maxsplit=1)[0].rstrip(".:"),
            "description": text,
            "security": [] if access.public else [{"oauth2": [access.scope] if access.scope else []}],
        }
        if access.scope:
            self._scopes.add(access.scope)
        parameters = list(self._parameters(method.input_type, in_path, has_body=has_body))
        if parameters:
            operation["parameters"] = parameters
        if has_body:
            operation["requestBody"] = self._body(method, template, in_path)
        return operation | {"responses": self._responses(method, template)}

    def _parameters(self, message: Descriptor, in_path: list[str], *, has_body: bool) -> Iterator[Json]:
        for field in message.fields:
            if field.name in in_path:
                yield self._parameter(field, field.name, "path")
            elif not has_body:
                yield from self._query(field, "")

    def _query(self, field: FieldDescriptor, before: str) -> Iterator[Json]:
        name = f"{before}{field.name}"
        message = field.message_type
        if message is None or message.full_name in _WELL_KNOWN:
            yield self._parameter(field, name, "query")
            return
        for inner in message.fields:
            yield from self._query(inner, f"{name}.")

    def _parameter(self, field: FieldDescriptor, name: str, place: str) -> Json:
        parameter: Json = {"name": name, "in": place, "schema": self._field(field)}
        if place == "path" or self._rules(field).required:
            parameter["required"] = True
        text = self._contract.comment(field.full_name)
        return parameter | ({"description": text} if text else {})

    def _body(self, method: MethodDescriptor, template: str, in_path: list[str]) -> Json:
        if method.input_type.full_name == _HTTP_BODY:
            form = {"type": "object", **FORMS[template]}
            return {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": form}}}
        schema = self._object(method.input_type, without=in_path)
        return {"required": True, "content": {"application/json": {"schema": schema}}}

    def _responses(self, method: MethodDescriptor, template: str) -> Json:
        if method.output_type.full_name == _HTTP_BODY:
            # What the gateway refuses by itself has the form of other errors.
            names = ["OAuthError", "Error"] if template in FORMS else ["Error"]
            refusal = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in names]}
            document = _content("A JSON document.", {"type": "object"})
            return {"200": document, "default": _content("It is refused.", refusal)}
        schema = self._message(method.output_type)
        good = _content(self._contract.comment(method.output_type.full_name), schema)
        if method.server_streaming:
            good["description"] += " A stream: a JSON object a line, or server-sent events."
            good["content"]["text/event-stream"] = {"schema": {"type": "string"}}
        return {"200": good, "default": {"$ref": "#/components/responses/Error"}}

    def _message(self, message: Descriptor) -> Json:
        name = message.full_name
        if name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[name])
        short = name.removeprefix(_OURS)
        if short not in self._schemas:
            self._schemas[short] = {}  # it may be in itself
            self._schemas[short] = self._object(message)
        return {"$ref": f"#/components/schemas/{short}"}

    def _object(self, message: Descriptor, without: list[str] | tuple[()] = ()) -> Json:
        fields = [field for field in message.fields if field.name not in without]
        schema: Json = {
            "type": "object",
            "description": self._contract.comment(message.full_name),
            "properties": {field.name: self._described(field) for field in fields},
            "additionalProperties": False,
        }
        required = [field.name for field in fields if self._rules(field).required]
        return schema | ({"required": required} if required else {})

    def _described(self, field: FieldDescriptor) -> Json:
        text = self._contract.comment(field.full_name)
        schema = self._field(field)
        return schema | ({"description": text} if text else {})

    def _field(self, field: FieldDescriptor) -> Json:
        rules = self._rules(field)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._one(field.message_type.fields[1], None)}
        if not field.is_repeated:
            return self._one(field, rules)
        repeated = rules.repeated
        limits = {
            "minItems": repeated.min_items or None,
            "maxItems": repeated.max_items if repeated.HasField("max_items") else None,
            "uniqueItems": repeated.unique or None,
        }
        return {"type": "array", "items": self._one(field, repeated.items)} | _set(limits)

    def _one(self, field: FieldDescriptor, rules: Any) -> Json:
        if field.message_type is not None:
            return self._message(field.message_type)
        if field.enum_type is not None:
            return self._enum(field.enum_type, rules)
        if field.type in _INTEGERS:
            return {"type": "integer", "format": _INTEGERS[field.type]} | _bounds(rules)
        if field.type in _LONG:
            form, pattern = _LONG[field.type]
            return {"type": "string", "format": form, "pattern": pattern}
        match field.type:
            case FieldDescriptor.TYPE_BOOL:
                return {"type": "boolean"}
            case FieldDescriptor.TYPE_DOUBLE:
                return {"type": "number", "format": "double"}
            case FieldDescriptor.TYPE_BYTES:
                return {"type": "string", "contentEncoding": "base64"}
            case _:
                return {"type": "string"} | _string_limits(rules)

    def _enum(self, enum: EnumDescriptor, rules: Any) -> Json:
        excluded = set(rules.enum.not_in) if rules is not None else set[int]()
        values = [value for value in enum.values if value.number not in excluded]
        texts = ((value.name, self._contract.comment(f"{enum.full_name}.{value.name}")) for value in values)
        described = "\n".join(f"- `{name}`: {text}" for name, text in texts)
        return {"type": "string", "enum": [value.name for value in values], "description": described}

    def _rules(self, field: FieldDescriptor) -> Any:
        return self._contract.option(field, "buf.validate.field")


def _content(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _set(values: Json) -> Json:
    return {name: value for name, value in values.items() if value is not None}


def _string_limits(rules: Any) -> Json:
    if rules is None:
        return {}
    limits = rules.string
    return _set(
        {
            "pattern": limits.pattern or None,
            "minLength": limits.min_len or None,
            "maxLength": limits.max_len if limits.HasField("max_len") else None,
        }
    )


def _bounds(rules: Any) -> Json:
    if rules is None or not rules.HasField("int32"):
        return {}
    limits = rules.int32
    return _set(
        {
            "minimum": limits.gte if limits.HasField("gte") else None,
            "maximum": limits.lte if limits.HasField("lte") else None,
        }
    )


def openapi(files: FileDescriptorSet) -> str:
    """Return the document as JSON text."""
    return json.dumps(Document(Contract(files)).make(), indent=1, ensure_ascii=False) + "\n"
