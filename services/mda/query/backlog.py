"""What one reader that is behind the ring has yet to read: a page of the tape, and the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from mda.query.hub import Hub
from mda.query.ring import ReadEntry

_PAGE_ENTRIES: Final = 1024


class Backlog:
    """Reads the tape ahead of its reader: while one page is sent, the next is on its way.

    Memory is bounded by two pages, of 4 MiB each, or of one entry where that is larger.

    Parameters
    ----------
    hub
        The dataset.
    until
        As in `Hub.entries_after`.
    """

    def __init__(self, hub: Hub, until: int | None = None) -> None:
        self._hub = hub
        self._until = until
        self._place = -1  # where what we have begins
        self._page: deque[ReadEntry] = deque()
        self._ahead: asyncio.Task[Sequence[ReadEntry]] | None = None

    async def after(self, sequence: int) -> Sequence[ReadEntry]:
        """Return the next entries after a place; none if there are no more.

        Errors are those of `Hub.entries_after`.
        """
        self._forget_up_to(sequence)
        if not self._page:
            if self._ahead is None:
                self._read_ahead(sequence)
            self._page.extend(await self._take_ahead())
            if self._page:
                self._read_ahead(self._page[-1].sequence)
        return self._page

    def drop(self) -> None:
        """Forget everything: the reader is in the ring, or gone."""
        self._page.clear()
        self._place = -1
        if self._ahead is not None:
            self._ahead.cancel()
            self._ahead = None

    def _forget_up_to(self, sequence: int) -> None:
        if sequence < self._place or (self._page and sequence > self._page[-1].sequence):
            self.drop()  # the reader has moved otherwise
        self._place = sequence
        while self._page and self._page[0].sequence <= sequence:
            self._page.popleft()

    def _read_ahead(self, sequence: int) -> None:
        self._ahead = asyncio.create_task(self._hub.entries_after(sequence, _PAGE_ENTRIES, self._until))

    async def _take_ahead(self) -> Sequence[ReadEntry]:
        ahead, self._ahead = self._ahead, None
        return await ahead if ahead is not None else ()
