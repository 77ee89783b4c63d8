"""Groups of batches judged together: what goes on the tape, what is set aside, what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from marketdata.columns import Batch
from mda.ingestion.datasets import Dataset
from mda.ingestion.sideline import Sideline
from mda.market.bits import Mask
from mda.market.errors import MarketDataError
from mda.market.policy import Rules
from mda.market.verdicts import COMPARED, Judged
from mda.tape.payload import encode_payload, merge_neighbours


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What became of a group of batches.

    Attributes
    ----------
    good
        The positions of the batches that may go on the tape, ascending.
    errors
        Why others may not, by position.
    parts
        The rows of the good ones, in order: several batches may be one part.
    """

    good: list[int]
    errors: dict[int, MarketDataError]
    parts: list[Judged]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A group that may go on the tape.

    Attributes
    ----------
    payload
        Its bytes; empty where all its rows are set aside.
    flagged_rows, quarantined_rows
        Per batch of the group, how many rows have a verdict and are kept, and how many are
        set aside.
    """

    payload: bytes
    flagged_rows: list[int]
    quarantined_rows: list[int]


async def judge(dataset: Dataset, batches: Sequence[Batch], *, past_errors: bool) -> Verdicts:
    """Judge batches, in their order.

    Parameters
    ----------
    dataset
        The dataset; its history goes on with the good ones.
    batches
        The batches.
    past_errors
        Whether to go on after a batch that is refused: they are of several callers.
    """
    rules = dataset.directory.rules
    # What compared rows are refused for is known only once rows before them are in the history.
    if not rules.refused & COMPARED:
        try:
            checked = [await dataset.check(run, rules) for run in merge_neighbours(batches)]
        except MarketDataError:
            pass  # somewhere; one by one now, so that the error names the batch's own row
        else:
            return Verdicts(list(range(len(batches))), {}, [dataset.flag(part, rules) for part in checked])
    return await _judge_each(dataset, batches, rules, past_errors=past_errors)


async def _judge_each(dataset: Dataset, batches: Sequence[Batch], rules: Rules, *, past_errors: bool) -> Verdicts:
    verdicts = Verdicts([], {}, [])
    for position, batch in enumerate(batches):
        try:
            verdicts.parts.append(dataset.flag(await dataset.check(batch, rules), rules))
        except MarketDataError as error:
            verdicts.errors[position] = error
            if not past_errors:
                break
        else:
            verdicts.good.append(position)
    return verdicts


async def prepare(
    sideline: Sideline, numbers: Sequence[int], sizes: Sequence[int], parts: Sequence[Judged]
) -> Prepared:
    """Set aside what is to be set aside of good batches, and encode the rest as one.

    Parameters
    ----------
    sideline
        Their producer's.
    numbers, sizes
        The batches' numbers, and how many rows each has.
    parts
        Their rows.
    """
    none = [0] * len(sizes)
    if not sideline.expects and all(part.flagged is None and part.aside is None for part in parts):
        return Prepared(encode_payload(part.batch for part in parts), none, none)
    settled = list(parts)
    if sideline.expects or any(part.aside is not None for part in parts):
        settled = await sideline.settle(numbers, _each(parts, sizes))
    flagged = _count([part.flagged for part in settled], settled, sizes)
    aside = _count([part.aside for part in settled], settled, sizes)
    return Prepared(encode_payload(_kept(settled)), flagged, aside)


def _each(parts: Sequence[Judged], sizes: Sequence[int]) -> list[Judged]:
    """Return the rows of parts batch by batch."""
    batches: list[Judged] = []
    left = iter(sizes)
    for part in parts:
        start = 0
        while start < part.batch.rows:
            end = start + next(left)
            batches.append(_slice(part, slice(start, end)))
            start = end
    return batches


def _slice(part: Judged, rows: slice) -> Judged:
    batch = part.batch.slice(rows.start, rows.stop)
    flagged = None if part.flagged is None else part.flagged[rows]
    return Judged(batch, flagged, None if part.aside is None else part.aside[rows])


def _kept(parts: Sequence[Judged]) -> Iterator[Batch]:
    for part in parts:
        batch = part.batch if part.aside is None else part.batch.take(~part.aside)
        if part.flagged is None:
            batch = Batch(batch.kind, batch.rows, {n: values for n, values in batch.columns.items() if n != "verdicts"})
        if batch.rows:
            yield batch


def _count(masks: Sequence[Mask | None], parts: Sequence[Judged], sizes: Sequence[int]) -> list[int]:
    """Return how many rows of each batch are in the masks."""
    if all(mask is None for mask in masks):
        return [0] * len(sizes)
    whole = [
        mask if mask is not None else np.zeros(part.batch.rows, dtype=np.bool_)
        for mask, part in zip(masks, parts, strict=True)
    ]
    starts = np.cumsum([0, *sizes[:-1]])
    return [int(count) for count in np.add.reduceat(np.concatenate(whole).astype(np.int64), starts)]
