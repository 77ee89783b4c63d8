"""Puts the parts of the gateway's configuration together."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any, Final

from mda.gateway.methods import descriptor_set, services
from mda.gateway.parts import PartError, folder, load, names, text
from mda.gateway.replies import replies
from mda.gateway.routes import HISTORY, policies, route_table
from mda.gateway.sds import SDS_FILE, dump, write_file, write_sds
from mda.gateway.settings import OPENAPI, GatewaySettings, Rate, Upstream
from mda.gateway.strict import strict_fields_code

_AUTH_SERVICE: Final = "marketdata.auth.v1.AuthService"
_SECRET_PATHS: Final = f"/{_AUTH_SERVICE}/(Token|Introspect|Revoke)"
_JWKS_PATH: Final = f"/{_AUTH_SERVICE}/GetJwks"

# Names as in the protos, as every document shows them; empty lists and zeros are
# written, so that a caller need not tell "no rows" from "no such field". Fields with
# presence that are not set stay away: a quote without a bid has no `bid_price`.
_PRINT: Final[dict[str, bool]] = {"preserve_proto_field_names": True, "always_print_primitive_fields": True}


def render(settings: GatewaySettings) -> dict[str, Any]:
    """Return the gateway's configuration: an Envoy bootstrap.

    Parameters
    ----------
    settings
        What differs from one gateway to another.

    Returns
    -------
    dict
        The bootstrap, ready to be written as YAML or JSON.
    """
    return load(
        "bootstrap",
        admin_port=settings.admin_port,
        max_heap_bytes=settings.max_heap_bytes,
        listeners=_listeners(settings),
        clusters=_clusters(settings),
    )


def write(settings: GatewaySettings, directory: Path) -> Path:
    """Write all files that Envoy needs but certificate and key.

    Each is written whole and renamed into place. `descriptors.binpb` and `openapi.json`
    are written to `directory`, which is where `settings.descriptors` should lead when
    Envoy starts; with a TLS listener, `sds.yaml` is written to `settings.sds`.

    Parameters
    ----------
    settings
        What differs from one gateway to another.
    directory
        The directory to write to; made if it is not there.

    Returns
    -------
    Path
        The configuration, `directory / "envoy.yaml"`.
    """
    write_file(directory / "descriptors.binpb", descriptor_set().SerializeToString(deterministic=True))
    write_file(directory / OPENAPI, (folder() / OPENAPI).read_bytes())
    if settings.tls_port is not None and settings.sds is not None:
        certificates = settings.certificates or settings.sds
        write_sds(settings.sds, certificates / "tls.crt", certificates / "tls.key")
    return write_file(directory / "envoy.yaml", dump(render(settings)))


def _listeners(settings: GatewaySettings) -> list[dict[str, Any]]:
    shared = [_connection_manager(settings)]
    listeners: list[dict[str, Any]] = [load("listeners/plain", bind=settings.bind, port=settings.port, filters=shared)]
    if settings.tls_port is not None and settings.sds is not None:
        listeners.append(_tls_listener(settings.bind, settings.tls_port, settings.sds, shared))
    if settings.metrics_port is not None:
        listeners.append(load("listeners/metrics", bind=settings.bind, metrics_port=settings.metrics_port))
    listeners.append(
        load(
            "listeners/jwks",
            socket=str(settings.jwks_socket),
            descriptors=_file(settings),
            method=_JWKS_PATH,
            service=_AUTH_SERVICE,
        )
    )
    return listeners


def _tls_listener(bind: str, port: int, sds: Path, filters: list[dict[str, Any]]) -> dict[str, Any]:
    files = {"sds_file": str(sds / SDS_FILE), "sds_directory": str(sds)}
    return load("listeners/tls", bind=bind, tls_port=port, filters=filters, **files)


def _connection_manager(settings: GatewaySettings) -> dict[str, Any]:
    manager: dict[str, Any] = load(
        "listeners/connection-manager",
        replies=replies(),
        access_log=_access_log(settings.access_log),
        filters=_filters(settings),
        routes=route_table(settings, _transcoder(settings, stream_sse_style_delimited=True)),
    )
    if settings.otlp is not None:
        manager["typed_config"]["tracing"] = load("listeners/tracing")
    return manager


def _filters(settings: GatewaySettings) -> list[dict[str, Any]]:
    """Return the HTTP filters, in the order of their files' names."""
    values: dict[str, dict[str, Any]] = {
        "filters/11-readyz": {
            "ready_clusters": {name: {"value": 1} for name in _upstreams(settings)},
        },
        "filters/47-strict-fields": {"code": strict_fields_code()},
        "filters/48-event-ids": {"code": text("filters/48-event-ids.lua")},
        "filters/50-transcoder": {"transcoder": _transcoder(settings)},
        "filters/70-jwt": {"issuer": settings.issuer, "audiences": [settings.audience]},
        "filters/80-rbac": {"policies": policies(settings)},
        "filters/90-rate-limit": _rate_limits(settings),
    }
    parts = names("filters")
    if missing := values.keys() - set(parts):
        msg = f"no such part: {', '.join(sorted(missing))}"
        raise PartError(msg)
    return [load(part, **values.get(part, {})) for part in parts]


