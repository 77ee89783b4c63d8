"""Requests checked against the rules in the protos (`buf.validate`)."""

from __future__ import annotations

from typing import Final

import protovalidate
from google.protobuf.message import Message

from mda.market.errors import MarketDataError, invalid_field

_VALIDATOR: Final = protovalidate.Validator()


def validate_request(request: Message) -> None:
    """Check a request.

    Raises
    ------
    MarketDataError
        INVALID_FIELD for the first rule that is broken, with the field's path.
    """
    violations = _VALIDATOR.collect_violations(request, fail_fast=True)
    if violations:
        raise _error(violations[0])


def _error(violation: protovalidate.Violation) -> MarketDataError:
    proto = violation.proto
    field = _path(proto)
    where = f"{field}: " if field else ""  # a rule may be about several fields
    return invalid_field(field, proto.rule_id, f"{where}{proto.message.removesuffix('.')}.")


def _path(proto: protovalidate.ViolationPb) -> str:
    if proto.field is None:
        return ""
    parts: list[str] = []
    for element in proto.field.elements:
        index = element.subscript.value if element.subscript is not None else None
        parts.append(element.field_name if index is None else f"{element.field_name}[{index}]")
    return ".".join(parts)
