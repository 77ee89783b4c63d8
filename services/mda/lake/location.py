"""Where the lake is: a folder, or a bucket of an object store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from deltalake.fs import DeltaStorageHandler
from pyarrow import fs

_PIECE: Final = 1 << 20


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

    @cached_property
    def filesystem(self) -> fs.FileSystem:
        """Its files, by paths relative to it."""
        if self.is_folder:
            return fs.SubTreeFileSystem(self.uri, fs.LocalFileSystem())
        handler: Any = DeltaStorageHandler(self.uri, dict(self.options))
        return fs.PyFileSystem(handler)

    def write(self, path: str, content: pa.Buffer) -> None:
        """Write a new file in it, which then survives a loss of power."""
        filesystem = self.filesystem
        folder = path.rpartition("/")[0]
        if self.is_folder and folder:
            filesystem.create_dir(folder, recursive=True)
        # In pieces that fit the stream's buffer: a larger one is passed on as it is, which the store's stream
        # does not take.
        with filesystem.open_output_stream(path, buffer_size=2 * _PIECE) as file:
            for start in range(0, content.size, _PIECE):
                file.write(content.slice(start, min(_PIECE, content.size - start)))
        self.sync(path)

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
