"""Which method goes where, how long it may take, and who may call it."""

from __future__ import annotations

from typing import Any, Final

from mda.gateway.methods import Method, methods
from mda.gateway.parts import load
from mda.gateway.settings import GatewaySettings

HISTORY: Final = "history"
"""The cluster of methods of the past, where they have one."""

_HEALTH: Final = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", "/grpc.health.v1.Health/List")
_REFLECTION: Final = (
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
_BODY_LIMIT: Final = 1024 * 1024
_FORM_LIMIT: Final = 16 * 1024  # the form of OAuth's endpoints
_OAUTH: Final = "/oauth2/"


def route_table(settings: GatewaySettings, sse_transcoder: dict[str, Any]) -> dict[str, Any]:
    """Return the table of routes.

    Parameters
    ----------
    settings
        The gateway's settings.
    sse_transcoder
        The transcoder's configuration for callers that ask for server-sent events.
    """
    grpc = [_route(method, settings) for method in [*methods(), *_common_methods(settings)]]
    origins = [{"exact": origin} for origin in settings.cors_origins]
    openapi = load("routes/openapi", file=str(settings.openapi))
    return load("routes/table", origins=origins, routes=[openapi, *_rest_first(sse_transcoder), *grpc, _rest_last()])


def policies(settings: GatewaySettings) -> dict[str, Any]:
    """Return the scope table: by scope, the paths that it opens, and those open to all."""
    table: dict[str, list[str]] = {}
    for method in [*methods(), *_common_methods(settings)]:
        if method.public:
            table.setdefault("public", []).append(method.path)
        elif method.any_client:
            table.setdefault("any client", []).append(method.path)
        elif method.scope:
            table.setdefault(f"scope {method.scope}", []).append(method.path)
    return {name: _policy(name, paths) for name, paths in sorted(table.items())}


def _common_methods(settings: GatewaySettings) -> list[Method]:
    """Return what every service serves; the query service answers for all."""
    paths = [*_HEALTH, *(_REFLECTION if settings.reflection else ())]
    split = [path[1:].split("/") for path in paths]
    return [
        Method(service, name, "query", streaming=True, idempotent=False, scope="", public=True)
        for service, name in split
    ]


def _route(method: Method, settings: GatewaySettings) -> dict[str, Any]:
    kind = "stream" if method.streaming else "read" if method.idempotent else "write"
    route: dict[str, Any] = load(
        f"routes/{kind}",
        name=method.path[1:],
        path=method.path,
        cluster=HISTORY if method.past and settings.history is not None else method.cluster,
        # For the message of a refusal.
        metadata={"filter_metadata": {"mda": {"scope": method.scope or "none opens it"}}},
    )
    return route | load("routes/public") if method.public else route


def _rest_first(sse_transcoder: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the routes that give the filters up to the transcoder other settings."""
    events = {"prefix": "/v1/", "headers": [{"name": "accept", "string_match": {"contains": "text/event-stream"}}]}
    sse = _rest("rest server-sent events", events, _BODY_LIMIT)
    sse["typed_per_filter_config"]["envoy.filters.http.grpc_json_transcoder"] = sse_transcoder
    sse["typed_per_filter_config"] |= load("routes/events")
    oauth = _rest("rest oauth", {"prefix": _OAUTH}, _FORM_LIMIT)
    oauth["typed_per_filter_config"] |= load("routes/token")
    return [oauth, sse]


def _rest_last() -> dict[str, Any]:
    return _rest("rest or unknown", {"prefix": "/"}, _BODY_LIMIT)


def _rest(name: str, match: dict[str, Any], limit: int) -> dict[str, Any]:
    return load("routes/rest", name=name, match=match, max_request_bytes=limit)


def _policy(name: str, paths: list[str]) -> dict[str, Any]:
    permissions = [{"url_path": {"path": {"exact": path}}} for path in paths]
    if name == "public":
        return {"permissions": permissions, "principals": [{"any": True}]}
    # A token that names no client would be counted by no rate limit.
    client = {"header": {"name": "x-mda-client", "present_match": True}}
    if name == "any client":
        return {"permissions": permissions, "principals": [client]}
    scope = name.removeprefix("scope ")
    matcher = {
        "filter": "envoy.filters.http.jwt_authn",
        "path": [{"key": "payload"}, {"key": "scope"}],
        "value": {"list_match": {"one_of": {"string_match": {"exact": scope}}}},
    }
    holder = {"and_ids": {"ids": [{"sourced_metadata": {"metadata_matcher": matcher}}, client]}}
    return {"permissions": permissions, "principals": [holder]}
