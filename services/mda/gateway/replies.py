"""What the gateway itself answers: the rows of `listeners/replies.yaml` as Envoy's mappers."""

from __future__ import annotations

from typing import Any, Final

from mda.gateway.parts import load

_JSON: Final = "application/json"
# A caller by REST: no gRPC content type, or one that only the transcoder put there.
_REST: Final[dict[str, Any]] = {
    "or_filter": {
        "filters": [
            {
                "header_filter": {
                    "header": {
                        "name": "content-type",
                        "string_match": {"prefix": "application/grpc"},
                        "invert_match": True,
                        "treat_missing_header_as_empty": True,
                    }
                }
            },
            {"header_filter": {"header": {"name": "x-envoy-original-method", "present_match": True}}},
        ]
    }
}


def replies() -> list[dict[str, Any]]:
    """Return the mappers: for each row one for REST callers, then one for the others."""
    return [mapper for row in load("listeners/replies") for mapper in _mappers(row)]


def _mappers(row: dict[str, Any]) -> list[dict[str, Any]]:
    when = [_status(row["status"])]
    if "jwt" in row:
        when.append(_refused(row["jwt"]))
    if "strict" in row:
        when.append(_noted("mda.strict", "field"))
    answer = {"status_code": row["answer"]} if "answer" in row else {}
    body = {"json_format": _rpc_status(row), "content_type": _JSON}
    text = {"text_format_source": {"inline_string": row["message"]}}
    return [
        {"filter": _all([*when, _REST]), **answer, "body_format_override": body},
        {"filter": _all(when), **answer, "body_format_override": text},
    ]


def _status(status: int) -> dict[str, Any]:
    # The key is for overriding the number at run time, which nobody does, but Envoy wants one.
    value = {"default_value": status, "runtime_key": f"mda.reply.{status}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _refused(problem: str) -> dict[str, Any]:
    """Return what is true where the JWT filter refused: for this reason, or for any."""
    return _noted("envoy.filters.http.jwt_authn", "fail", "message", value=problem)


def _noted(name: str, *path: str, value: str = "") -> dict[str, Any]:
    """Return what is true where a filter has noted a value in the metadata, or any."""
    matcher = {
        "filter": name,
        "path": [{"key": key} for key in path],
        "value": {"string_match": {"exact": value}} if value else {"present_match": True},
    }
    return {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": False}}


def _all(filters: list[dict[str, Any]]) -> dict[str, Any]:
    return filters[0] if len(filters) == 1 else {"and_filter": {"filters": filters}}


def _rpc_status(row: dict[str, Any]) -> dict[str, Any]:
    status: dict[str, Any] = {"code": row["code"], "message": row["message"]}
    if "reason" in row:
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": row["reason"],
            "domain": "marketdata",
            "metadata": row["metadata"],
        }
        status["details"] = [info]
    return status
