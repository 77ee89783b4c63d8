"""Which rows of a source are new, and which are missing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import ABSENT, FIELDS, Batch, Kind
from mda.feeds.source import Newest, Rule, Standing, Standings

_KINDS: Final = {name: kind for kind, name in FIELDS.items()}
_MOST_TEXT: Final = 32_000
"""The text is no longer, as a position takes 32,768 characters."""
_Mask = NDArray[np.bool_]
_Numbers = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Hole:
    """Numbers of an instrument that did not come.

    Attributes
    ----------
    kind, instrument_id
        Whose.
    first, last
        The numbers; both 0 where the source has begun its numbers anew, and nobody knows.
    """

    kind: Kind
    instrument_id: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What is new of a batch.

    Attributes
    ----------
    batch
        Its new rows; None if there are none.
    holes
        What is missing before or among them.
    known
        How many of its rows were there before.
    """

    batch: Batch | None
    holes: list[Hole]
    known: int


class Sequences:
    """Follows the numbers of the rows of each kind and instrument, by the source's rules.

    Parameters
    ----------
    rules
        What the numbers tell.
    standings
        Where to go on from.
    """

    def __init__(self, rules: Mapping[Kind, Rule], standings: Standings | None = None) -> None:
        self._rules = rules
        self._standings = dict(standings or {})
        self._texts: dict[tuple[Kind, int], str] = {}
        self._passed: dict[tuple[Kind, int], int] = {}  # rows of this connection at the newest time, by the rule TIMED

    @classmethod
    def parse(cls, rules: Mapping[Kind, Rule], told: Mapping[str, Any]) -> Self:
        """Read what `text` has written, after it was parsed as JSON."""
        standings = {
            (_KINDS[name], int(instrument)): Standing(int(time_ns), int(number))
            for name, found in told.items()
            for instrument, (time_ns, number) in found.items()
        }
        return cls(rules, standings)

    @property
    def standings(self) -> Standings:
        """Where each instrument stands."""
        return self._standings

    @property
    def text(self) -> str:
        """Where each instrument stands, as JSON; each is written again only after it has changed.

        Of more instruments than there is room for, those with the newest rows.
        """
        for key, standing in self._standings.items():
            if key not in self._texts:
                self._texts[key] = f'"{key[1]}":[{standing.time_ns},{standing.number}]'
        found = self._texts
        if sum(map(len, found.values())) + len(found) > _MOST_TEXT:
            newest = sorted(found, key=lambda key: self._standings[key].time_ns, reverse=True)
            sizes = np.cumsum([len(found[key]) + 1 for key in newest])
            found = {key: found[key] for key in newest[: int(np.searchsorted(sizes, _MOST_TEXT))]}
        kinds = {kind: [text for (of, _), text in found.items() if of is kind] for kind in Kind}
        return "{" + ",".join(f'"{FIELDS[kind]}":{{{",".join(found)}}}' for kind, found in kinds.items() if found) + "}"

    def begin(self) -> None:
        """Begin another connection: rows may come again."""
        self._passed.clear()

    def take(self, batch: Batch) -> Taken:
        """Take a batch; its rows come after those before it."""
        rule = self._rules.get(batch.kind, Rule.NONE)
        if rule is Rule.NONE:
            return Taken(batch, [], 0)
        ids = batch["instrument_id"]
        keep = np.ones(batch.rows, np.bool_)
        holes: list[Hole] = []
        for instrument_id in np.unique(ids).tolist():
            rows = np.flatnonzero(ids == instrument_id)
            times = batch["ts_event"][rows]
            if rule is Rule.TIMED:
                keep[rows] = self._take_timed(batch.kind, instrument_id, times)
                continue
            taken, missing = self._take_numbers(batch.kind, instrument_id, batch["sequence"][rows], times, rule)
            keep[rows] = taken
            holes += missing
        new = int(keep.sum())
        if new == batch.rows:
            return Taken(batch, holes, 0)
        return Taken(batch.take(keep) if new else None, holes, batch.rows - new)

    def take_newest(self, newest: Newest) -> list[Hole]:
        """Take what a source says of its newest number; return what is missing up to it."""
        standing = self._standings.get((newest.kind, newest.instrument_id))
        if standing is None or newest.sequence <= standing.number:
            return []
        self._stand(newest.kind, newest.instrument_id, Standing(standing.time_ns, newest.sequence))
        return [Hole(newest.kind, newest.instrument_id, standing.number + 1, newest.sequence)]

    def _stand(self, kind: Kind, instrument_id: int, standing: Standing) -> None:
        self._standings[kind, instrument_id] = standing
        self._texts.pop((kind, instrument_id), None)

    def _take_timed(self, kind: Kind, instrument_id: int, times: NDArray[np.int64]) -> _Mask:
        key = (kind, instrument_id)
        standing = self._standings.get(key, Standing(-1, 0))
        counts = self._passed.get(key, 0) + np.cumsum(times == standing.time_ns)
        keep = (times > standing.time_ns) | ((times == standing.time_ns) & (counts > standing.number))
        newest = int(times.max())
        if newest > standing.time_ns:
            self._passed[key] = int((times == newest).sum())
            self._stand(kind, instrument_id, Standing(newest, self._passed[key]))
        else:
            self._passed[key] = int(counts[-1])
            if keep.any():
                self._stand(kind, instrument_id, Standing(standing.time_ns, int(counts[-1])))
        return keep

    def _take_numbers(
        self, kind: Kind, instrument_id: int, numbers: _Numbers, times: NDArray[np.int64], rule: Rule
    ) -> tuple[_Mask, list[Hole]]:
        there = numbers != np.uint64(ABSENT)
        keep = np.ones(len(numbers), np.bool_)
        holes: list[Hole] = []
        start = 0
        while start < len(numbers):  # once, and once more after each beginning anew
            standing = self._standings.get((kind, instrument_id))
            places = start + np.flatnonzero(there[start:])
            if not len(places):
                break
            anew = self._take_run(kind, instrument_id, numbers[places], times[places], rule, standing)
            keep[places[: len(anew.keep)]] = anew.keep
            holes += anew.holes
            if anew.until is None:
                break
            holes.append(Hole(kind, instrument_id, 0, 0))
            del self._standings[kind, instrument_id]
            start = int(places[anew.until])
        return keep, holes

    def _take_run(
        self,
        kind: Kind,
        instrument_id: int,
        numbers: _Numbers,
        times: NDArray[np.int64],
        rule: Rule,
        standing: Standing | None,
    ) -> _Run:
        """Take numbers up to where they begin anew."""
        first = int(numbers[0]) - 1 if standing is None else standing.number
        before = np.maximum.accumulate(np.concatenate(([np.uint64(max(first, 0))], numbers[:-1])))
        keep = numbers > before
        if standing is None:
            keep[0] = True
        seen = np.maximum.accumulate(np.concatenate(([standing.time_ns if standing else times[0]], times[:-1])))
        # One that is not new, and yet happened after all before it, is of another count.
        anew = np.flatnonzero(~keep & (times > seen))
        until = int(anew[0]) if len(anew) else None
        keep, numbers, times = keep[:until], numbers[:until], times[:until]
        holes: list[Hole] = []
        if rule is Rule.CONTIGUOUS:
            breaks = np.flatnonzero(keep & (numbers != before[:until] + np.uint64(1)))
            if standing is None:
                breaks = breaks[breaks > 0]
            holes = [Hole(kind, instrument_id, int(before[at]) + 1, int(numbers[at]) - 1) for at in breaks]
        if keep.any():
            newest = int(np.flatnonzero(keep)[-1])
            self._stand(kind, instrument_id, Standing(int(times[: newest + 1].max()), int(numbers[newest])))
        return _Run(keep, holes, until)


@dataclass(frozen=True, slots=True)
class _Run:
    """What was taken of numbers, and where they begin anew; None where they do not."""

    keep: _Mask
    holes: list[Hole]
    until: int | None


def missing_numbers(hole: Hole, batches: list[Batch]) -> Iterator[Hole]:
    """Yield what is missing of a hole once rows of it have come."""
    came = [batch["sequence"][batch["instrument_id"] == hole.instrument_id] for batch in batches]
    numbers = np.unique(np.concatenate([np.empty(0, np.uint64), *came]))
    inside = numbers[(numbers >= hole.first) & (numbers <= hole.last)].astype(np.int64)
    edges = np.concatenate(([hole.first - 1], inside, [hole.last + 1]))
    for at in np.flatnonzero(np.diff(edges) > 1).tolist():
        yield Hole(hole.kind, hole.instrument_id, int(edges[at]) + 1, int(edges[at + 1]) - 1)


def read_position(text: str) -> dict[str, Any]:
    """Return a position as it was written; empty where it says nothing that can be read."""
    try:
        told: Any = json.loads(text or "{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
