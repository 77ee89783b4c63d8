"""How a feed is doing."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from marketdata.columns import ABSENT, Batch


@dataclass(slots=True)
class Status:
    """What a feed has done, and how it is.

    Attributes
    ----------
    state
        `starting`, `connecting`, `live`, `waiting` (for another try), `stopping` or `done`.
    rows
        Rows that were given to be published.
    known
        Rows that came again, and were left out.
    recovered
        Rows that had not come, and were asked for and found.
    gaps
        Gaps in the source's numbers that were told of.
    connections
        How many connections there were.
    breaks
        How many of them broke.
    blocked_s
        For how long the source was not read because the tape was slow, in seconds.
    unacknowledged
        Rows that wait for their acknowledgement.
    lag_ms
        How old the newest row was when it came, by the venue's clock and ours; None where no
        row has both times.
    problem
        What broke the last connection; empty while one is well.
    """

    state: str = "starting"
    rows: int = 0
    known: int = 0
    recovered: int = 0
    gaps: int = 0
    connections: int = 0
    breaks: int = 0
    blocked_s: float = 0.0
    unacknowledged: int = 0
    lag_ms: float | None = None
    problem: str = ""
    _told_rows: int = 0
    _told_s: float = field(default_factory=time.monotonic)

    def note_batch(self, batch: Batch) -> None:
        """Count a batch that is given to be published."""
        self.rows += batch.rows
        event, received = int(batch["ts_event"][-1]), int(batch["ts_recv"][-1])
        if received != ABSENT:
            self.lag_ms = (received - event) / 1e6

    def facts(self) -> dict[str, Any]:
        """Return it as an object of JSON, with the rate since the last time that it was asked."""
        now_s = time.monotonic()
        rate = (self.rows - self._told_rows) / max(now_s - self._told_s, 1e-9)
        self._told_rows, self._told_s = self.rows, now_s
        return {
            "state": self.state,
            "rows": self.rows,
            "rows_per_s": round(rate, 1),
            "lag_ms": None if self.lag_ms is None else round(self.lag_ms, 3),
            "known_rows": self.known,
            "recovered_rows": self.recovered,
            "gaps": self.gaps,
            "connections": self.connections,
            "breaks": self.breaks,
            "blocked_s": round(self.blocked_s, 3),
            "unacknowledged_rows": self.unacknowledged,
            "problem": self.problem,
        }


def sentence(facts: dict[str, Any]) -> str:
    """Return what `Status.facts` gives as a line for people."""
    lag = "" if facts["lag_ms"] is None else f", lags {facts['lag_ms']:,.0f} ms"
    parts = [f"{facts['state']}: {facts['rows']:,} rows, {facts['rows_per_s']:,.0f} rows/s{lag}"]
    parts += [
        f"{facts[name]:,} {words}"
        for name, words in (
            ("recovered_rows", "recovered"),
            ("known_rows", "known already"),
            ("gaps", "gaps"),
            ("breaks", "breaks"),
            ("unacknowledged_rows", "rows not acknowledged yet"),
        )
        if facts[name]
    ]
    if facts["blocked_s"] >= 1:
        parts.append(f"not read for {facts['blocked_s']:,.1f} s: the tape is slow")
    if facts["problem"]:
        parts.append(facts["problem"])
    return ", ".join(parts)
