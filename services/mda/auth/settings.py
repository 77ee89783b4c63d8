"""The settings of the auth service, from environment variables with the prefix `MDA_AUTH_`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mda.auth.engine import checked_url


class AuthSettings(BaseSettings):
    """Where auth keeps what it knows, and what its tokens say. Parsed once, at start."""

    model_config = SettingsConfigDict(env_prefix="MDA_AUTH_", frozen=True, extra="ignore", hide_input_in_errors=True)

    database_url: SecretStr = SecretStr("sqlite:///.mda/auth.db")
    """The database, as an SQLAlchemy URL. Secret, as it may hold a password."""
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 8
    """The most database connections at a time."""
    database_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How long to wait for a connection or a lock, in seconds."""
    token_ttl_s: Annotated[int, Field(ge=60, le=3600)] = 900
    """How long a token lives, in seconds."""
    jwks_max_age_s: Annotated[int, Field(ge=1, le=86400)] = 300
    """How long the public keys may be cached, in seconds."""

    public_url: str | None = None
    """Where callers reach the endpoints, as the metadata tells it; the issuer where not set."""
    revocation_replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """On how many NATS servers the log of revocations is."""

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr) -> SecretStr:
        checked_url(value.get_secret_value())
        return value

    @property
    def token_ttl(self) -> timedelta:
        """How long a token lives."""
        return timedelta(seconds=self.token_ttl_s)
