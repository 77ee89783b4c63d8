"""A dataset's policy, kept in its instrument log."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.client import Client

from marketdata.v1.instrument_pb2 import Instrument
from marketdata.v1.policy_pb2 import Policy
from mda.ingestion import datasets as datasets_module
from mda.ingestion.datasets import Dataset
from mda.market.bits import CROSSED, LOCKED
from mda.market.errors import MarketDataError
from mda.market.instruments import Directory
from mda.market.policy import DEFAULT_RULES
from mda.runtime.validation import validate_request
from mda.tape.tape import InstrumentLog
from tests.ingestion.feeding import make_dataset, make_datasets
from tests.tape.helpers import eventually, new_name, running
from tests.tape.nats_server import NatsServer


@pytest.fixture
async def dataset(client: Client) -> Dataset:
    return await make_dataset(client, new_name(), "A")


async def test_a_policy_is_put_once_and_holds_at_once(dataset: Dataset) -> None:
    assert dataset.directory.rules is DEFAULT_RULES
    policy = Policy(crossed=Policy.ACTION_REJECT)
    told = await dataset.put_policy(policy)
    assert (told.crossed, told.locked) == (Policy.ACTION_REJECT, Policy.ACTION_IGNORE)
    assert dataset.directory.rules.refused & CROSSED
    version = dataset.directory.version
    assert await dataset.put_policy(policy) == told
    assert dataset.directory.version == version  # what changes nothing is not written


async def test_instruments_and_policies_leave_each_other_alone(dataset: Dataset, client: Client) -> None:
    await dataset.put_policy(Policy(locked=Policy.ACTION_FLAG))
    await dataset.put_instruments([Instrument(symbol="B")])
    await dataset.refresh()
    assert dataset.directory.rules.flagged & LOCKED
    directory = Directory()
    await InstrumentLog(client, dataset.tape.dataset).catch_up(directory)
    assert [instrument.symbol for instrument in directory.page(0, 9)] == ["A", "B"]
    assert (directory.policy.locked, directory.version) == (Policy.ACTION_FLAG, 3)


async def test_policies_put_at_once_are_all_written(dataset: Dataset, client: Client) -> None:
    others = [await make_datasets(client).get(dataset.tape.dataset) for _ in range(3)]
    actions = [Policy.ACTION_FLAG, Policy.ACTION_IGNORE, Policy.ACTION_REJECT]
    before = dataset.directory.version
    await asyncio.gather(
        *(other.put_policy(Policy(locked=action)) for other, action in zip(others, actions, strict=True))
    )
    await dataset.refresh()
    assert dataset.directory.version == before + 3


async def test_other_instances_follow(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets_module, "_LOOK_S", 0.02)
    dataset = await make_dataset(client, new_name(), "A")
    others = make_datasets(client)
    other = await others.get(dataset.tape.dataset)
    async with running(others.follow()):
        await dataset.put_policy(Policy(crossed=Policy.ACTION_IGNORE))
        await eventually(lambda: not other.directory.rules.sought & CROSSED, within_s=2)


async def test_following_waits_an_outage_out(
    own_nats: NatsServer, own_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets_module, "_LOOK_S", 0.02)
    dataset = await make_dataset(own_client, new_name(), "A")
    others = make_datasets(own_client)
    other = await others.get(dataset.tape.dataset)
    async with running(others.follow()):
        own_nats.kill()
        await eventually(lambda: not own_client.is_connected)
        await asyncio.sleep(0.1)
        own_nats.start()
        await eventually(lambda: own_client.is_connected)
        await dataset.put_policy(Policy(crossed=Policy.ACTION_IGNORE))
        await eventually(lambda: not other.directory.rules.sought & CROSSED)


async def test_a_dataset_made_before_there_was_a_quarantine_gets_one(client: Client) -> None:
    name = new_name()
    dataset = await make_dataset(client, name, "A")
    await client.jetstream().delete_stream(dataset.quarantine._log.stream)
    again = await make_datasets(client).get(name)
    assert await again.quarantine.newest_of("p") is None


def durations(seconds: int, nanos: int = 0) -> dict[str, int]:
    return {"seconds": seconds, "nanos": nanos}


@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        Policy(unknown_instrument=Policy.ACTION_QUARANTINE, not_a_price=Policy.ACTION_REJECT),
        Policy(stale_after=durations(0, 1), future_after=durations(0)),
        Policy(stale_after=durations(365 * 86_400), future_after=durations(3599, 999_999_999)),
        Policy(outlier_basis_points=1_000_000),
    ],
)
def test_good_policies_are_taken(policy: Policy) -> None:
    validate_request(policy)


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (Policy(unknown_instrument=Policy.ACTION_FLAG), "unknown_instrument"),
        (Policy(unknown_instrument=Policy.ACTION_IGNORE), "unknown_instrument"),
        (Policy(not_a_price=Policy.ACTION_FLAG), "not_a_price"),
        (Policy(not_a_price=Policy.ACTION_IGNORE), "not_a_price"),
        (Policy(crossed=9), "crossed"),  # type: ignore[arg-type]
        (Policy(stale_after=durations(0)), "stale_after"),
        (Policy(stale_after=durations(365 * 86_400, 1)), "stale_after"),
        (Policy(future_after=durations(-1)), "future_after"),
        (Policy(future_after=durations(3600)), "future_after"),
        (Policy(outlier_basis_points=1_000_001), "outlier_basis_points"),
    ],
)
def test_bad_policies_are_refused(policy: Policy, field: str) -> None:
    with pytest.raises(MarketDataError) as caught:
        validate_request(policy)
    assert (caught.value.reason_name, caught.value.field) == ("INVALID_FIELD", field)
