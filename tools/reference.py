"""The pages of the reference, from the protos, the catalogue of errors and the services' metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor, MethodDescriptor
from openapi import Contract
from prometheus_client import Counter, Gauge, Histogram

from marketdata.errors import error_of
from marketdata.v1.error_reason_pb2 import ErrorReason
from mda.runtime import telemetry
from mda.runtime.errors import CATALOG

_ENUM = "marketdata.v1.ErrorReason"
_EXAMPLE = re.compile(r"\s*Example: (\{.*\})\s*$")
_VERBS = ("get", "put", "post", "delete", "patch")
_TYPES = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in vars(FieldDescriptor).items()
    if name.startswith("TYPE_")
}


def pages(contract: Contract) -> dict[str, str]:
    """Return the text of each page by its path: one for each proto file, and an index."""
    files = {page_of(file.name): file for file in contract.files}
    result = {path: "\n".join(_page(contract, file)) for path, file in files.items()}
    lines = ["# The API", "", "Made from the comments in `protos/`.", "", "| service | what it does |", "|---|---|"]
    for path, file in files.items():
        for service in file.services_by_name.values():
            link = f"{PurePosixPath(path).name}#{_anchor(service.full_name)}"
            lines.append(f"| [{service.name}]({link}) | {_cell(contract.comment(service.full_name))} |")
    lines += ["", "Messages that several services share:", ""]
    lines += [
        f"- [{file.name}]({PurePosixPath(path).name})"
        for path, file in files.items()
        if not file.services_by_name and (file.message_types_by_name or file.enum_types_by_name)
    ]
    result["reference/api/index.md"] = "\n".join(lines) + "\n"
    return result


def page_of(proto: str) -> str:
    """Return the path of the page of a proto file, such as `marketdata/v1/gap.proto`."""
    return f"reference/api/{PurePosixPath(proto).stem}.md"


def errors_page(contract: Contract) -> str:
    """Return the catalogue of errors."""
    lines = [
        "# Errors",
        "",
        "Every refusal has a gRPC status with a `google.rpc.ErrorInfo`, whose `reason` is one of these, and a",
        "message that says what to do. Over REST it is the body. In Python it is an exception of the class named.",
        "",
    ]
    for reason, code in CATALOG.items():
        name = ErrorReason.Name(reason)
        short = name.removeprefix("ERROR_REASON_")
        text, example = _error_text(contract.comment(f"{_ENUM}.{name}"), code)
        kind = type(error_of(code, "", short)).__name__
        lines += [f"## {short}", "", f"`{code.name}` · `marketdata.errors.{kind}`", "", text, ""]
        if example:
            facts = json.dumps(json.loads(example)["metadata"], ensure_ascii=False)
            lines += [f"Metadata, for example: `{facts}`", ""]
    return "\n".join(lines)


def metrics_page() -> str:
    """Return the metrics that services have of their own."""
    lines = [
        "# Metrics",
        "",
        "Each service has these at `/metrics`, in Prometheus' form, on the port that `MDA_METRICS_PORT` names; beside",
        "them are those of its process. `mda_client_*` names the first 500 clients that a process hears from, and",
        "calls the others `(others)`. Envoy's are at `/stats/prometheus` on its admin port, NATS' as NATS has them.",
        "",
        "| name | kind | labels | what it is |",
        "|---|---|---|---|",
    ]
    for collector in vars(telemetry).values():
        if isinstance(collector, Counter | Gauge | Histogram):
            metric = next(iter(collector.describe()))
            name = f"{metric.name}_total" if isinstance(collector, Counter) else metric.name
            labels = ", ".join(f"`{label}`" for label in collector._labelnames)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # nothing else says them
            lines.append(f"| `{name}` | {metric.type} | {labels} | {_cell(metric.documentation)} |")
    return "\n".join(lines) + "\n"


def _error_text(comment: str, code: grpc.StatusCode) -> tuple[str, str]:
    found = _EXAMPLE.search(comment)
    text = comment if found is None else comment[: found.start()]
    # The code stands above it already; what follows it is a sentence of its own.
    before, _, after = text.partition(code.name)
    after = after.lstrip(".: ")
    text = f"{before.strip()} {after[:1].upper()}{after[1:]}".strip()
    return text, "" if found is None else found[1]


def _page(contract: Contract, file: FileDescriptor) -> Iterator[str]:
    yield f"# {file.name}"
    yield ""
    for service in file.services_by_name.values():
        yield from _head("##", service.full_name, service.name)
        yield from (contract.comment(service.full_name), "")
        for method in service.methods:
            yield from _method(contract, method)
    for message in file.message_types_by_name.values():
        yield from _message(contract, message, "##")
    for enum in file.enum_types_by_name.values():
        yield from _enum(contract, enum, "##")


def _method(contract: Contract, method: MethodDescriptor) -> Iterator[str]:
    yield from _head("###", method.full_name, method.name)
    made: Any = method
    yield (
        f"{'stream of ' if made.client_streaming else ''}{_link(made.input_type)} → "
        f"{'stream of ' if made.server_streaming else ''}{_link(made.output_type)}"
    )
    yield ""
    access = contract.option(method, "marketdata.v1.access")
    if access.scope:
        yield from (f"Scope: `{access.scope}`", "")
    http = contract.option(method, "google.api.http")
    for verb in _VERBS:
        if path := getattr(http, verb):
            yield from (f"REST: `{verb.upper()} {path}`", "")
    yield from (contract.comment(method.full_name), "")


def _message(contract: Contract, message: Descriptor, level: str) -> Iterator[str]:
    if message.GetOptions().map_entry:
        return
    yield from _head(level, message.full_name, _short(message))
    yield from (contract.comment(message.full_name), "")
    if message.fields:
        yield from ("| field | type | |", "|---|---|---|")
        for field in message.fields:
            yield f"| `{field.name}` | {_type(field)} | {_cell(contract.comment(field.full_name))} |"
        yield ""
    for nested in message.nested_types:
        yield from _message(contract, nested, level)
    for enum in message.enum_types:
        yield from _enum(contract, enum, level)


def _enum(contract: Contract, enum: EnumDescriptor, level: str) -> Iterator[str]:
    yield from _head(level, enum.full_name, _short(enum))
    yield from (contract.comment(enum.full_name), "", "| value | number | |", "|---|---|---|")
    for value in enum.values:
        yield f"| `{value.name}` | {value.number} | {_cell(contract.comment(f'{enum.full_name}.{value.name}'))} |"
    yield ""


def _head(level: str, full_name: str, title: str) -> Iterator[str]:
    yield f"{level} {title} {{ #{_anchor(full_name)} }}"
    yield ""


def _anchor(full_name: str) -> str:
    return full_name.replace(".", "-").lower()


def _short(described: Any) -> str:
    return described.full_name.removeprefix(f"{described.file.package}.")


def _type(field: FieldDescriptor) -> str:
    described = field.message_type or field.enum_type
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return f"map of {_type(key)} to {_type(value)}"
    name = _link(described) if described is not None else _TYPES[field.type]
    several = "repeated " if field.is_repeated else "optional " if _may_be_absent(field) else ""
    return f"{several}{name}"


def _may_be_absent(field: FieldDescriptor) -> bool:
    return field.has_presence and field.message_type is None and field.containing_oneof is not None


def _link(described: Any) -> str:
    if not described.full_name.startswith("marketdata."):
        return f"`{described.full_name}`"
    return f"[{_short(described)}]({PurePosixPath(page_of(described.file.name)).name}#{_anchor(described.full_name)})"


def _cell(text: str) -> str:
    return text.replace("\n\n", "<br>").replace("|", "\\|")
