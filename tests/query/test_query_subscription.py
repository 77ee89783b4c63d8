"""Subscriptions: what is told of symbols, and of instruments before their rows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats.aio.client import Client

from marketdata.columns import Kind
from marketdata.query.v1.query_service_pb2 import (
    SubscribeRequest,
    SubscribeResponse,
    SubscriptionStatus,
    SymbolSelection,
    SymbolStatus,
)
from mda.market.errors import MarketDataError
from mda.query import subscription as subscription_module
from mda.query.symbols import split_symbols, start_position
from tests.query.feeding import Reader, make_feed, opened, reading, subscribe
from tests.tape.helpers import eventually, quotes, running, trades

S = SymbolStatus


def _statuses(reader: Reader) -> list[SubscriptionStatus]:
    return [message.status for message in reader.messages if message.HasField("status")]


def _told(reader: Reader) -> list[str]:
    return [instrument.symbol for message in reader.messages for instrument in message.instruments]


async def test_each_symbol_is_answered_in_order(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub, reading(hub, ["C", "NOPE", "A"]) as reader:
        await eventually(lambda: bool(reader.messages))
        (status,) = _statuses(reader)
        answers = [(symbol.symbol, symbol.state, symbol.instrument_id) for symbol in status.symbols]
        assert answers == [
            ("C", S.STATE_SUBSCRIBED, 3),
            ("NOPE", S.STATE_UNKNOWN_SYMBOL, 0),
            ("A", S.STATE_SUBSCRIBED, 1),
        ]
        assert (status.all, status.subscribed_count) == (False, 2)
        assert await hub.place(reader.cursor, "cursor") == 0


async def test_symbols_come_and_go_at_once(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub, reading(hub, ["A"]) as reader:
        row = 0

        async def step(number_of_statuses: int) -> None:
            nonlocal row
            await eventually(lambda: len(_statuses(reader)) == number_of_statuses)
            await feed.write(trades(row, 3, instrument_id=[1, 2, 3]))
            row += 3
            await eventually(lambda: hub.head == row // 3)

        await step(1)
        await reader.subscription.change(SubscribeRequest(subscribe=SymbolSelection(symbols=["C", "A"])))
        await step(2)
        await reader.subscription.change(SubscribeRequest(unsubscribe=SymbolSelection(symbols=["A", "B"])))
        await step(3)
        await reader.subscription.change(SubscribeRequest(unsubscribe=SymbolSelection(all=True)))
        await step(4)
        await reader.subscription.change(SubscribeRequest(subscribe=SymbolSelection(all=True)))
        await step(5)
        await reader.subscription.change(SubscribeRequest(subscribe=SymbolSelection(symbols=["B"])))
        await step(6)
        await eventually(lambda: len(reader.rows) == 10)
    assert reader.rows == [0, 3, 5, 8, 12, 13, 14, 15, 16, 17]
    assert [status.subscribed_count for status in _statuses(reader)] == [1, 2, 1, 0, 0, 0]
    assert [status.all for status in _statuses(reader)] == [False, False, False, False, True, True]
    assert _statuses(reader)[2].symbols[0].state == S.STATE_UNSUBSCRIBED


async def test_one_symbol_cannot_be_taken_from_all(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub, reading(hub) as reader:
        await eventually(lambda: bool(reader.messages))
        with pytest.raises(MarketDataError) as caught:
            await reader.subscription.change(SubscribeRequest(unsubscribe=SymbolSelection(symbols=["A"])))
        assert (caught.value.reason_name, caught.value.field) == ("INVALID_FIELD", "unsubscribe.symbols")


@pytest.mark.parametrize(
    ("request_", "field"),
    [(SubscribeRequest(), "message"), (SubscribeRequest(start=SubscribeRequest.Start(dataset="X")), "start")],
)
async def test_only_changes_may_follow_the_start(client: Client, request_: SubscribeRequest, field: str) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub:
        subscription = await subscribe(hub)
        with pytest.raises(MarketDataError) as caught:
            await subscription.change(request_)
        assert caught.value.field == field


async def test_instruments_are_told_before_rows_that_need_them(client: Client) -> None:
    feed = await make_feed(client, "S1", "S2")
    async with opened(feed) as hub, reading(hub) as reader, reading(hub, ["S1"]) as narrow:
        await eventually(lambda: _told(reader) == ["S1", "S2"])
        for number in range(3, 10):
            await feed.put(f"S{number}")
            await feed.write(trades(number, instrument_id=[number]))
        await eventually(lambda: len(reader.rows) == 7)
        async with reading(hub, cursor=hub.cursor(0)) as late:
            await eventually(lambda: len(late.rows) == 7)
    for told in (reader, late):
        known: set[int] = set()
        for message in told.messages:
            known |= {instrument.instrument_id for instrument in message.instruments}
            for batch in message.batches:
                assert set(batch.trades.instrument_id) <= known
        assert _told(told) == [f"S{number}" for number in range(1, 10)]  # each once
    assert _told(narrow) == []


async def test_a_large_directory_is_told_in_parts(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_module, "_INSTRUMENTS_AT_ONCE", 4)
    feed = await make_feed(client, *(f"S{number:02}" for number in range(10)))
    async with opened(feed) as hub, reading(hub) as reader:
        await eventually(lambda: len(_told(reader)) == 10)
    assert [len(message.instruments) for message in reader.messages] == [0, 4, 4, 2]
    assert _told(reader) == sorted(_told(reader))


async def test_a_snapshot_is_of_new_symbols_only(client: Client) -> None:
    feed = await make_feed(client)
    await feed.write(trades(1, 3, instrument_id=[1, 2, 3]), quotes(11, 3, instrument_id=[1, 2, 3]))
    async with opened(feed) as hub, reading(hub, ["A"], snapshot=True) as reader:
        await eventually(lambda: len(reader.snapshot) == 2)
        await reader.subscription.select(SymbolSelection(symbols=["A", "B"]), add=True)
        await eventually(lambda: len(reader.snapshot) == 4)
        await reader.subscription.select(SymbolSelection(symbols=["B"]), add=False)
        await reader.subscription.select(SymbolSelection(symbols=["B"]), add=True)
        await eventually(lambda: len(reader.snapshot) == 6)
        await reader.subscription.select(SymbolSelection(all=True), add=True)
        await eventually(lambda: len(reader.snapshot) == 12)
        await feed.write(trades(100))
        await eventually(lambda: reader.rows == [100])
    assert reader.snapshot == [11, 1, 12, 2, 12, 2, 11, 12, 13, 1, 2, 3]
    assert not any(message.cursor for message in reader.messages if message.snapshot)


async def test_a_snapshot_is_of_the_wanted_kinds(client: Client) -> None:
    feed = await make_feed(client)
    await feed.write(trades(1), quotes(11))
    async with opened(feed) as hub, reading(hub, snapshot=True, kinds=[Kind.QUOTE]) as reader:
        await eventually(lambda: bool(reader.snapshot))
        await feed.write(trades(2), quotes(12), trades(3))
        await eventually(lambda: bool(reader.rows))
    assert (reader.snapshot, reader.rows) == ([11], [12])


async def test_a_new_symbol_waits_for_its_snapshot_until_its_reader_is_at_the_head(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub, reading(hub, ["A"], snapshot=True) as reader:
        await eventually(lambda: bool(reader.messages))
        reader.go.clear()  # it stops reading
        row = 0
        for row in range(0, 90, 3):
            await feed.write(trades(row, 3, instrument_id=[1, 2, 1]))
        await eventually(lambda: hub.head == 30)
        await reader.subscription.select(SymbolSelection(symbols=["B"]), add=True)
        await feed.write(trades(90, 3, instrument_id=[1, 2, 1]))
        reader.go.set()
        await eventually(lambda: reader.snapshot == [91])
        await feed.write(trades(93, 3, instrument_id=[1, 2, 1]))
        await eventually(lambda: reader.rows[-1:] == [95])
    assert reader.rows == [row for row in range(93) if row % 3 != 1] + [93, 94, 95]


async def test_many_changes_wait_for_their_turn(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub:
        subscription = await subscribe(hub, ["A"])  # the first change
        done = 0

        async def change() -> None:
            nonlocal done
            for number in range(40):
                await subscription.select(SymbolSelection(symbols=["ABC"[number % 3]]), add=number % 2 == 0)
                done += 1

        reader = Reader(subscription)
        async with running(change()) as (changing,):
            for _ in range(60):
                await asyncio.sleep(0)
            assert done == 15  # nobody reads
            async with running(reader.run()):
                await changing
                await eventually(lambda: len(_statuses(reader)) == 41)
    assert [status.symbols[0].symbol for status in _statuses(reader)[1:]] == ["ABC"[n % 3] for n in range(40)]


async def test_the_farewell_has_the_cursor(client: Client) -> None:
    feed = await make_feed(client)
    async with opened(feed) as hub, reading(hub) as reader:
        await feed.write(trades(1))
        await eventually(lambda: reader.rows == [1])
        message = SubscribeResponse.FromString(reader.subscription.farewell())
        assert message.draining
        assert message.cursor == reader.cursor == hub.cursor(1)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], []),
        (["A", "B"], ["A", "B"]),
        (["A,B", " C ,A,", ""], ["A", "B", "C"]),
        ([",", " "], []),
    ],
)
def test_symbols_are_split_and_each_once(items: list[str], expected: list[str]) -> None:
    assert split_symbols(items) == expected


async def test_a_stream_of_rows_begins_at_the_head_or_at_its_cursor(client: Client) -> None:
    feed = await make_feed(client)
    await feed.write(trades(1))
    await feed.write(trades(2))
    async with opened(feed) as hub:
        assert await start_position(hub, "", snapshot=True) == 2
        assert await start_position(hub, hub.cursor(1), snapshot=False) == 1
        for options in ({"cursor": hub.cursor(1), "snapshot": True}, {"cursor": "rubbish", "snapshot": False}):
            arguments: dict[str, Any] = options
            with pytest.raises(MarketDataError):
                await start_position(hub, **arguments)
