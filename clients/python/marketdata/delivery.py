"""What goes with a subscription's updates on their way to its user: callbacks, the digest, the cursor's store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from marketdata.columns import Batch
from marketdata.cursors import CursorStore
from marketdata.digest import Digest, digest_of
from marketdata.query.v1.query_service_pb2 import Watermark
from marketdata.v1.gap_pb2 import Gap

SAVE_EVERY_S: Final = 1.0
"""How often a cursor is saved by default, in seconds."""


class DigestMismatchError(Exception):
    """What was received is not what is on the tape.

    Attributes
    ----------
    received, on_tape
        The digests of both, with their numbers of rows.
    """

    def __init__(self, received: Digest, on_tape: Digest) -> None:
        super().__init__(
            f"received {received.rows:,} rows with the digest {received.hex}, "
            f"but the tape has {on_tape.rows:,} with {on_tape.hex}"
        )
        self.received = received
        self.on_tape = on_tape


class _Update(Protocol):
    @property
    def batches(self) -> Sequence[Batch]: ...
    @property
    def gaps(self) -> Sequence[Gap]: ...
    @property
    def watermark(self) -> Watermark | None: ...
    @property
    def cursor(self) -> str: ...


class Delivery:
    """Keeps account of what a subscription's user was given, and is done with.

    Parameters
    ----------
    store, name
        Where the cursor is kept, and under which name; nowhere, where None.
    save_every_s
        How often it is saved at the most, in seconds; 0 for after each update.
    on_gap
        Called with each gap that opens or closes, before the rows after it.
    on_watermark
        Called with each watermark.
    digest
        Whether to add up the digest of all rows.

    Attributes
    ----------
    cursor
        The place after the newest update that was given; empty before the first.
    digest
        That of all rows that were given; None where it is not added up.
    """

    def __init__(
        self,
        *,
        store: CursorStore | None = None,
        name: str = "",
        save_every_s: float = SAVE_EVERY_S,
        on_gap: Callable[[Gap], object] | None = None,
        on_watermark: Callable[[Watermark], object] | None = None,
        digest: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._name = name
        self._save_every_s = save_every_s
        self._on_gap = on_gap
        self._on_watermark = on_watermark
        self._clock_s = clock_s
        self._done = self._saved = ""
        self._saved_s = clock_s()
        self.cursor = ""
        self.digest = Digest() if digest else None

    def load(self) -> str:
        """Return the cursor that the store has, or nothing. May wait for the disk."""
        if self._store is None:
            return ""
        self._saved = self._store.load(self._name) or ""
        return self._saved

    def give(self, update: _Update) -> None:
        """Take in an update that its user is about to be given."""
        if self._on_gap is not None:
            for gap in update.gaps:
                self._on_gap(gap)
        if self._on_watermark is not None and update.watermark is not None:
            self._on_watermark(update.watermark)
        if self.digest is not None:
            for batch in update.batches:
                self.digest += digest_of(batch)
        self.cursor = update.cursor or self.cursor

    def done(self) -> bool:
        """Note that the user is done with all that was given; return whether it is time to save that."""
        self._done = self.cursor
        return self._unsaved and self._clock_s() - self._saved_s >= self._save_every_s

    def save(self) -> None:
        """Save the place up to which the user is done, if it is a new one. May wait for the disk."""
        if self._store is not None and self._unsaved:
            self._store.save(self._name, self._done)
            self._saved = self._done
            self._saved_s = self._clock_s()

    @property
    def _unsaved(self) -> bool:
        return self._store is not None and self._done not in {"", self._saved}
