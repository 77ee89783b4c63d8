"""Rows set aside: durable before their batch is acknowledged, and once, whatever is lost or sent again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from nats.aio.client import Client

from marketdata.columns import Batch
from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1.policy_pb2 import Policy
from mda.ingestion import sideline as sideline_module
from mda.ingestion.commit import Numbered
from mda.ingestion.datasets import Dataset
from mda.ingestion.publication import Outcome, Publication
from mda.ingestion.rows import Published, RowPublisher
from mda.market.errors import MarketDataError
from mda.tape.log import Log
from mda.tape.quarantine import Quarantine, SetAside
from mda.tape.tape import Retention
from tests.ingestion.feeding import make_dataset, make_datasets
from tests.tape.helpers import new_name, quotes, rows_of, rows_on_tape, running
from tests.tape.nats_server import NatsServer


class LossyQuarantine(Quarantine):
    """A quarantine whose answers are lost, before or after the entry is written."""

    def __init__(self, dataset: str, client: Client, seed: int) -> None:
        super().__init__(client, dataset)
        self._random = random.Random(seed)
        self.lost = {"request": 0, "answer": 0}

    async def append(self, producer: str, items: Sequence[SetAside], entry_id: str, previous: int) -> int:
        what = self._random.choice(["request", "answer", "nothing"])
        if what != "request":
            place = await super().append(producer, items, entry_id, previous)
            if what == "nothing":
                return place
        self.lost[what] += 1
        raise MarketDataError(reasons.ERROR_REASON_TAPE_UNAVAILABLE, "lost")


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sideline_module, "_PAUSE_S", 0)


@pytest.fixture
async def dataset(client: Client) -> Dataset:
    made = await make_dataset(client, new_name(), "A")
    await made.put_policy(Policy(crossed=Policy.ACTION_QUARANTINE))
    return made


def some_crossed(first: int, rows: int, crossed: set[int]) -> Batch:
    """Return quotes numbered from `first`, of which those of some numbers are crossed."""
    return quotes(first, rows, bid_price=[30 if first + row in crossed else 10 for row in range(rows)])


async def set_aside(dataset: Dataset) -> list[int]:
    """Read the numbers of all rows in quarantine, in its order."""
    numbers: list[int] = []
    after = 0
    while entries := await dataset.quarantine.read(after):
        for entry in entries:
            numbers += rows_of([item.batch for item in entry.items])
        after = entries[-1].sequence
    return numbers


async def publish(dataset: Dataset, numbered: dict[int, Batch], **options: Any) -> list[Outcome]:
    publication = Publication(dataset, "p", **options)
    await publication.open()
    for number, batch in numbered.items():
        await publication.submit(Numbered(number, batch))
    publication.close()
    return [outcome async for group in publication.outcomes() for outcome in group]


async def test_rows_are_set_aside_and_the_rest_is_on_the_tape(dataset: Dataset, client: Client) -> None:
    outcomes = await publish(dataset, {1: some_crossed(1, 4, {2, 3}), 2: some_crossed(5, 2, set())})
    assert outcomes == [Outcome(1, 2, 0, 2), Outcome(2, 2)]
    assert await rows_on_tape(client, dataset.tape.dataset) == [1, 4, 5, 6]
    assert await set_aside(dataset) == [2, 3]


async def test_a_batch_all_of_whose_rows_are_set_aside_is_acknowledged(dataset: Dataset, client: Client) -> None:
    assert await publish(dataset, {1: some_crossed(1, 2, {1, 2})}) == [Outcome(1, 2, 0, 2)]
    (_, entry) = await dataset.tape.read(0)
    assert (entry.entry.first_number, entry.entry.last_number, entry.entry.payload) == (1, 1, b"")
    again = await publish(dataset, {1: some_crossed(1, 2, {1, 2}), 2: some_crossed(3, 1, set())})
    assert again[0] == Outcome(1, 0, duplicate=True)
    assert await set_aside(dataset) == [1, 2]
    assert await rows_on_tape(client, dataset.tape.dataset) == [3]


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize("seed", range(4))
async def test_lost_requests_and_answers_lose_and_double_nothing(dataset: Dataset, client: Client, seed: int) -> None:
    lossy = LossyQuarantine(dataset.tape.dataset, client, seed)
    dataset.quarantine = lossy
    publication = Publication(dataset, "p")
    await publication.open()
    outcomes = publication.outcomes()
    for number in range(1, 41):
        await publication.submit(Numbered(number, some_crossed(number * 2, 2, {number * 2})))
        assert [outcome.quarantined_rows for outcome in await anext(outcomes)] == [1]
    publication.close()
    assert [group async for group in outcomes] == []
    assert await set_aside(dataset) == [number * 2 for number in range(1, 41)]
    assert await rows_on_tape(client, dataset.tape.dataset) == [number * 2 + 1 for number in range(1, 41)]
    assert min(lossy.lost.values()) > 3


@pytest.mark.usefixtures("no_pause")
async def test_an_entry_whose_id_the_server_has_forgotten_is_found_by_its_place(
    nats: NatsServer, client: Client
) -> None:
    dataset = await make_dataset(client, new_name(), "A")
    await dataset.put_policy(Policy(crossed=Policy.ACTION_QUARANTINE))

    class Forgetful(Quarantine):
        """Writes with another id first, which is what a duplicate window that is over looks like."""

        fresh = True

        async def append(self, producer: str, items: Sequence[SetAside], entry_id: str, previous: int) -> int:
            if self.fresh:
                self.fresh = False
                await super().append(producer, items, entry_id, previous)
                self._log = Log(client, self._log.stream, f"{self._prefix}.>")
                raise MarketDataError(reasons.ERROR_REASON_TAPE_UNAVAILABLE, "lost")
            # Its place is taken; JetStream says so before it looks at ids it does not know.
            return await super().append(producer, items, f"{entry_id}-again", previous)

    dataset.quarantine = Forgetful(client, dataset.tape.dataset)
    await publish(dataset, {1: some_crossed(1, 2, {1})})
    assert await set_aside(dataset) == [1]


async def cut_off(dataset: Dataset, numbered: dict[int, Batch]) -> None:
    """Publish, and be cut off after rows are set aside and before the rest is on the tape."""

    class DeadTape(type(dataset.tape)):  # type: ignore[misc]
        async def append(self, producer: str, entry: Any, link: Any, expected: Any) -> int:
            if entry.last_number:
                raise MarketDataError(reasons.ERROR_REASON_TAPE_FULL, "dead")
            return await super().append(producer, entry, link, expected)

    living = dataset.tape
    dataset.tape = DeadTape(living._log._client, living.dataset)
    with pytest.raises(MarketDataError, match="dead"):
        await publish(dataset, numbered)
    dataset.tape = living


async def restarted(dataset: Dataset, client: Client) -> Dataset:
    """Return the dataset as another process has it."""
    return await make_datasets(client).get(dataset.tape.dataset)


async def test_what_was_set_aside_before_a_restart_is_not_set_aside_again(dataset: Dataset, client: Client) -> None:
    numbered = {1: some_crossed(1, 4, {2, 3}), 2: some_crossed(5, 3, {5, 7}), 3: some_crossed(8, 1, set())}
    await cut_off(dataset, numbered)
    assert await set_aside(dataset) == [2, 3, 5, 7]
    outcomes = await publish(await restarted(dataset, client), numbered)
    assert [outcome.quarantined_rows for outcome in outcomes] == [2, 2, 0]
    assert await set_aside(dataset) == [2, 3, 5, 7]
    assert await rows_on_tape(client, dataset.tape.dataset) == [1, 4, 6, 8]


async def test_entries_of_groups_before_are_looked_up_too(dataset: Dataset, client: Client) -> None:
    numbered = {number: some_crossed(number * 2, 2, {number * 2}) for number in range(1, 6)}
    for last in (1, 3, 5):  # each time further: three entries, of which the tape has none
        await cut_off(dataset, {number: numbered[number] for number in range(1, last + 1)})
    assert len(await dataset.quarantine.read(0)) == 3
    await publish(await restarted(dataset, client), numbered)
    assert await set_aside(dataset) == [2, 4, 6, 8, 10]
    assert await rows_on_tape(client, dataset.tape.dataset) == [3, 5, 7, 9, 11]


@pytest.mark.parametrize("action", [Policy.ACTION_FLAG, Policy.ACTION_IGNORE])
async def test_a_policy_that_changed_since_leaves_what_is_set_aside_there(
    dataset: Dataset, client: Client, action: Policy.Action
) -> None:
    numbered = {1: some_crossed(1, 4, {2, 3})}
    await cut_off(dataset, numbered)
    await dataset.put_policy(Policy(crossed=action))
    outcomes = await publish(await restarted(dataset, client), numbered)
    assert outcomes == [Outcome(1, outcomes[0].sequence, 0, 2)]
    assert await set_aside(dataset) == [2, 3]
    assert await rows_on_tape(client, dataset.tape.dataset) == [1, 4]


async def test_a_stricter_policy_sets_the_others_aside_as_well(dataset: Dataset, client: Client) -> None:
    batch = quotes(1, 3, bid_price=[30, 20, 10])
    await cut_off(dataset, {1: batch})
    await dataset.put_policy(Policy(crossed=Policy.ACTION_QUARANTINE, locked=Policy.ACTION_QUARANTINE))
    outcomes = await publish(await restarted(dataset, client), {1: batch})
    assert outcomes[0].quarantined_rows == 2
    assert await set_aside(dataset) == [1, 2]
    assert await rows_on_tape(client, dataset.tape.dataset) == [3]


@pytest.mark.parametrize(
    "other", [some_crossed(11, 4, {12}), some_crossed(11, 2, {12})], ids=["other rows", "fewer rows"]
)
async def test_other_rows_under_a_number_are_judged_for_themselves(
    dataset: Dataset, client: Client, other: Batch
) -> None:
    await cut_off(dataset, {1: some_crossed(1, 4, {2, 3})})
    await publish(await restarted(dataset, client), {1: other})
    assert await set_aside(dataset) == [2, 3, 12]
    expected = [number for number in rows_of([other]) if number != 12]
    assert await rows_on_tape(client, dataset.tape.dataset) == expected


async def test_an_older_connection_that_does_not_know_yet_doubles_nothing(dataset: Dataset, client: Client) -> None:
    batch = some_crossed(1, 4, {2, 3})
    older, newer = Publication(dataset, "p"), Publication(await restarted(dataset, client), "p")
    await older.open()
    await newer.open()
    for publication in (older, newer):
        await publication.submit(Numbered(1, batch))
        publication.close()
    with pytest.raises(MarketDataError) as caught:
        [group async for group in older.outcomes()]
    assert caught.value.reason_name == "FENCED"
    assert await set_aside(dataset) == [2, 3]
    outcomes = [outcome async for group in newer.outcomes() for outcome in group]
    assert [outcome.quarantined_rows for outcome in outcomes] == [2]
    assert await set_aside(dataset) == [2, 3]
    assert await rows_on_tape(client, dataset.tape.dataset) == [1, 4]


async def test_rows_are_not_acknowledged_while_the_quarantine_is_full(dataset: Dataset, client: Client) -> None:
    small = Quarantine(client, new_name())
    await small.create(Retention(2_000, 1))
    dataset.quarantine = small
    with pytest.raises(MarketDataError, match="quarantine is full") as caught:
        await publish(dataset, {1: some_crossed(1, 200, set(range(1, 201)))})
    assert caught.value.reason_name == "TAPE_FULL"
    assert await rows_on_tape(client, dataset.tape.dataset) == []
    await dataset.put_policy(Policy())
    assert (await publish(dataset, {1: some_crossed(1, 200, {5})}))[0].flagged_rows == 1


async def test_gives_up_on_a_quarantine_that_stays_away(
    own_nats: NatsServer, own_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sideline_module, "_GIVE_UP_S", 0)
    dataset = await make_dataset(own_client, new_name(), "A")
    await dataset.put_policy(Policy(crossed=Policy.ACTION_QUARANTINE))
    publication = Publication(dataset, "p")
    await publication.open()
    await publication.submit(Numbered(1, some_crossed(1, 2, {1})))
    own_nats.kill()
    with pytest.raises(MarketDataError) as caught:
        [group async for group in publication.outcomes()]
    assert caught.value.reason_name == "TAPE_UNAVAILABLE"


async def test_policy_changes_while_publishing_lose_and_double_no_row(dataset: Dataset, client: Client) -> None:
    other = await restarted(dataset, client)
    publication = Publication(dataset, "p")
    await publication.open()
    actions = [Policy.ACTION_QUARANTINE, Policy.ACTION_FLAG, Policy.ACTION_IGNORE]
    seen: list[Outcome] = []

    async def take() -> None:
        async for group in publication.outcomes():
            seen.extend(group)

    async with running(take()) as (taking,):
        for number in range(1, 61):
            await publication.submit(Numbered(number, some_crossed(number * 3, 3, {number * 3})))
            if number % 5 == 0:
                await other.put_policy(Policy(crossed=actions[number // 5 % 3]))
                await dataset.refresh()  # as `Datasets.follow` does
        publication.close()
        await taking
    aside, kept = await set_aside(dataset), await rows_on_tape(client, dataset.tape.dataset)
    assert sorted([*aside, *kept]) == list(range(3, 183))
    assert all(number % 3 == 0 for number in aside)
    assert sum(outcome.quarantined_rows for outcome in seen) == len(aside) > 0
    assert sum(outcome.flagged_rows for outcome in seen) > 0


async def test_rows_of_unary_calls_are_set_aside(dataset: Dataset, client: Client) -> None:
    publisher = RowPublisher(dataset)
    async with running(publisher.run()):
        published = await publisher.publish(some_crossed(1, 3, {2}))
        assert published == Published(published.sequence, 0, 1)
        whole = await publisher.publish(some_crossed(4, 1, {4}))
        assert whole == Published(published.sequence + 1, 0, 1)
    assert await set_aside(dataset) == [2, 4]
    assert await rows_on_tape(client, dataset.tape.dataset) == [1, 3]


async def test_a_caller_whose_row_the_policy_refuses_harms_no_other(dataset: Dataset, client: Client) -> None:
    await dataset.put_policy(Policy(out_of_order=Policy.ACTION_REJECT))
    publisher = RowPublisher(dataset)
    async with running(publisher.run()):
        await publisher.publish(quotes(5))
        with pytest.raises(MarketDataError, match="OUT_OF_ORDER"):
            await publisher.publish(quotes(1))
        await publisher.publish(quotes(6))
    assert await rows_on_tape(client, dataset.tape.dataset) == [5, 6]
