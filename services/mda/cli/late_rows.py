"""Rows of a gap that came after all, late, from whoever had left them out: a backfill leaves them be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Final

import numpy as np
from numpy.typing import NDArray

from marketdata.client import Client
from marketdata.columns import Batch, Kind

MOST_RUNS: Final = 700
"""Rows that came in more runs are not told from others: a position on the tape has room for no more."""

Numbers = NDArray[np.uint64]
Late = Mapping[Kind, Numbers]
"""Of each kind, the sequence numbers of the rows that came, ascending."""


async def late_rows(client: Client, dataset: str, batches: Sequence[Batch]) -> Late:
    """Return which rows are on the tape already.

    Those with the same number, instrument and event time: other producers may have the same numbers.

    Parameters
    ----------
    client
        The connection.
    dataset
        The dataset.
    batches
        All rows of a gap, one batch for each kind, ascending by their numbers, each number once.
    """
    found = {batch.kind: batch["sequence"][await _there(client, dataset, batch)] for batch in batches}
    return {kind: numbers for kind, numbers in found.items() if len(numbers)}


async def _there(client: Client, dataset: str, wanted: Batch) -> NDArray[np.bool_]:
    times = wanted["ts_event"]
    there = np.zeros(wanted.rows, dtype=np.bool_)
    scan = client.scan(dataset, start_ns=int(times.min()), end_ns=int(times.max()) + 1, kinds=[wanted.kind])
    async with aclosing(aiter(scan)) as updates:
        async for update in updates:
            for batch in update.batches:
                there[_places(wanted, batch)] = True
    return there


def _places(wanted: Batch, batch: Batch) -> NDArray[np.intp]:
    """Return the places of the wanted rows that are in a batch."""
    places = np.searchsorted(wanted["sequence"], batch["sequence"])
    places[places == wanted.rows] = 0
    same = np.ones(batch.rows, dtype=np.bool_)
    for name in ("sequence", "instrument_id", "ts_event"):
        same &= wanted[name][places] == batch[name]
    return places[same]


def runs_of(late: Late) -> int:
    """Return how many runs of numbers without a hole there are."""
    return sum(len(_starts(numbers)) for numbers in late.values())


def text_of(late: Late) -> str:
    """Return them as the text of a position: `QUOTE 3-5,9-9;TRADE 7-7`; empty for none."""
    return ";".join(f"{kind.name} {_runs(numbers)}" for kind, numbers in late.items())


def _runs(numbers: Numbers) -> str:
    starts = _starts(numbers)
    ends = np.append(starts[1:], len(numbers)) - 1
    return ",".join(f"{first}-{last}" for first, last in zip(numbers[starts], numbers[ends], strict=True))


def _starts(numbers: Numbers) -> NDArray[np.intp]:
    return np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - np.uint64(2)) != 1)


def late_of(text: str) -> Late:
    """Return what `text_of` made a text of."""
    late: dict[Kind, Numbers] = {}
    for part in text.split(";") if text else ():
        name, _, runs = part.partition(" ")
        edges = (run.split("-") for run in runs.split(","))
        late[Kind[name]] = np.concatenate(
            [np.arange(int(first), int(last) + 1, dtype=np.uint64) for first, last in edges]
        )
    return late
