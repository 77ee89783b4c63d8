"""Entries of a tape that are yet to be committed to the lake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from marketdata.columns import Batch, Kind, concatenate
from marketdata.v1.gap_pb2 import Gap
from mda.lake.layout import DAY_NS, ENTRIES, GAPS, INSTRUMENTS, SCHEMAS, Placed
from mda.market.instruments import Directory
from mda.tape.archived import Standing
from mda.tape.damage import Inspector
from mda.tape.payload import decode_payload, encode_gaps, split_payload
from mda.tape.tape import StoredEntry

_KINDS: Final = {int(kind): kind.name for kind in Kind}


class Pending:
    """Entries of one tape, in its order.

    Parameters
    ----------
    epoch
        The tape's epoch.

    Attributes
    ----------
    rows
        How many rows they have.
    last
        The sequence number of the newest one; 0 where there is none.
    time_ns
        When the tape took that, in nanoseconds since the epoch.
    standings
        Where their producers stand after them, by producer.
    """

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._entries: list[tuple[Any, ...]] = []
        self._gaps: list[tuple[Any, ...]] = []
        self._batches: dict[Kind, list[tuple[Batch, int, int]]] = {kind: [] for kind in Kind}
        self.rows = 0
        self.last = 0
        self.time_ns = 0
        self.standings: dict[str, Standing] = {}

    def __len__(self) -> int:
        """Return how many entries there are."""
        return len(self._entries)

    def add(self, stored: StoredEntry, inspector: Inspector) -> None:
        """Add the next entry; of one that is damaged no rows, but the gap that it is."""
        damage = inspector.inspect(stored)
        told, payload = split_payload(stored.entry.payload if not damage or stored.intact else b"")
        row = 0
        for batch in decode_payload(payload):
            self._batches[batch.kind].append((batch, stored.sequence, row))
            row += batch.rows
        self.rows += row
        self.last, self.time_ns = stored.sequence, stored.time_ns
        self.standings[stored.producer] = stored.standing
        self._entries.append(self._entry(stored, row, [*damage, *told]))
        self._gaps += [_gap(self._epoch, stored.sequence, gap) for gap in (*damage, *told)]

    def _entry(self, stored: StoredEntry, rows: int, gaps: Sequence[Gap]) -> tuple[Any, ...]:
        entry = stored.entry
        place = (self._epoch, stored.sequence, stored.time_ns, stored.mark)
        return (*place, stored.producer, entry.first_number, entry.last_number, rows, encode_gaps(gaps) or None)

    def entries(self) -> pa.Table:
        """Return the entries, as rows of their table."""
        return _table(ENTRIES, self._entries)

    def gaps(self, after: int) -> pa.Table | None:
        """Return the gaps that entries after a place tell of, as rows of their table; None if there are none."""
        found = [gap for gap in self._gaps if gap[1] > after]
        return _table(GAPS, found) if found else None

    def days(self, kind: Kind, after: int) -> Iterator[tuple[str, Placed]]:
        """Yield the rows of a kind of the entries after a place, by the day of their event, UTC."""
        placed = self._placed(kind, after)
        if placed is None:
            return
        days = placed.batch["ts_event"] // DAY_NS
        for day in np.unique(days):
            chosen = days == day
            yield str(np.datetime64(int(day), "D")), placed if chosen.all() else placed.take(chosen)

    def _placed(self, kind: Kind, after: int) -> Placed | None:
        found = [part for part in self._batches[kind] if part[1] > after]
        if not found:
            return None
        batches, sequences, starts = zip(*found, strict=True)
        sizes = np.array([batch.rows for batch in batches])
        first = np.cumsum(sizes) - sizes
        row = np.arange(sizes.sum()) - np.repeat(first - np.array(starts), sizes)
        return Placed(concatenate(batches), self._epoch, np.repeat(np.array(sequences), sizes), row.astype(np.int32))


def _table(name: str, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    schema = SCHEMAS[name]
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _gap(epoch: int, sequence: int, gap: Gap) -> tuple[Any, ...]:
    cause = Gap.Cause.Name(gap.cause).removeprefix("CAUSE_")
    state = Gap.State.Name(gap.state).removeprefix("STATE_")
    closed = gap.close_time.ToNanoseconds() if gap.HasField("close_time") else None
    numbers = (_signed(gap.first_sequence, 64), _signed(gap.last_sequence, 64))
    whose = (_signed(gap.instrument_id, 32) or None, _KINDS.get(gap.kind))
    return (epoch, sequence, gap.producer, cause, state, *numbers, gap.open_time.ToNanoseconds(), closed, *whose)


def _signed(value: int, bits: int) -> int:
    """Return the same bits as a signed number, as those of rows are stored: Delta has no others."""
    return value - (1 << bits) if value >> (bits - 1) else value


def instruments_table(directory: Directory) -> pa.Table:
    """Return all instruments, as rows of their table."""
    rows = [
        (one.instrument_id, one.symbol, one.tick_size_nanos or None, one.negative_prices, one.description or None)
        for one in directory.page(0, len(directory))
    ]
    return _table(INSTRUMENTS, rows)
