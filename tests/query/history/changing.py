"""Trades many of which are cancelled or corrected, and how they stand, by plain Python."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from nats.aio.client import Client

from marketdata.columns import ABSENT, NANOS, Batch, Kind, make_batch
from marketdata.v1.batch_pb2 import TradeAction
from mda.lake.lake import Lake
from mda.lake.location import Location
from tests.query.history.test_query_history import World, facts, world_of
from tests.tape.helpers import NOW_NS, eventually

KNOWN = 6
"""So many cancels and corrections the hubs of these tests know."""
CANCEL = TradeAction.TRADE_ACTION_CANCEL
SPREAD_S = 4000
_HIGH = {3: 1 << 63}  # the numbers of an instrument begin there: the lake has them as negative ones
_IDS = (1, 2, 3)

Place = tuple[int, int]
Row = tuple[Place, dict[str, int]]


class ChangedTrades:
    """Writes trades and what changes them: of each number there is a trade of each instrument."""

    def __init__(self, world: World, seed: int = 5) -> None:
        self.world = world
        self.number = 0
        self._draw = np.random.default_rng(seed).integers

    async def write(self, entries: int) -> None:
        for _ in range(entries):
            await self.world.write(self.trades(4), self.random_changes(5))

    def trades(self, numbers: int) -> Batch:
        ids = np.repeat(_IDS, numbers)
        sequences = self._sequences(ids, np.tile(np.arange(self.number, self.number + numbers), len(_IDS)))
        self.number += numbers
        return make_batch(Kind.TRADE, self._values(ids) | {"sequence": sequences})

    def random_changes(self, rows: int) -> Batch:
        ids = self._draw(1, 4, rows)
        refers_to = self._sequences(ids, self._draw(0, self.number, rows))
        values = self._values(ids) | {"sequence": np.full(rows, 1 << 40)}
        return make_batch(Kind.TRADE, values | {"action": self._draw(1, 3, rows), "refers_to": refers_to})

    def changes_of(self, instrument: int, number: int) -> Batch:
        ids = np.array([instrument])
        refers_to = self._sequences(ids, [number])
        return make_batch(Kind.TRADE, self._values(ids) | {"action": [CANCEL], "refers_to": refers_to})

    def _sequences(self, ids: Any, numbers: Any) -> list[int]:
        return [int(number) + _HIGH.get(int(one), 0) for one, number in zip(ids, numbers, strict=True)]

    def _values(self, ids: Any) -> dict[str, Any]:
        rows = len(ids)
        return {
            "instrument_id": ids,
            "ts_event": NOW_NS + self._draw(0, SPREAD_S, rows) * NANOS,
            "price": self._draw(1, 50, rows) * NANOS,
            "size": self._draw(1, 50, rows) * NANOS,
            "side": self._draw(0, 3, rows),
        }

    def rows(self) -> list[Row]:
        """Return all rows in the order of the tape, with their places."""
        found: list[Row] = []
        for sequence, first, batch in self.world.sent:
            if batch.kind is Kind.TRADE:
                found += [((sequence, first + row), values) for row, values in enumerate(facts(batch))]
        return sorted(found, key=lambda row: row[0])

    def changes(self) -> dict[tuple[int, int], dict[str, int]]:
        """Return what changed each trade last."""
        rows = (row for _, row in self.rows() if row["action"])
        return {(row["instrument_id"], row["refers_to"]): row for row in rows}

    def on_tape(self, after: int = 0) -> list[dict[str, int]]:
        """Return rows as who reads the tape is told them: trades as they stand, and what changes them."""
        changes = self.changes()
        told: list[dict[str, int]] = []
        for row in (row for place, row in self.rows() if place[0] > after):
            change = changes.get((row["instrument_id"], row["sequence"])) if not row["action"] else None
            if change is None:
                told.append(row)
            elif change["action"] != CANCEL:
                told.append(row | {name: change[name] for name in ("price", "size", "side")})
        return told

    def standing(self, ids: tuple[int, ...] = _IDS, times: tuple[int, int] = (0, ABSENT)) -> list[dict[str, int]]:
        """Return the trades as they stand in the order of time and place."""
        trades = [row for row in self.on_tape() if not row["action"] and row["instrument_id"] in ids]
        trades = [row for row in trades if times[0] <= row["ts_event"] <= times[1]]
        return sorted(trades, key=lambda row: row["ts_event"])  # stable


@asynccontextmanager
async def changed_world(client: Client, folder: Path, **options: Any) -> AsyncIterator[ChangedTrades]:
    """Give changed trades in sorted files, in files as they came, and on the tape."""
    async with world_of(client, folder, known=KNOWN, **options) as world:
        changed = ChangedTrades(world)
        await changed.write(10)
        await world.archive()
        await changed.write(10)
        await world.archive(compact=True)
        lake = Lake(Location(str(folder)), world.hub.dataset, world.hub.epoch)  # its look at the lake is its own
        assert all(file.is_sorted for file in lake.view().tables["trades"].files)
        await changed.write(8)
        await world.archive()
        await changed.write(8)
        yield changed


async def at_head(changed: ChangedTrades) -> None:
    """Wait until the hub has taken in all that was sent."""
    last = max(sequence for sequence, _, _ in changed.world.sent)
    await eventually(lambda: changed.world.hub.head == last, within_s=30)


def brief(rows: list[dict[str, int]]) -> list[tuple[int, ...]]:
    names = ("ts_event", "instrument_id", "sequence", "price", "size", "side", "action")
    return [tuple(row[name] for name in names) for row in rows]
