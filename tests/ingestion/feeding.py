"""Datasets to feed."""

from __future__ import annotations

from nats.aio.client import Client

from marketdata.v1.instrument_pb2 import Instrument
from mda.ingestion.datasets import Dataset, Datasets
from mda.ingestion.settings import IngestionSettings
from tests.tape.helpers import NOW_NS


def make_datasets(client: Client, **settings: object) -> Datasets:
    """Return datasets as one instance of ingestion has them. Its clock stands an hour after `NOW_NS`."""
    chosen = IngestionSettings.model_validate({"tape_max_bytes": 1 << 26} | settings)
    return Datasets(client, chosen, lambda: NOW_NS + 3_600_000_000_000)


async def make_dataset(client: Client, name: str, *symbols: str, **settings: object) -> Dataset:
    """Make a dataset with instruments of ids 1, 2, …"""
    dataset = await make_datasets(client, **settings).create(name)
    await dataset.put_instruments([Instrument(symbol=symbol) for symbol in symbols])
    await dataset.refresh()
    return dataset
