"""Damage to the tape: entries that are missing, or do not say what was written."""

from __future__ import annotations

from marketdata.v1.gap_pb2 import Gap
from mda.market.rows import timestamp
from mda.tape.chain import Chains
from mda.tape.tape import StoredEntry


class Inspector:
    """Looks at entries in the order of the tape.

    Parameters
    ----------
    after
        The sequence number of the entry before the first one to look at.
    """

    def __init__(self, after: int) -> None:
        self._last = after
        self._chains = Chains()

    def inspect(self, stored: StoredEntry) -> list[Gap]:
        """Take the next entry; return the gaps that it shows, none where all is well.

        An entry that does not say what was written is a gap of its own numbers: its rows
        are not to be trusted. A break in its producer's chain is a gap of the numbers
        between. Where entries are missing and no chain tells whose they were yet, the gap
        names no producer.
        """
        gaps: list[Gap] = []
        entry = stored.entry
        hole = stored.sequence != self._last + 1
        self._last = stored.sequence
        before = self._chains.take(stored.producer, stored.link, entry.last_number)
        if before is not None:
            gaps.append(_gap(stored, before + 1, entry.first_number - 1))
        elif hole:
            gaps.append(_gap(stored, 0, 0, producer=""))
        if not stored.intact:
            gaps.append(_gap(stored, entry.first_number, entry.last_number))
        return gaps


def lost_entries(time_ns: int) -> Gap:
    """Return the gap of a tape that has lost its newest entries: whose they were nobody knows."""
    return Gap(cause=Gap.CAUSE_TAPE_DAMAGED, state=Gap.STATE_OPEN, open_time=timestamp(time_ns))


def _gap(stored: StoredEntry, first: int, last: int, producer: str | None = None) -> Gap:
    known = first <= last
    return Gap(
        producer=stored.producer if producer is None else producer,
        cause=Gap.CAUSE_TAPE_DAMAGED,
        state=Gap.STATE_OPEN,
        first_sequence=first if known else 0,
        last_sequence=last if known else 0,
        open_time=timestamp(stored.time_ns),
    )
