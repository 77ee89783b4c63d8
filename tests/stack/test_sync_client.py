"""The client that waits, in plain functions, through the gateway."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from marketdata.columns import NANOS, Batch, Kind, make_batch
from marketdata.cursors import FileStore, MemoryStore
from marketdata.errors import CredentialsError, NotFoundError
from marketdata.sync import Client, connect
from marketdata.times import ago_ns, to_ns
from marketdata.v1.instrument_pb2 import Instrument
from tests.stack.conftest import Stack

DATASET = "SYNC"
_names = itertools.count(1)


@pytest.fixture
def connected(stack: Stack) -> Iterator[Client]:
    with connect(stack.url, stack.secrets["api_key"]) as client:
        yield client


@pytest.fixture
def own(connected: Client) -> Instrument:
    """Give an instrument of the test's own."""
    return connected.put_instruments(DATASET, [Instrument(symbol=f"S{next(_names)}")])[0]


def _trades(own: Instrument, first: int, rows: int = 1) -> Batch:
    numbers = [*range(first, first + rows)]
    now_ns = time.time_ns()
    columns: dict[str, Any] = {
        "instrument_id": [own.instrument_id] * rows,
        "ts_event": [now_ns] * rows,
        "sequence": numbers,
    }
    return make_batch(Kind.TRADE, {**columns, "price": [number * NANOS for number in numbers]})


def _publish(client: Client, own: Instrument, *batches: Batch) -> None:
    with client.publisher(DATASET, own.symbol) as publisher:
        for batch in batches:
            publisher.publish(batch)
        publisher.flush()
        assert publisher.last_number >= len(batches)


def test_what_is_published_is_read_in_every_way(connected: Client, own: Instrument) -> None:
    assert connected.symbols(DATASET)[own.instrument_id] == own.symbol
    start_ns = ago_ns(minutes=1)
    _publish(connected, own, _trades(own, 1, 3), _trades(own, 4))
    assert [trade.sequence for trade in connected.trades(DATASET, [own.symbol], start_ns=start_ns)] == [1, 2, 3, 4]
    scan = connected.scan(DATASET, [own.symbol], kinds=[Kind.TRADE])
    assert sum(batch.rows for update in scan for batch in update.batches) == 4
    assert scan.cursor
    frame = connected.scan(DATASET, [own.symbol], kinds=[Kind.TRADE]).to_polars()
    assert frame.select("symbol", "price").rows() == [(own.symbol, price) for price in (1.0, 2.0, 3.0, 4.0)]
    assert connected.scan(DATASET, [own.symbol], kinds=[Kind.TRADE]).to_arrow(prices="units").num_rows == 4
    assert connected.scan(DATASET, [own.symbol], kinds=[Kind.TRADE]).to_pandas()["price"].sum() == 10
    assert connected.bars(DATASET, [own.symbol], start_ns=start_ns).to_polars()["volume"].to_list()
    assert DATASET in [known.name for known in connected.list_datasets()]
    assert connected.gaps(DATASET) == []
    assert connected.digest(DATASET, symbols=[own.symbol])[0].rows == 4


def test_a_subscription_goes_on_from_its_store_and_is_verified(
    connected: Client, own: Instrument, tmp_path: Path
) -> None:
    store = FileStore(tmp_path)
    watermarks: list[Any] = []
    first = connected.subscribe(DATASET, [own.symbol], store=store, digest=True, on_watermark=watermarks.append)
    updates = iter(first)
    next(updates)
    _publish(connected, own, _trades(own, 1, 3))
    rows = 0
    while rows < 3 or not watermarks:
        rows += sum(batch.rows for batch in next(updates).batches)
    assert first.verify().rows == 3
    assert (first.symbols, first.connections) == ({own.instrument_id: own.symbol}, 1)
    first.commit()
    assert store.load(DATASET) == first.cursor
    updates.close()  # pyright: ignore[reportAttributeAccessIssue]
    _publish(connected, own, _trades(own, 4))
    for update in connected.subscribe(DATASET, [own.symbol], store=store):
        told = [number for batch in update.batches for number in batch["sequence"].tolist()]
        if told:
            assert told == [4]
            break


def test_updates_that_were_fetched_ahead_are_not_saved(connected: Client, own: Instrument) -> None:
    store = MemoryStore()
    updates = iter(connected.subscribe(DATASET, [own.symbol], store=store, save_every_s=0))
    next(updates)
    _publish(connected, own, *(_trades(own, number) for number in range(1, 20)))
    while not next(updates).batches:
        pass
    updates.close()  # pyright: ignore[reportAttributeAccessIssue]  # the user fails with the first rows
    again = connected.subscribe(DATASET, [own.symbol], store=store)
    first = next(batch["sequence"].tolist()[0] for update in again for batch in update.batches)
    assert first == 1


def test_a_second_loop_goes_on_after_what_the_first_was_given(connected: Client, own: Instrument) -> None:
    subscription = connected.subscribe(DATASET, [own.symbol])
    updates = iter(subscription)
    next(updates)
    _publish(connected, own, *(_trades(own, number) for number in range(1, 20)))
    given: list[int] = []
    while not given:
        given += [number for batch in next(updates).batches for number in batch["sequence"].tolist()]
    updates.close()  # pyright: ignore[reportAttributeAccessIssue]  # others have been fetched ahead
    for update in subscription:
        given += [number for batch in update.batches for number in batch["sequence"].tolist()]
        if len(given) >= 19:
            break
    assert given == [*range(1, 20)]


def test_bars_come(connected: Client, own: Instrument) -> None:
    _publish(connected, own, _trades(own, 1))
    stream = connected.stream_bars(DATASET, [own.symbol], updates_s=1)
    bars = next(iter(stream)).bars
    assert [bar.symbol for bar in bars] == [own.symbol]
    assert stream.cursor


def test_errors_come_out_and_a_closed_client_says_so(stack: Stack, connected: Client) -> None:
    with pytest.raises(NotFoundError):
        next(iter(connected.subscribe("NOPE")))
    with pytest.raises(NotFoundError):
        connected.quotes("NOPE", start_ns=to_ns("2026-01-01"))
    with pytest.raises(ValueError, match="not a URL"):
        connect("nonsense", "a.b")
    with connect(stack.url, "mdk_nobody.nothing") as wrong, pytest.raises(CredentialsError):
        wrong.token()
    client = connect(stack.url, stack.secrets["api_key"])
    updates = iter(client.subscribe("SIM"))
    next(updates)
    closing = threading.Timer(0, client.close)
    closing.start()
    with pytest.raises(RuntimeError, match="closed"):
        while True:
            next(updates)
    closing.join()
    client.close()


def test_the_loops_own_thread_must_not_wait(connected: Client) -> None:
    async def wait() -> None:
        connected.list_datasets()

    with pytest.raises(RuntimeError, match="wait for itself"):
        connected.thread.run(wait())


def test_the_environment_tells_where_and_who(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDA_URL", stack.url)
    monkeypatch.delenv("MDA_API_KEY", raising=False)
    with pytest.raises(ValueError, match=r'MDA_API_KEY is not set.*eval "\$\(mda env\)"'):
        connect()
    monkeypatch.setenv("MDA_API_KEY", stack.secrets["api_key"])
    with connect() as client:
        assert client.token()


def test_a_failure_while_publishing_comes_out(connected: Client, own: Instrument) -> None:
    with pytest.raises(ZeroDivisionError), connected.publisher(DATASET, own.symbol) as publisher:
        publisher.publish(_trades(own, 1))
        1 / 0  # noqa: B018
