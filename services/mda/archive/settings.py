"""Settings of the archive, from environment variables with the prefix `MDA_ARCHIVE_`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ArchiveSettings(BaseSettings):
    """How the archive fills the lake. Parsed once, at start."""

    model_config = SettingsConfigDict(env_prefix="MDA_ARCHIVE_", frozen=True, extra="ignore")

    flush_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Rows are committed after so many seconds."""
    flush_rows: Annotated[int, Field(ge=1, le=1 << 24)] = 1 << 20
    """Or once there are so many; twice as many may wait in memory."""
    tape_keep_bytes: Annotated[int, Field(ge=0)] = 2 << 30
    """A tape drops its oldest entries that the lake has, down to so many bytes."""
    file_rows: Annotated[int, Field(ge=1_000, le=1 << 24)] = 1_000_000
    """Small files are written together into files of up to so many rows."""
    compact_s: Annotated[float, Field(gt=0)] = 60.0
    """How often to look for small files, in seconds."""
    keep_days: Annotated[float, Field(ge=0)] = 0.0
    """Rows that the tape took so many days ago go from the lake, file by file; 0 to keep all for ever."""
    vacuum_hours: Annotated[int, Field(ge=1)] = 24
    """Files that were replaced stay so long for those who still read them, in hours; and so do new ones that no
    commit has yet."""
