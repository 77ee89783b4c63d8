"""Where subscriptions keep their cursors, so that a process that starts again goes on where it was.

**At least once.** A subscription with a store saves the cursor of an update once the next
one is asked for: when you are done with it. After a crash the updates since the last save
come again; none is missing. `subscribe(..., save_every_s=0)` saves after each update.

**Exactly once.** Keep `Update.cursor` in the same transaction as what you made of the
rows, and begin with `Start(cursor=…)`, without a store. No store can do that for you: it
does not know your transaction.

>>> store = MemoryStore()
>>> store.save("desk", "AQ")
>>> store.load("desk")
'AQ'
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol
from urllib.parse import quote


class CursorStore(Protocol):
    """Keeps the newest cursor of each of some subscriptions. Calls come from several threads, one at a time."""

    def load(self, name: str) -> str | None:
        """Return the cursor that was saved last under a name; None where there is none."""
        ...

    def save(self, name: str, cursor: str) -> None:
        """Keep a cursor in place of the one before. Once this returns it must not be lost."""
        ...


class MemoryStore:
    """Keeps cursors as long as the process lives."""

    def __init__(self) -> None:
        self._cursors: dict[str, str] = {}

    def load(self, name: str) -> str | None:
        """Return the cursor of a name, if any."""
        return self._cursors.get(name)

    def save(self, name: str, cursor: str) -> None:
        """Keep a cursor."""
        self._cursors[name] = cursor


class FileStore:
    """Keeps each cursor in a file of its own, synced to the disk and never half written.

    Parameters
    ----------
    folder
        Where the files are; made if it is not there. One subscription, by its name, is for
        one process at a time.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def load(self, name: str) -> str | None:
        """Return the cursor of a name, if any.

        Raises
        ------
        OSError
            If there is a file that cannot be read.
        """
        try:
            return self._path(name).read_text("ascii").strip() or None
        except FileNotFoundError:
            return None

    def save(self, name: str, cursor: str) -> None:
        """Write a cursor, and sync it.

        Raises
        ------
        OSError
            If it cannot be written: the one before is still there.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(name)
        part = path.with_suffix(".part")
        with part.open("w", encoding="ascii") as file:
            file.write(f"{cursor}\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(self._folder)

    def _path(self, name: str) -> Path:
        return self._folder / f"{quote(name, safe='')}.cursor"


def _sync_folder(folder: Path) -> None:
    """Sync the names in a folder, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
