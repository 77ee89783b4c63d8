"""The gateway's settings from environment variables, as a cluster gives them: the prefix is `MDA_GATEWAY_`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from mda.gateway.settings import GatewaySettings, Limits, Upstream
from mda.runtime.settings import Port, ServiceSettings

_HEAP_SHARE: Final = 0.8  # Envoy's stacks, its code and buffers of the kernel count, too
_Target = Annotated[str, Field(pattern=r"^[^,=]+:\d+$")]
_Targets = Annotated[str, Field(pattern=r"^[^,=]+:\d+(=[1-9]\d{0,2}(,[^,=]+:\d+=[1-9]\d{0,2})*)?$")]


class GatewayEnvironment(BaseSettings):
    """Where the gateway listens, what is behind it, and whom it serves. Parsed once, at start.

    Issuer, audience, reflection and the collector of traces are those of `ServiceSettings`, so that gateway and
    services cannot be told different ones.
    """

    model_config = SettingsConfigDict(env_prefix="MDA_GATEWAY_", frozen=True, extra="ignore")

    directory: Path
    """Where the files for Envoy are written, and where Envoy finds them."""
    bind: str = "0.0.0.0"  # noqa: S104 - the pod's own address
    """The address to listen on."""
    port: Port = 8080
    """The plain port."""
    tls_port: Port | None = None
    """The TLS port; needs `certificates`."""
    admin_port: Port = 9901
    """The port of Envoy's admin interface, on loopback."""
    metrics_port: Port | None = None
    """The port of `/metrics`."""
    certificates: Path | None = None
    """The directory of `tls.crt` and `tls.key`."""
    archive: _Targets
    """The archive service, as `host:port`; so are the others. Of several releases `host:port=weight,…`."""
    auth: _Targets
    ingestion: _Targets
    query: _Targets
    history: _Targets | None = None
    """Instances of query for methods of the past alone, if there are some."""
    cors_origins: tuple[str, ...] = ()
    """Origins of web pages that may call, as JSON."""
    limits: Limits = Limits()
    """Rate limits that are not the usual ones, as JSON."""
    memory_bytes: Annotated[int, Field(ge=64 << 20)] | None = None
    """How much memory Envoy has in all."""

    def settings(self, common: ServiceSettings) -> GatewaySettings:
        """Return the gateway's settings.

        Parameters
        ----------
        common
            What gateway and services have in common.
        """
        return GatewaySettings(
            port=self.port,
            tls_port=self.tls_port,
            admin_port=self.admin_port,
            metrics_port=self.metrics_port,
            bind=self.bind,
            jwks_socket=self.directory / "jwks.sock",
            archive=upstream(self.archive),
            auth=upstream(self.auth),
            ingestion=upstream(self.ingestion),
            query=upstream(self.query),
            history=None if self.history is None else upstream(self.history),
            descriptors=self.directory / "descriptors.binpb",
            sds=None if self.tls_port is None else self.directory / "sds",
            certificates=self.certificates,
            issuer=common.issuer,
            audience=common.audience,
            cors_origins=self.cors_origins,
            otlp=None if common.otlp_endpoint is None else upstream(common.otlp_endpoint),
            limits=self.limits,
            reflection=common.reflection,
            max_heap_bytes=2 << 30 if self.memory_bytes is None else int(self.memory_bytes * _HEAP_SHARE),
        )


def upstream(targets: str) -> Upstream:
    """Return what `host:port` says, or several of them with their weights."""
    first, *others = (_one(target) for target in targets.split(","))
    return replace(first, others=tuple(others))


def _one(target: str) -> Upstream:
    address, _, weight = target.partition("=")
    host, _, port = address.rpartition(":")
    return Upstream(host, int(port), weight=int(weight or 1))