def _transcoder(settings: GatewaySettings, *, stream_sse_style_delimited: bool = False) -> dict[str, Any]:
    """Return the transcoder's configuration: streams as a JSON object a line, or as events."""
    options = {**_PRINT, "stream_newline_delimited": True}
    if stream_sse_style_delimited:
        options["stream_sse_style_delimited"] = True
    return load("transcoder", descriptors=_file(settings), services=services(), print_options=options)


def _file(settings: GatewaySettings) -> str:
    return str(settings.descriptors)


def _rate_limits(settings: GatewaySettings) -> dict[str, Any]:
    limits = settings.limits
    descriptors = [_bucket(rate, tier=name, client=None) for name, rate in limits.tiers().items()]
    descriptors.append(_bucket(limits.other, tier_other="yes", client=None))
    descriptors.append(_bucket(limits.token, endpoint="token", masked_remote_address=None))
    return {"tiers": "|".join(limits.tiers()), "secret_paths": _SECRET_PATHS, "descriptors": descriptors}


def _bucket(rate: Rate, **entries: str | None) -> dict[str, Any]:
    """Return a rate limit's descriptor; an entry without a value counts each value by itself."""
    return {
        "entries": [{"key": key} if value is None else {"key": key, "value": value} for key, value in entries.items()],
        "token_bucket": {"max_tokens": rate.burst, "tokens_per_fill": rate.per_second, "fill_interval": "1s"},
    }


def _access_log(path: Path | None) -> dict[str, Any]:
    line = load("listeners/access-log")
    if path is None:
        return load("listeners/access-log-stdout", format=line)
    return load("listeners/access-log-file", format=line, path=str(path))


def _upstreams(settings: GatewaySettings) -> dict[str, Upstream]:
    upstreams = {
        "archive": settings.archive,
        "auth": settings.auth,
        "ingestion": settings.ingestion,
        "query": settings.query,
    }
    return upstreams if settings.history is None else upstreams | {HISTORY: settings.history}


def _clusters(settings: GatewaySettings) -> list[dict[str, Any]]:
    clusters = [
        _cluster("service", upstream, name=name, authority=_authority(name, upstream))
        for name, upstream in _upstreams(settings).items()
    ]
    clusters.append(load("clusters/jwks", socket=str(settings.jwks_socket)))
    if settings.metrics_port is not None:
        clusters.append(load("clusters/admin", port=settings.admin_port))
    if settings.otlp is not None:
        clusters.append(_cluster("otlp", settings.otlp))
    return clusters


def _cluster(part: str, upstream: Upstream, **values: str) -> dict[str, Any]:
    cluster: dict[str, Any] = load(f"clusters/{part}", endpoints=_endpoints(upstream), **values)
    if upstream.others:
        cluster["common_lb_config"] |= load("clusters/by-weight")
    return cluster | load("clusters/by-address" if _is_address(upstream.host) else "clusters/by-name")


def _endpoints(upstream: Upstream) -> list[dict[str, Any]]:
    """Return the instances; those of several releases as places of their own, which Envoy can weigh."""
    if not upstream.others:
        return [{"lb_endpoints": _instances(upstream)}]
    return [
        load(
            "clusters/release",
            name=f"{release.host}:{release.port}",
            weight=release.weight,
            instances=[
                # Each release's instances are asked for their health by their own name.
                instance | {"endpoint": instance["endpoint"] | {"health_check_config": {"hostname": release.host}}}
                for instance in _instances(release)
            ],
        )
        for release in upstream.releases
    ]


def _instances(upstream: Upstream) -> list[dict[str, Any]]:
    ports = (upstream.port, *upstream.more_ports)
    return [load("clusters/endpoint", host=upstream.host, port=port) for port in ports]


def _authority(name: str, upstream: Upstream) -> str:
    """Return the host that health checks name: the instances' own name, by which a mesh goes."""
    return name if _is_address(upstream.host) else upstream.host


def _is_address(host: str) -> bool:
    """Tell an address, which is one instance, from a name, which may be many."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
