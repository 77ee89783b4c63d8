"""Processes that share what clients use, by a real NATS."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from issuing import eventually

from mda.market.errors import MarketDataError
from mda.market.quotas import Quotas
from mda.runtime.settings import ServiceSettings
from mda.runtime.usage.sharing import shared_usage
from mda.tape.connection import connect
from mda.tape.counters import Counters
from mda.tape.news import News
from tests.tape.nats_server import NatsServer


@pytest.fixture
def client(request: pytest.FixtureRequest) -> str:
    """Give each test a client of its own: what was counted stays."""
    return f"mdc_{request.node.name}"


def _settings(nats: NatsServer) -> ServiceSettings:
    return ServiceSettings(nats_url=nats.url)


async def test_limits_are_not_multiplied_by_processes(nats: NatsServer, client: str) -> None:
    quotas = Quotas(requests_per_second=1, streams=2)
    async with shared_usage(_settings(nats)) as here, shared_usage(_settings(nats)) as there:
        mine, other = here.account(client, quotas), there.account(client, quotas)
        assert mine.calls_left == other.calls_left
        with mine.stream(), mine.stream():
            await eventually(lambda: there.meter.streams(client) == 2)
            with pytest.raises(MarketDataError, match="streams"), other.stream():
                pass
        await eventually(lambda: there.meter.streams(client) == 0)
        mine.take_call()
        mine.take_call()

        def spent() -> bool:
            left = other.calls_left
            return left is not None and left.remaining == 0

        await eventually(spent)
        with pytest.raises(MarketDataError, match="1 calls a second"):
            other.take_call()


async def test_rows_of_a_day_add_up_and_outlive_processes(nats: NatsServer, client: str) -> None:
    quotas = Quotas(rows_per_day=100)
    async with AsyncExitStack() as stack:
        usages = [await stack.enter_async_context(shared_usage(_settings(nats))) for _ in range(2)]
        for usage in usages:
            usage.account(client, quotas).count_rows(40)
        for usage in usages:
            await eventually(lambda usage=usage: usage.meter.uncounted() == {})
        usages[0].meter.count_rows(client, 5)  # what a process ends with is not lost
    async with shared_usage(_settings(nats)) as later:

        async def known() -> bool:
            await later.look_up(client)
            return later.meter.rows_today(client) == 85

        while not await known():
            await asyncio.sleep(0.02)
        account = later.account(client, quotas)
        account.count_rows(15)
        with pytest.raises(MarketDataError, match="used up"):
            account.require_rows()


async def test_without_nats_limits_are_the_process_own(nats: NatsServer, client: str) -> None:
    quotas = Quotas(streams=1, rows_per_day=10)
    async with shared_usage(_settings(nats)) as usage:
        account = usage.account(client, quotas)
        account.count_rows(4)
        await eventually(lambda: usage.meter.uncounted() == {})
        nats.kill()
        account = usage.account(client, quotas)
        account.count_rows(5)
        with account.stream(), pytest.raises(MarketDataError, match="streams"), account.stream():
            pass
        account.require_rows()
        account.count_rows(1)
        with pytest.raises(MarketDataError, match="used up"):
            account.require_rows()
        nats.start()
        await eventually(lambda: usage.meter.uncounted() == {})
        assert usage.meter.rows_today(client) == 10


async def test_nobody_waits_for_a_nats_that_is_away(nats: NatsServer, client: str) -> None:
    nats.kill()
    async with asyncio.timeout(5), shared_usage(_settings(nats)) as usage:
        account = usage.account(client, Quotas(rows_per_day=10))
        await account.look_up_rows()
        account.require_rows()
    nats.start()


async def test_news_that_are_not_understood_change_nothing(nats: NatsServer, client: str) -> None:
    async with shared_usage(_settings(nats)) as usage, connect(nats.url, None, "test") as connection:
        news = News(connection, "usage.news")
        for told in (b"", b"{}", b"[1]", b'{"process": "p", "whole": true, "clients": {"mdc_1": 7}}'):
            await news.tell(told)
        good = b'{"process": "p", "whole": false, "clients": {"%s": {"streams": 3, "calls": 1}}}' % client.encode()

        async def heard() -> bool:
            await news.tell(good)
            return usage.meter.streams(client) == 3

        async with asyncio.timeout(5):
            while not await heard():
                await asyncio.sleep(0.02)


async def test_a_counter_adds_up(nats: NatsServer) -> None:
    async with connect(nats.url, None, "test") as connection:
        counters = Counters(connection, "COUNTS", "counts.>")
        await counters.create(replicas=1, keep_s=60)
        await counters.create(replicas=1, keep_s=60)  # it is there
        assert await counters.value("counts.a") == 0
        assert await asyncio.gather(*(counters.add("counts.a", 7, f"a{number}") for number in range(10))) == [
            *range(7, 77, 7)
        ]
        assert await counters.value("counts.a") == 70
        assert await counters.add("counts.a", 7, "a3") == 70  # the same once more
        assert await counters.add("counts.b", 2**40, "b") == 2**40


async def test_what_a_server_refuses_is_told(nats: NatsServer) -> None:
    async with connect(nats.url, None, "test") as connection:
        with pytest.raises(MarketDataError, match="counter refuses"):
            await Counters(connection, "THREE", "three.>").create(replicas=3, keep_s=60)
        wrong = Counters(connection, "PLAIN", "plain.>")
        await connection.jetstream().add_stream(name="PLAIN", subjects=["plain.>"])
        with pytest.raises(MarketDataError, match="counter refuses"):
            await wrong.add("plain.a", 1, "c")
