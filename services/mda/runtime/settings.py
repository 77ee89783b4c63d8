"""Settings that every service has, from environment variables with the prefix `MDA_`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=0, le=65535)]


class ServiceSettings(BaseSettings):
    """Where a service listens, what it talks to, and how it logs. Parsed once, at start."""

    model_config = SettingsConfigDict(env_prefix="MDA_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    """The address to listen on."""
    port: Port = 0
    """The gRPC port; 0 means any free one, told in the log."""
    metrics_port: Port | None = None
    """The port of `/metrics`; none where not set."""
    nats_url: str = "nats://127.0.0.1:4222"
    """Where NATS is."""
    nats_token: SecretStr | None = None
    """The token for NATS, if it wants one."""
    auth_target: str = "127.0.0.1:50051"
    """The gRPC address of the auth service, for its public keys."""
    issuer: str = "https://auth.marketdata.local"
    """Who must have issued a token."""
    audience: str = "marketdata"
    """Whom a token must be for."""
    reflection: bool = True
    """Whether to serve gRPC reflection."""
    drain_delay_s: Annotated[float, Field(ge=0, le=300)] = 0.0
    """How long to serve on after SIGTERM while health already says no, in seconds: until balancers have seen it."""
    drain_s: Annotated[float, Field(ge=0, le=300)] = 5.0
    """How long running calls may then take to end, in seconds."""
    usage_replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """On how many NATS servers the rows that clients use a day are counted."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    otlp_endpoint: str | None = None
    """The gRPC address of an OpenTelemetry collector; no traces are sent where not set."""
