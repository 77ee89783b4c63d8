"""What a producer's sequence numbers show, row by row."""

from __future__ import annotations

from collections.abc import Sequence

from marketdata.v1.gap_pb2 import Gap

OPEN, CLOSED = Gap.STATE_OPEN, Gap.STATE_CLOSED
Fact = tuple[Gap.State, int, int]


class Oracle:
    """Looks at row after row, and remembers every number: what sequence numbers show, told slowly."""

    def __init__(self) -> None:
        self.newest: int | None = None
        self.holes: list[tuple[int, int, set[int]]] = []

    def take(self, number: int) -> list[Fact]:
        found: list[Fact] = []
        for first, last, missing in self.holes:
            if number in missing:
                missing.remove(number)
                if not missing:
                    found.append((CLOSED, first, last))
        if self.newest is not None and number > self.newest + 1:
            first, last = self.newest + 1, number - 1
            self.holes.append((first, last, set(range(first, number))))
            found.append((OPEN, first, last))
        self.newest = number if self.newest is None else max(self.newest, number)
        return found


def facts_of(gaps: Sequence[Gap], producer: str = "p") -> list[Fact]:
    """Return what gaps say, but for the times."""
    assert all(gap.cause == Gap.CAUSE_SEQUENCE and gap.producer == producer for gap in gaps)
    return [(gap.state, gap.first_sequence, gap.last_sequence) for gap in gaps]
