"""A producer and its readers, each of which can prove what it has."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import numpy as np

from marketdata.client import Client
from marketdata.columns import Batch, Kind, make_batch
from marketdata.digest import Digest, digest_of
from marketdata.subscriber import Start, Subscriber

INSTRUMENTS = 5
PAUSE_S = 0.02


def random_batch(chance: np.random.Generator, first: int) -> Batch:
    """Return trades or quotes of several instruments, numbered from `first` on."""
    rows = int(chance.integers(1, 40))
    columns: dict[str, Any] = {
        "instrument_id": chance.integers(1, INSTRUMENTS + 1, rows),
        "ts_event": np.full(rows, time.time_ns()),
        "sequence": np.arange(first, first + rows),
    }
    price = chance.integers(1, 1 << 40, rows)
    if chance.random() < 0.5:
        return make_batch(Kind.TRADE, {**columns, "price": price})
    return make_batch(Kind.QUOTE, {**columns, "bid_price": price, "ask_price": price + 1})


def note_newest(newest: dict[tuple[Kind, int], int], batch: Batch) -> None:
    """Note the number of the newest row of each instrument and kind."""
    for instrument, sequence in zip(batch["instrument_id"].tolist(), batch["sequence"].tolist(), strict=True):
        newest[batch.kind, instrument] = sequence


class Producer:
    """Publishes random batches and adds up what it published."""

    def __init__(self, seed: int) -> None:
        self._chance = np.random.default_rng(seed)
        self.rows = 0
        self.digest = Digest()
        self.newest: dict[tuple[Kind, int], int] = {}
        self.acknowledged = 0
        self.duplicates = 0
        self.stop = asyncio.Event()

    async def run(self, client: Client, dataset: str) -> None:
        async with client.publisher(dataset, "producer") as publisher:
            while not self.stop.is_set():
                batch = random_batch(self._chance, self.rows)
                await publisher.publish(batch)
                self.rows += batch.rows
                self.digest += digest_of(batch)
                for instrument, sequence in zip(
                    batch["instrument_id"].tolist(), batch["sequence"].tolist(), strict=True
                ):
                    self.newest[batch.kind, instrument] = sequence
                self.acknowledged = publisher.acknowledged_rows
                await asyncio.sleep(PAUSE_S)
            await publisher.flush()
            self.acknowledged = publisher.acknowledged_rows
            self.duplicates = publisher.duplicate_batches


class Lossless:
    """Reads every row, at its own pace; may give up its subscription at random and go on by its cursor."""

    def __init__(self, *, pause_s: float = 0.0, reconnects: random.Random | None = None) -> None:
        self._pause_s = pause_s
        self._reconnects = reconnects
        self.rows = 0
        self.digest = Digest()
        self.gaps = 0
        self.subscriptions = 0
        self.drains = 0
        self.first_cursor = ""
        self.cursor = ""
        self.subscribed = asyncio.Event()

    async def run(self, client: Client, dataset: str) -> None:
        while True:
            self.subscriptions += 1
            await self._read(client.subscribe(dataset, None, Start(cursor=self.cursor)))

    async def _read(self, subscriber: Subscriber) -> None:
        async for update in subscriber:
            for batch in update.batches:
                self.rows += batch.rows
                self.digest += digest_of(batch)
            self.gaps += len(update.gaps)
            self.drains += update.draining
            self.cursor = update.cursor or self.cursor
            self.first_cursor = self.first_cursor or self.cursor
            self.subscribed.set()
            if self._pause_s:
                await asyncio.sleep(self._pause_s)
            if self._reconnects is not None and self._reconnects.random() < 0.05:
                return


class Conflated:
    """Reads the newest rows only, and counts the others."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self.rows = 0
        self.folded = 0
        self.newest: dict[tuple[Kind, int], int] = {}
        self.subscribed = asyncio.Event()

    async def run(self, client: Client, dataset: str) -> None:
        async for update in client.subscribe(dataset, None, Start(conflate_s=self._interval_s)):
            self.subscribed.set()
            self.folded += update.folded_rows
            for batch in update.batches:
                self.rows += batch.rows
                for instrument, sequence in zip(
                    batch["instrument_id"].tolist(), batch["sequence"].tolist(), strict=True
                ):
                    self.newest[batch.kind, instrument] = sequence
