"""Settings of ingestion, from environment variables with the prefix `MDA_INGESTION_`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from mda.tape.tape import Retention


class IngestionSettings(BaseSettings):
    """What ingestion makes tapes with. Parsed once, at start."""

    model_config = SettingsConfigDict(env_prefix="MDA_INGESTION_", frozen=True, extra="ignore")

    tape_max_bytes: Annotated[int, Field(ge=1 << 20)] = 8 << 30
    """The size limit of a new tape, in bytes; a full tape refuses."""
    tape_replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """On how many NATS servers each entry is."""
    rolling_datasets: frozenset[str] = frozenset({"SIM"})
    """Datasets whose tape drops its oldest entries: those that nobody would miss."""
    rolling_keep_s: Annotated[float, Field(ge=60)] = 86_400
    """How long a rolling tape keeps an entry, in seconds."""

    def retention(self, dataset: str) -> Retention:
        """Return how much the tape of a dataset keeps."""
        keep_s = self.rolling_keep_s if dataset in self.rolling_datasets else None
        return Retention(self.tape_max_bytes, self.tape_replicas, keep_s)
