"""Settings of query, from environment variables with the prefix `MDA_QUERY_`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class QuerySettings(BaseSettings):
    """How much query holds. Parsed once, at start."""

    model_config = SettingsConfigDict(env_prefix="MDA_QUERY_", frozen=True, extra="ignore")

    cursor_key: Annotated[SecretStr, Field(max_length=32)] = SecretStr("")
    """What cursors are sealed with: up to 32 characters, the same in every replica. Without
    one a cursor that was tampered with may pass for one of ours."""
    follow_all: bool = True
    """Whether to follow every dataset from the start; otherwise each from when it is first asked for."""
    ring_bytes: Annotated[int, Field(ge=1 << 20)] = 64 << 20
    """How many bytes of the newest rows to hold in memory, per dataset."""
