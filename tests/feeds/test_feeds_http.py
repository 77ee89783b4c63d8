"""Resources of HTTP that are asked for again and again, over a real server."""

from __future__ import annotations

import asyncio
import email.utils
import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feed_api import Api
from venues import Answer, OnTape, as_json, on_tape, rest, until

from marketdata.client import Client
from marketdata.columns import NANOS, Batch, Kind
from mda.feeds.feed import Feed
from mda.feeds.http_poll import HttpPoll
from mda.feeds.mapping import ColumnMapping
from mda.feeds.rest import get
from mda.feeds.source import Alive, Connected, Listed, RefusedError, SourceError

NUMBERED = ColumnMapping("trades", {"ts_event": "t", "price": "p", "sequence": "n"}, symbol="s", times="s")
TIMED = ColumnMapping("trades", {"ts_event": "t", "price": "p"}, symbol="s", times="s")


def row(number: int, *, at: int | None = None, symbol: str = "AAA") -> dict[str, Any]:
    return {"n": number, "t": number if at is None else at, "p": number + 0.5, "s": symbol}


class Resource:
    """Answers with one answer after the other; then with the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = answers
        self.asked: list[dict[str, str]] = []

    def __call__(self, path: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        self.asked.append(headers)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


@asynccontextmanager
async def feeding(api: Api, url: str, mapping: ColumnMapping, **given: Any) -> AsyncIterator[Feed]:
    async with Client.connect(api.url, api.api_key) as client:
        feed = Feed(client, HttpPoll(url, mapping, interval_s=0.05, **given), "POLLED")
        task = asyncio.create_task(feed.run())
        try:
            yield feed
            feed.stop()
            await asyncio.wait_for(task, 20)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def prices(tape: OnTape) -> list[float]:
    return [price / NANOS for batch in tape.batches for price in batch["price"].tolist()]


async def test_what_has_not_changed_is_not_published_again(api: Api, nats_url: str) -> None:
    resource = Resource(
        as_json([row(1), row(2)], etag='"a"', **{"last-modified": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        (304, {}, b""),
        as_json({"error": "busy"}, 503, **{"retry-after": "0"}),
        as_json([row(2), row(3), row(1, symbol="BBB")]),
        as_json([row(2), row(3), row(1, symbol="BBB")]),
        as_json([]),
        as_json([row(4)]),
    )
    with rest(resource) as url:
        async with feeding(api, url, NUMBERED) as feed:
            await until(lambda: feed.status.rows == 5)
            facts = feed.status.facts()
    tape = await on_tape(nats_url, "POLLED")
    assert (tape.numbers(Kind.TRADE, 1), tape.numbers(Kind.TRADE, 2)) == ([1, 2, 3, 4], [1])
    assert tape.facts == ["down open", "down closed", "down open"]
    assert (facts["known_rows"], facts["breaks"]) == (1, 1)
    conditions = [(asked.get("if-none-match"), asked.get("if-modified-since")) for asked in resource.asked[:3]]
    assert conditions == [(None, None), *[('"a"', "Wed, 21 Oct 2015 07:28:00 GMT")] * 2]


async def test_rows_without_numbers_newest_first(api: Api, nats_url: str) -> None:
    resource = Resource(
        as_json({"data": {"trades": [row(3, at=9), row(2, at=8), row(1, at=8)]}}),
        as_json({"data": {"trades": [row(5, at=9), row(4, at=9), row(3, at=9), row(2, at=8), row(1, at=8)]}}),
        as_json({"data": {"trades": [row(6, at=10), row(5, at=9), row(4, at=9)]}}),
    )
    with rest(resource) as url:
        async with feeding(api, url, TIMED, records="data.trades") as feed:
            await until(lambda: feed.status.rows == 6)
    tape = await on_tape(nats_url, "POLLED")
    assert prices(tape) == [1.5, 2.5, 3.5, 4.5, 5.5, 6.5]


async def test_a_bar_is_given_again_until_it_is_over(api: Api, nats_url: str) -> None:
    def bar(minute: int, close: int) -> dict[str, Any]:
        return {"t": minute * 60, "open": 1, "high": 9, "low": 1, "close": close, "s": "AAA"}

    columns = {"ts_event": "t"} | {name: name for name in ("open", "high", "low", "close")}
    mapping = ColumnMapping("bars", columns, symbol="s", times="s", interval_s=60)
    resource = Resource(
        as_json([bar(1, 2), bar(2, 3)]), as_json([bar(1, 2), bar(2, 4)]), as_json([bar(2, 5), bar(3, 6)])
    )
    with rest(resource) as url:
        async with feeding(api, url, mapping) as feed:
            await until(lambda: feed.status.rows == 5)
    tape = await on_tape(nats_url, "POLLED")
    assert [close // NANOS for batch in tape.batches for close in batch["close"].tolist()] == [2, 3, 4, 5, 6]


async def test_a_feed_that_is_started_anew_and_a_hole(api: Api, nats_url: str) -> None:
    for body in ([row(1), row(2)], [row(1), row(2), row(5)]):
        with rest(Resource(as_json(body))) as url:
            async with feeding(api, url, NUMBERED, contiguous=True) as feed:
                await until(lambda: feed.status.rows == (2 if len(body) == 2 else 1))  # noqa: B023
    tape = await on_tape(nats_url, "POLLED")
    assert tape.numbers(Kind.TRADE) == [1, 2, 5]
    assert tape.facts == ["down open", "down closed", "missing open 1: 3-4", "down open"]


def parquet() -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table({"t": [1, 2], "p": ["1.5", "2.5"], "s": ["AAA", "AAA"]}), target)
    return target.getvalue()


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        ((200, {"content-type": "text/csv; charset=utf-8"}, b"t,p,s\n1,1.5,AAA\n2,2.5,AAA\n"), None),
        ((200, {"content-type": "text/plain"}, b"t,p,s\n1,1.5,AAA\n2,2.5,AAA\n"), "csv"),
        ((200, {}, parquet()), "parquet"),
        (as_json([{"t": 1, "p": "1.5", "s": "AAA"}, {"t": 2, "p": "2.5", "s": "AAA"}]), None),
        (as_json({"t": 1, "p": 1.5, "s": "AAA"}), None),
    ],
)
async def test_forms(answer: Answer, form: Any) -> None:
    with rest(Resource(answer)) as url:
        updates = HttpPoll(url, TIMED, form=form).updates(ids := {}, {})
        assert await anext(updates) == Connected()
        listed = await anext(updates)
        assert isinstance(listed, Listed)
        assert [one.symbol for one in listed.instruments] == ["AAA"]
        ids["AAA"] = 7
        batch = await anext(updates)
        await updates.aclose()
    assert isinstance(batch, Batch)
    assert set(batch["instrument_id"].tolist()) == {7}
    assert batch["price"].tolist() == [1_500_000_000, 2_500_000_000][: batch.rows]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (as_json({"data": 3}), "no list of objects at data"),
        (as_json({"nothing": 3}), "cannot be read as json"),
        (as_json({"data": [{"x": 1}]}), "the file has no p, s, t"),
        (as_json({"data": [{"t": 1, "p": "much", "s": "AAA"}]}), "cannot be read as json"),
        ((200, {}, b"<html>"), "cannot be read as json"),
        ((200, {"content-type": "text/csv"}, b""), "cannot be read as csv"),
        ((200, {}, b"x" * 2_000), "more than 1,000 bytes"),
    ],
)
async def test_answers_that_cannot_be_read(answer: Answer, says: str) -> None:
    with rest(Resource(answer)) as url:
        updates = HttpPoll(url, TIMED, records="data", most_bytes=1_000).updates({}, {})
        with pytest.raises(SourceError, match=says):
            async for update in updates:
                assert isinstance(update, Connected)


async def test_nothing_in_it_is_well_too() -> None:
    with rest(Resource(as_json([]))) as url:
        updates = HttpPoll(url, TIMED, interval_s=0.01).updates({}, {})
        found = [await anext(updates) for _ in range(4)]
        await updates.aclose()
    assert found == [Connected(), Connected(), Alive(), Connected()]


async def test_one_instrument_whose_name_the_mapping_says() -> None:
    only = ColumnMapping("trades", {"ts_event": "t", "price": "p"}, only_symbol="ONE", times="s")
    with rest(Resource(as_json([]))) as url:
        assert [one.symbol for one in await HttpPoll(url, only).instruments()] == ["ONE"]


@pytest.mark.parametrize(
    ("status", "retry_after", "least", "most"),
    [
        (429, "7", 7, 7),
        (503, "in 100 s", 90, 100),
        (503, "Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        (500, "soon", 0, 0),
        (502, None, 0, 0),
        (429, "99999999", 3600, 3600),
    ],
)
async def test_when_to_ask_again(status: int, retry_after: str | None, least: float, most: float) -> None:
    if retry_after == "in 100 s":
        retry_after = email.utils.formatdate(time.time() + 100, usegmt=True)
    headers = {} if retry_after is None else {"retry-after": retry_after}
    resource = Resource(as_json({}, status, **headers))
    with rest(resource) as url, pytest.raises(SourceError, match=str(status)) as caught:
        await get(url)
    assert least <= caught.value.retry_after_s <= most


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "nonsense"])
async def test_no_address(url: str) -> None:
    with pytest.raises(RefusedError):
        await get(url)


async def test_no_server_no_json_and_a_refusal() -> None:
    with pytest.raises(SourceError, match="does not answer"):
        await get("http://127.0.0.1:9/")
    with rest(Resource((200, {}, b"{"), as_json({"message": json.dumps("no")}, 404))) as url:
        answer = await get(url)
        with pytest.raises(SourceError, match="no JSON"):
            answer.json()
        with pytest.raises(RefusedError, match="404"):
            await get(url)
