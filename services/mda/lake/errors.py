"""What can go wrong with the lake."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pyarrow as pa
from deltalake.exceptions import DeltaError, TableNotFoundError

from mda.lake.location import Location


class LakeError(Exception):
    """The lake does not answer, or a table of it cannot be read; the message says what to do."""


class ConflictError(Exception):
    """Somebody else has committed what this commit relied upon. Nothing was changed: look again."""


@contextmanager
def told(location: Location) -> Generator[None]:
    """Turn failures of what is done with a table into `LakeError`."""
    try:
        yield
    except TableNotFoundError as error:
        raise LakeError(f"There is no table at {location.uri}.") from error
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise LakeError(f"The table at {location.uri} cannot be used: {error}") from error
