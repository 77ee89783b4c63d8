"""What was set aside: listed by the page, and released to the tape, each item once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from marketdata.columns import Batch
from marketdata.v1 import error_reason_pb2 as reasons
from mda.ingestion.appender import Appender
from mda.ingestion.datasets import Dataset
from mda.market.bits import OUT_OF_ORDER, RELEASED
from mda.market.errors import MarketDataError, invalid_field
from mda.market.policy import DEFAULT_RULES
from mda.tape.payload import encode_payload
from mda.tape.quarantine import QuarantineEntry, SetAside
from mda.tape.tape import Entry

_PAGE_ROWS: Final = 1_000
_INDEX_BITS: Final = 16
"""An item's place is its entry's, and its index there: fewer than so many bits, as an entry has few rows."""


@dataclass(frozen=True, slots=True)
class Item:
    """Rows of one batch that were set aside.

    Attributes
    ----------
    place
        Its place in the quarantine: of two items, the newer one's is greater.
    entry, rows
        The entry that it is in, and its rows.
    tape_sequence
        The sequence number of its entry on the tape, once it is released; 0 before that.
    """

    place: int
    entry: QuarantineEntry
    rows: SetAside
    tape_sequence: int

    @property
    def id(self) -> str:
        """Its id, for people."""
        return _id(self.place)


@dataclass(frozen=True, slots=True)
class Released:
    """Where released rows are.

    Attributes
    ----------
    id
        The item's id.
    sequence
        The sequence number of its entry on the tape.
    already
        Whether it was there before.
    """

    id: str
    sequence: int
    already: bool


async def list_items(dataset: Dataset, after: int, size: int) -> tuple[list[Item], bool]:
    """Return the next items after a place, up to `size` of them or 1,000 rows; and whether there are more.

    Raises
    ------
    MarketDataError
        TAPE_UNAVAILABLE.
    """
    await dataset.refresh()
    found: list[tuple[int, QuarantineEntry, SetAside]] = []
    rows = 0
    entry_after = max((after >> _INDEX_BITS) - 1, 0)  # the entry of the place may have more
    while entries := await dataset.quarantine.read(entry_after):
        entry_after = entries[-1].sequence
        for entry in entries:
            for index, item in enumerate(entry.items):
                place = (entry.sequence << _INDEX_BITS) + index
                if place <= after:
                    continue
                if len(found) == size or (found and rows + item.batch.rows > _PAGE_ROWS):
                    return await _items(dataset, found), True
                found.append((place, entry, item))
                rows += item.batch.rows
    return await _items(dataset, found), False


async def release(dataset: Dataset, ids: Sequence[str]) -> list[Released]:
    """Put items on the tape, in the order of `ids`; all are checked before the first one is.

    Raises
    ------
    MarketDataError
        INVALID_FIELD for an id that is none; that of `check` for rows that no reader could
        use; TAPE_FULL; TAPE_UNAVAILABLE.
    """
    batches = [await _released(dataset, position, item_id) for position, item_id in enumerate(ids)]
    return [await _append(dataset, item_id, batch) for item_id, batch in zip(ids, batches, strict=True)]


async def _items(dataset: Dataset, found: Sequence[tuple[int, QuarantineEntry, SetAside]]) -> list[Item]:
    sequences = await asyncio.gather(*(_sequence(dataset, _id(place)) for place, _, _ in found))
    return [Item(*parts, sequence) for parts, sequence in zip(found, sequences, strict=True)]


async def _released(dataset: Dataset, position: int, item_id: str) -> Batch:
    """Return an item's rows as they are to be on the tape."""
    sequence, index = map(int, item_id.split("-"))
    entries = await dataset.quarantine.read(sequence - 1)
    if not entries or entries[0].sequence != sequence or index >= len(entries[0].items):
        field = f"ids[{position}]"
        raise invalid_field(
            field,
            "quarantine_id",
            f"{field}: nothing is set aside as {item_id!r}, or not any more. ListQuarantined tells the ids.",
        )
    batch = entries[0].items[index].batch
    # Whatever the policy says: no reader could use rows of an unknown instrument.
    await dataset.check(batch, DEFAULT_RULES)
    verdicts = batch["verdicts"] | np.uint32(RELEASED | OUT_OF_ORDER)
    return Batch(batch.kind, batch.rows, {**batch.columns, "verdicts": verdicts})


async def _append(dataset: Dataset, item_id: str, batch: Batch) -> Released:
    """Append an item, as the first and only entry of a producer of its own: so it is there once."""
    if sequence := await _sequence(dataset, item_id):
        return Released(item_id, sequence, already=True)
    entry = Entry(1, 1, dataset.directory.version, encode_payload([batch]))
    try:
        sequence = await Appender(dataset.tape, _producer(item_id)).append(entry)
    except MarketDataError as error:
        if error.reason != reasons.ERROR_REASON_FENCED:
            raise
        # Somebody else released it at the same time.
        return Released(item_id, await _sequence(dataset, item_id), already=True)
    return Released(item_id, sequence, already=False)


async def _sequence(dataset: Dataset, item_id: str) -> int:
    """Return the place of a released item on the tape, be it dropped since; 0 if it never was there."""
    return (await dataset.tape.standing_of(_producer(item_id))).sequence


def _producer(item_id: str) -> str:
    """Return the name that an item is released by: no producer's name begins with an underscore."""
    return f"_released-{item_id}"


def _id(place: int) -> str:
    return f"{place >> _INDEX_BITS}-{place & ((1 << _INDEX_BITS) - 1)}"
