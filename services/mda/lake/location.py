"""Where the lake is: a folder, or a bucket of an object store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deltalake.fs import DeltaStorageHandler
from pyarrow import fs


@dataclass(frozen=True)
class Location:
    """A place that holds tables.

    Attributes
    ----------
    uri
        A folder's path, or such as `s3://bucket/prefix`.
    options
        What the object store wants to know, as `deltalake` names it: `AWS_ENDPOINT_URL`,
        `timeout` and so on.
    """

    uri: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        """Whether it is on this machine's disk."""
        return "://" not in self.uri

    def child(self, *names: str) -> Location:
        """Return a place in it."""
        return Location("/".join((self.uri.rstrip("/"), *names)), self.options)

    def filesystem(self) -> fs.FileSystem:
        """Return its files, by paths relative to it."""
        if self.is_folder:
            return fs.SubTreeFileSystem(self.uri, fs.LocalFileSystem())
        handler: Any = DeltaStorageHandler(self.uri, dict(self.options))
        return fs.PyFileSystem(handler)

    def sync(self, path: str) -> None:
        """See that a file of it, and its name, survive a loss of power. Object stores see to that themselves."""
        if self.is_folder:
            file = Path(self.uri) / path
            _sync(file)
            _sync(file.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
