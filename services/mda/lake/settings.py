"""Settings of the lake, from environment variables with the prefix `MDA_LAKE_`."""

from __future__ import annotations

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from mda.lake.location import Location


class LakeSettings(BaseSettings):
    """Where the lake is. Parsed once, at start."""

    model_config = SettingsConfigDict(env_prefix="MDA_LAKE_", frozen=True, extra="ignore")

    uri: str = ""
    """A folder's absolute path, or such as `s3://bucket/prefix`; empty where there is no lake."""
    options: dict[str, SecretStr] = {}
    """What an object store wants to know, as JSON: `AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID` and so on."""

    def location(self) -> Location | None:
        """Return the place; None where there is no lake."""
        if not self.uri:
            return None
        given = {name: value.get_secret_value() for name, value in self.options.items()}
        return Location(self.uri, (_PATIENCE | given) if "://" in self.uri else given)


_PATIENCE = {"timeout": "5s", "connect_timeout": "2s", "max_retries": "1", "retry_timeout": "10s"}
"""An object store that does not answer is an error within half a minute, unless it is told otherwise."""
