"""The gaps of a tape that were noticed."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from marketdata.columns import ABSENT, Kind
from marketdata.v1.gap_pb2 import Gap
from mda.market import bars
from mda.market.pages import decode_page, encode_page

_MOST: Final = 10_000
_MOST_KEPT: Final = 1_000
_DEFAULT_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Noticed:
    """A record of a gap, with its number among all, and the place of the entry that shows it."""

    number: int
    place: int
    gap: Gap

    @property
    def key(self) -> Hashable:
        """What it has in common with the record that closes it. Damage never closes: each is one of its own."""
        gap = self.gap
        whose = (gap.producer, gap.cause, gap.instrument_id, gap.kind)
        if gap.cause == Gap.CAUSE_SEQUENCE:
            return (*whose, gap.first_sequence, gap.last_sequence)
        return (*whose, gap.open_time.ToNanoseconds()) if gap.cause == Gap.CAUSE_DISCONNECTED else self.number

    @property
    def stretch(self) -> tuple[int, int, int]:
        """Whose rows are missing, and from when until when, in nanoseconds UTC: for all that is known."""
        gap = self.gap
        start = gap.open_time.ToNanoseconds()
        if gap.cause != Gap.CAUSE_DISCONNECTED:
            return gap.instrument_id, start, start + 1
        closed = gap.state == Gap.STATE_CLOSED
        return gap.instrument_id, start, gap.close_time.ToNanoseconds() if closed else ABSENT

    @property
    def is_unknown_time(self) -> bool:
        """Whether it tells of a time that is over, of which nothing is known for good."""
        return self.gap.cause == Gap.CAUSE_DISCONNECTED and self.gap.state == Gap.STATE_CLOSED


class Gaps:
    """The newest 10,000 records of gaps, in the order in which they were noticed, and as many that are open."""

    def __init__(self) -> None:
        self._newest: deque[_Noticed] = deque(maxlen=_MOST)
        self._open: OrderedDict[Hashable, _Noticed] = OrderedDict()
        self._damage: deque[_Noticed] = deque(maxlen=_MOST)
        self._count = 0

    def add(self, sequence: int, gaps: Sequence[Gap]) -> None:
        """Note the gaps that an entry shows."""
        for gap in gaps:
            noticed = self._notice(sequence, gap)
            if gap.cause == Gap.CAUSE_TAPE_DAMAGED:
                self._damage.append(noticed)

    def restore(self, sequence: int, gaps: Iterable[Gap]) -> None:
        """Note what `kept` gave as of a place on the tape, where nothing is noted yet."""
        for gap in gaps:
            self._notice(sequence, gap)

    def kept(self) -> list[Gap]:
        """Return what has to outlive a restart, oldest first: the newest 1,000 records, and as many that are open."""
        some = {found.number: found for found in list(self._open.values())[-_MOST_KEPT:]}
        some |= {found.number: found for found in list(self._newest)[-_MOST_KEPT:]}
        return [some[number].gap for number in sorted(some)]

    def go_back(self, sequence: int) -> None:
        """Forget what entries after a place have told: the tape has lost them. Damage stays noted."""
        records = [
            found for found in self._all() if found.place <= sequence or found.gap.cause == Gap.CAUSE_TAPE_DAMAGED
        ]
        self._newest.clear()
        self._open.clear()
        for found in records:
            self._keep(found)

    def damage_at(self, sequence: int) -> list[Gap]:
        """Return the damage that was noted of an entry."""
        return [found.gap for found in self._damage if found.place == sequence]

    @property
    def open_count(self) -> int:
        """How many gaps are open."""
        return len(self._open)

    def times(self, kind: Kind) -> bars.Gaps:
        """Return when rows of a kind went missing, or of any, that are missing still.

        Of a hole in numbers, that is the moment at which it was noticed; of a source that was
        not connected, all that time, once it is again, too.
        """
        over = (found for found in self._newest if found.is_unknown_time)
        stretches = [one.stretch for one in (*self._open.values(), *over) if one.gap.kind in {0, kind}]
        found = np.array(stretches, dtype=np.int64).reshape(-1, 3)
        return bars.Gaps(found[:, 0].astype(np.uint32), found[:, 1], found[:, 2])

    def page(self, *, open_only: bool, page_size: int, page_token: str) -> tuple[list[Gap], str]:
        """Return a page of gaps, newest first, and the token of the next; empty on the last one.

        Parameters
        ----------
        open_only
            Whether to give only those that are open still.
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
        records = list(self._open.values()) if open_only else self._all()
        wanted = [found for found in reversed(records) if found.number < before]
        page = wanted[: page_size or _DEFAULT_PAGE]
        return [found.gap for found in page], encode_page(page[-1].number) if len(page) < len(wanted) else ""

    def _notice(self, sequence: int, gap: Gap) -> _Noticed:
        self._count += 1
        noticed = _Noticed(self._count, sequence, gap)
        self._keep(noticed)
        return noticed

    def _keep(self, noticed: _Noticed) -> None:
        self._newest.append(noticed)
        self._open.pop(noticed.key, None)
        if noticed.gap.state == Gap.STATE_OPEN:
            self._open[noticed.key] = noticed
            if len(self._open) > _MOST:
                self._open.popitem(last=False)

    def _all(self) -> list[_Noticed]:
        """Return all records in their order: open ones that are older than the newest 10,000, then those."""
        oldest = self._newest[0].number if self._newest else 0
        return [*(found for found in self._open.values() if found.number < oldest), *self._newest]
