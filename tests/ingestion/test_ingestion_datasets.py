"""Datasets, and instruments put by several at once."""

from __future__ import annotations

import asyncio
import random

import pytest
from nats.aio.client import Client
from pydantic import ValidationError

from marketdata.v1.instrument_pb2 import Instrument
from mda.ingestion.settings import IngestionSettings
from mda.market.errors import MarketDataError
from mda.market.policy import DEFAULT_RULES
from mda.tape.connection import connect
from mda.tape.tape import Retention, list_datasets
from tests.ingestion.feeding import make_dataset, make_datasets
from tests.tape.helpers import new_name, trades
from tests.tape.nats_server import NatsServer


def instruments(*symbols: str) -> list[Instrument]:
    return [Instrument(symbol=symbol) for symbol in symbols]


async def test_an_unknown_dataset_is_refused_and_not_made(client: Client) -> None:
    name = new_name()
    datasets = make_datasets(client)
    for _ in range(2):
        with pytest.raises(MarketDataError) as caught:
            await datasets.get(name)
        assert caught.value.reason_name == "UNKNOWN_DATASET"
        assert caught.value.metadata == {"field": "dataset", "dataset": name}
    assert name not in await list_datasets(client)


async def test_create_makes_tape_and_instruments_and_again_gives_the_same(client: Client) -> None:
    name = new_name("A.B")
    datasets = make_datasets(client)
    one, other = await asyncio.gather(datasets.create(name), datasets.create(name))
    assert one is other is await datasets.get(name)
    assert await one.instruments.exists()
    assert await one.tape.bounds() is not None


async def test_get_knows_what_is_there(client: Client) -> None:
    made = await make_dataset(client, new_name(), "A", "B")
    found = await make_datasets(client).get(made.tape.dataset)
    assert found is not made
    assert [i.symbol for i in found.directory.page(0, 9)] == ["A", "B"]


async def test_rolling_datasets_keep_for_a_time_and_others_for_ever() -> None:
    settings = IngestionSettings(rolling_datasets=frozenset({"R"}), rolling_keep_s=60, tape_max_bytes=1 << 20)
    assert settings.retention("R") == Retention(1 << 20, 1, 60)
    assert settings.retention("K") == Retention(1 << 20, 1, None)
    assert IngestionSettings().retention("SIM").keep_s == 86_400
    with pytest.raises(ValidationError):
        IngestionSettings(tape_replicas=0)


async def test_put_instruments_gives_ids_and_is_idempotent(client: Client) -> None:
    dataset = await make_datasets(client).create(new_name())
    first = await dataset.put_instruments(instruments("A", "B"))
    assert [(i.symbol, i.instrument_id) for i in first] == [("A", 1), ("B", 2)]
    await dataset.refresh()
    version = dataset.directory.version
    again = await dataset.put_instruments(instruments("B", "A", "C"))
    assert [(i.symbol, i.instrument_id) for i in again] == [("B", 2), ("A", 1), ("C", 3)]
    await dataset.put_instruments(instruments("B", "A", "C"))
    await dataset.refresh()
    assert dataset.directory.version == version + 1  # what changes nothing is not written


async def test_put_instruments_changes_what_is_known(client: Client) -> None:
    dataset = await make_dataset(client, new_name(), "A")
    with pytest.raises(MarketDataError, match="not a price"):
        await dataset.check(trades(1, price=[-5]), DEFAULT_RULES)
    await dataset.put_instruments([Instrument(symbol="A", negative_prices=True)])
    await dataset.refresh()
    await dataset.check(trades(1, price=[-5]), DEFAULT_RULES)
    assert len(dataset.directory) == 1


async def test_instances_that_put_at_once_give_unique_ids_without_holes(nats: NatsServer, client: Client) -> None:
    name = new_name()
    async with connect(nats.url, None, "one") as one, connect(nats.url, None, "other") as other:
        instances = [await make_datasets(connection).create(name) for connection in (client, one, other)]
        chance = random.Random(3)
        symbols = [f"S{number}" for number in range(30)]

        async def put(instance: int) -> list[Instrument]:
            results: list[Instrument] = []
            order = [*chance.sample(symbols, len(symbols)), f"OWN{instance}"]
            while order:
                few, order = order[:4], order[4:]
                results += await instances[instance].put_instruments(instruments(*few))
            return results

        told = await asyncio.gather(*(put(instance) for instance in range(3)))
        for instance in instances:
            await instance.refresh()
        known = {i.symbol: i.instrument_id for i in instances[0].directory.page(0, 99)}
    assert sorted(known.values()) == list(range(1, 34))
    for results in told:
        assert len(results) == 31
        assert all(known[i.symbol] == i.instrument_id for i in results)
    assert [len(instance.directory) for instance in instances] == [33, 33, 33]


async def test_an_unknown_symbol_makes_it_look_once_more(client: Client) -> None:
    dataset = await make_dataset(client, new_name(), "A")
    other = await make_datasets(client).get(dataset.tape.dataset)
    await other.put_instruments(instruments("B"))
    await dataset.know(["A"])
    assert dataset.directory.find("B") is None  # all were known: no look
    await dataset.know(["A", "B"])
    assert dataset.directory.find("B") is not None
    await dataset.know(["NOBODY"])
    assert dataset.directory.find("NOBODY") is None


async def test_an_instrument_that_nobody_put_stays_unknown(client: Client) -> None:
    dataset = await make_dataset(client, new_name(), "A")
    with pytest.raises(MarketDataError) as caught:
        await dataset.check(trades(1, 2, instrument_id=[1, 2]), DEFAULT_RULES)
    assert caught.value.reason_name == "UNKNOWN_INSTRUMENT_ID"
    assert caught.value.metadata["row"] == "1"


async def test_without_nats_nothing_is_said_to_be_unknown(own_nats: NatsServer, own_client: Client) -> None:
    datasets = make_datasets(own_client)
    own_nats.kill()
    other = make_datasets(own_client)
    failures = await asyncio.gather(datasets.get("X"), other.create("X"), return_exceptions=True)
    assert [getattr(failure, "reason_name", failure) for failure in failures] == ["TAPE_UNAVAILABLE"] * 2
