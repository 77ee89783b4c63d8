"""What the gateway's configuration depends on."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

OPENAPI: Final = "openapi.json"
"""The document that describes the REST interface, beside the descriptors."""

_LONGEST_SOCKET_PATH: Final = 107  # what Linux takes


@dataclass(frozen=True)
class Upstream:
    """Where a service listens.

    Parameters
    ----------
    host
        An address, or a name that may stand for several instances.
    port
        Its port.
    more_ports
        Ports of more instances on the same host.
    weight
        Its share of the calls, beside those of `others`.
    others
        The same service of other releases, each with a weight: calls are shared out among them.
    """

    host: str
    port: int
    more_ports: tuple[int, ...] = ()
    weight: int = 1
    others: tuple[Upstream, ...] = ()

    @property
    def releases(self) -> tuple[Upstream, ...]:
        """The service of each release that gets calls."""
        return (self, *self.others)


@dataclass(frozen=True)
class Rate:
    """How many calls are allowed.

    Parameters
    ----------
    burst
        How many at once.
    per_second
        How many a second, over time.
    """

    burst: int
    per_second: int

    def __post_init__(self) -> None:
        """Refuse what would refuse every call: Envoy itself does not."""
        if self.burst < 1 or self.per_second < 1:
            msg = f"a rate of less than one call refuses every call: {self}"
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """A guard before the services: calls per client, by the `tier` claim of its token.

    What a client may is the services' to say, all replicas together (`mda.runtime.usage`).
    Here it is twice what its tier says, at each gateway, so that a flood ends before it
    costs more than a look at a token.

    Parameters
    ----------
    free, pro, internal
        Each client of these tiers.
    other
        Each client whose token names another tier, or none.
    token
        OAuth's endpoints, where secrets could be guessed: each remote address.
    """

    free: Rate = Rate(burst=80, per_second=40)
    pro: Rate = Rate(burst=800, per_second=400)
    internal: Rate = Rate(burst=40_000, per_second=20_000)
    other: Rate = Rate(burst=5, per_second=1)
    token: Rate = Rate(burst=20, per_second=5)

    def tiers(self) -> dict[str, Rate]:
        """Return the rates of the tiers that have a name."""
        return {"free": self.free, "pro": self.pro, "internal": self.internal}


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """Everything that differs from one gateway to another. No secrets.

    Parameters
    ----------
    port
        The plain listener's port (HTTP/1.1, and HTTP/2 by prior knowledge).
    tls_port
        The TLS listener's port; None for no such listener. Needs `sds`.
    admin_port
        The port of Envoy's admin interface, on loopback.
    metrics_port
        The port of `/metrics`, for a Prometheus; None for no such listener.
    bind
        The address that these listeners bind.
    jwks_socket
        A unix socket that Envoy makes for itself, to fetch the signing keys.
    archive, auth, ingestion, query
        The services.
    history
        Instances of query for methods of the past alone; None where query itself serves them.
    descriptors
        Where the FileDescriptorSet of the services lies when Envoy starts, and `openapi.json`
        beside it.
    sds
        The directory of `sds.yaml`, which names the TLS certificate.
    certificates
        The directory of `tls.crt` and `tls.key`; None where they are beside `sds.yaml`.
    access_log
        The access log's file; None for standard output.
    issuer, audience
        What a token's `iss` and `aud` must be.
    cors_origins
        Origins of web pages that may call; `*` for all.
    otlp
        A collector that takes traces over gRPC; None for no tracing.
    limits
        The rate limits.
    reflection
        Whether callers may ask for the protos (gRPC server reflection).
    max_heap_bytes
        How much memory Envoy may take before it sheds load.
    """

    port: int
    tls_port: int | None = None
    admin_port: int
    metrics_port: int | None = None
    bind: str = "127.0.0.1"
    jwks_socket: Path
    archive: Upstream
    auth: Upstream
    ingestion: Upstream
    query: Upstream
    history: Upstream | None = None
    descriptors: Path
    sds: Path | None = None
    certificates: Path | None = None
    access_log: Path | None = None
    issuer: str
    audience: str
    cors_origins: tuple[str, ...] = ()
    otlp: Upstream | None = None
    limits: Limits = field(default_factory=Limits)
    reflection: bool = True
    max_heap_bytes: int = 2 << 30

    @property
    def openapi(self) -> Path:
        """Where `openapi.json` lies when Envoy starts."""
        return self.descriptors.with_name(OPENAPI)

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.tls_port is not None and self.sds is None:
            msg = "a TLS listener (tls_port) needs a directory with its certificate (sds)"
            raise ValueError(msg)
        if len(os.fsencode(self.jwks_socket)) > _LONGEST_SOCKET_PATH:
            msg = f"a unix socket's path has {_LONGEST_SOCKET_PATH} bytes at the most: {self.jwks_socket}"
            raise ValueError(msg)
