"""The settings of the auth service, from environment variables with the prefix `MDA_AUTH_`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mda.auth.engine import checked_url
from mda.auth.rotation import Schedule

_LEAD_MARGIN: Final = timedelta(seconds=90)
"""Gateway and services look at the keys each minute; auth's own processes see each other's keys within 10 s."""
_LEEWAY: Final = timedelta(minutes=1)
"""Verifiers grant a token some seconds more."""


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
    kek: SecretStr | None = None
    """Key-encryption keys for what is kept of signing keys: 32 bytes each in base64url, parted by commas. The first
    one seals; the others open what they sealed before."""
    transit_url: str | None = None
    """Where OpenBao or Vault is, whose transit engine seals instead of `kek`."""
    transit_key: str = "mda-auth"
    """The engine's key: `<mount>/<name>`, or a name in the mount `transit`."""
    transit_token_file: Path | None = None
    """Where the token for it stands."""
    signing_key_life_s: Annotated[int, Field(ge=60, le=31_536_000)] = 7 * 86400
    """How long a signing key signs before the next one takes its place, in seconds."""
    revocation_replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """On how many NATS servers the log of revocations is."""

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr) -> SecretStr:
        checked_url(value.get_secret_value())
        return value

    @property
    def schedule(self) -> Schedule:
        """When signing keys come and go."""
        return Schedule(
            life=timedelta(seconds=self.signing_key_life_s),
            lead=timedelta(seconds=self.jwks_max_age_s) + _LEAD_MARGIN,
            tail=self.token_ttl + _LEEWAY,
        )

    @property
    def token_ttl(self) -> timedelta:
        """How long a token lives."""
        return timedelta(seconds=self.token_ttl_s)
