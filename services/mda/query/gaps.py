"""The gaps of a tape that were noticed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from marketdata.v1.gap_pb2 import Gap
from mda.market.pages import decode_page, encode_page

_MOST: Final = 10_000
_DEFAULT_PAGE: Final = 1_000


class Gaps:
    """The newest 10,000 gaps, in the order in which they were noticed."""

    def __init__(self) -> None:
        self._noticed: deque[tuple[int, int, Gap]] = deque(maxlen=_MOST)
        self._count = 0

    def add(self, sequence: int, gaps: Sequence[Gap]) -> None:
        """Note the gaps that an entry shows."""
        for gap in gaps:
            self._count += 1
            self._noticed.append((self._count, sequence, gap))

    def at(self, sequence: int) -> list[Gap]:
        """Return the gaps that an entry shows."""
        return [gap for _, found, gap in self._noticed if found == sequence]

    def page(self, *, open_only: bool, page_size: int, page_token: str) -> tuple[list[Gap], str]:
        """Return a page of gaps, newest first, and the token of the next; empty on the last one.

        Parameters
        ----------
        open_only
            Whether to leave out what tells that a gap closed.
        page_size
            How many at the most; 0 for 1,000.
        page_token
            That of the page before; empty for the first.

        Raises
        ------
        MarketDataError
            INVALID_FIELD.
        """
        before = decode_page(page_token) or self._count + 1
        wanted = [
            (number, gap)
            for number, _, gap in reversed(self._noticed)
            if number < before and not (open_only and gap.state != Gap.STATE_OPEN)
        ]
        page = wanted[: page_size or _DEFAULT_PAGE]
        return [gap for _, gap in page], encode_page(page[-1][0]) if len(page) < len(wanted) else ""
