"""Revocations on their way from the store to the services."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from nats.aio.client import Client as Nats
from nats.js.errors import NotFoundError

from mda.auth.actor import Actor
from mda.auth.clients import Clients, Wish
from mda.auth.records import Client
from mda.auth.store import Store
from mda.auth.telling import Teller
from mda.auth.tiers import Tier
from mda.runtime.identity import Principal
from mda.runtime.revocation import STREAM, Revocation, Revocations, Revoked, following_revocations
from mda.runtime.settings import ServiceSettings
from mda.runtime.tasks import background_tasks
from tests.auth.conftest import StandingClock
from tests.tape.nats_server import NatsServer


async def until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def desk(store: Store, actor: Actor, clock: StandingClock) -> Client:
    return Clients(store, clock).create(actor, "desk", Wish(Tier.PRO, ["reader"], ["SIM"]))


@pytest_asyncio.fixture
async def told(store: Store, own_nats: NatsServer) -> AsyncIterator[tuple[Teller, Revocations]]:
    settings = ServiceSettings(nats_url=own_nats.url)
    teller = Teller(store, replicas=1)
    async with background_tasks() as tasks:
        tasks.create_task(teller.run(settings))
        async with following_revocations(settings) as revocations:
            yield teller, revocations


def holder(client: Client) -> Principal:
    return Principal(client.id, frozenset(), "", 0, version=client.version)


async def test_a_change_reaches_the_services_within_a_second(
    told: tuple[Teller, Revocations], store: Store, actor: Actor, desk: Client
) -> None:
    teller, revocations = told
    began = time.monotonic()
    Clients(store).disable(actor, desk.id)
    teller.wake()
    await until(lambda: revocations.covers(holder(desk)))
    assert time.monotonic() - began < 1
    await until(lambda: store.unsent_revocations() == [])


async def test_a_change_by_another_process_is_found(
    told: tuple[Teller, Revocations], store: Store, actor: Actor, desk: Client
) -> None:
    began = time.monotonic()
    Clients(store).update(actor, desk.id, Wish(datasets=["*"]))
    await until(lambda: told[1].covers(holder(desk)))
    assert time.monotonic() - began < 1.5


async def test_what_is_revoked_while_nats_is_away_is_told_when_it_is_back(
    told: tuple[Teller, Revocations], store: Store, actor: Actor, desk: Client, own_nats: NatsServer, own_client: Nats
) -> None:
    await until(lambda: own_client.is_connected)
    teller, revocations = told
    own_nats.kill()
    Clients(store).disable(actor, desk.id)
    teller.wake()
    await asyncio.sleep(0)
    assert store.unsent_revocations() != []
    own_nats.start()
    await until(lambda: revocations.covers(holder(desk)), 20)
    await until(lambda: store.unsent_revocations() == [])
    assert (await own_client.jetstream().stream_info(STREAM)).state.messages >= 1


async def test_services_that_start_after_the_log_was_lost_know_what_was_told_before(
    told: tuple[Teller, Revocations], store: Store, actor: Actor, desk: Client, own_nats: NatsServer, own_client: Nats
) -> None:
    await until(lambda: own_client.is_connected)
    Clients(store).disable(actor, desk.id)
    await until(lambda: told[1].covers(holder(desk)))
    await until(lambda: store.unsent_revocations() == [])
    await own_client.jetstream().delete_stream(STREAM)
    await until_told(own_client)
    async with following_revocations(ServiceSettings(nats_url=own_nats.url)) as started_later:
        await until(lambda: started_later.covers(holder(desk)))


async def until_told(nats: Nats) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                if (await nats.jetstream().stream_info(STREAM)).state.messages:
                    return
            except NotFoundError:
                await asyncio.sleep(0.01)


async def test_more_than_a_page_is_sent(told: tuple[Teller, Revocations], store: Store) -> None:
    later = time.time() + 3600
    with store.change() as change:
        for number in range(2_500):
            change.revoke(Revocation(Revoked.TOKEN, f"t{number}", 0, later))
    last = Principal("c", frozenset(), "", later, token_id="t2499")
    await until(lambda: told[1].covers(last), 20)
    await until(lambda: store.unsent_revocations() == [])
