"""Cursor stores, callbacks and digests of subscriptions."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest

from marketdata.cursors import CursorStore, FileStore, MemoryStore
from marketdata.delivery import Delivery, DigestMismatchError
from marketdata.digest import Digest
from marketdata.errors import ApiError, UnavailableError
from marketdata.subscriber import Start, Subscriber, Update
from marketdata.tokens import TokenSource
from marketdata.v1.gap_pb2 import Gap
from tests.client.services import Connection
from tests.tape.helpers import new_name, rows_of, trades
from tests.tape.nats_server import free_port


class CountingStore(MemoryStore):
    """Notes what is saved."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: list[str] = []

    def save(self, name: str, cursor: str) -> None:
        super().save(name, cursor)
        self.saved.append(cursor)


def _subscriber(connection: Connection, dataset: str, start: Start | None = None, **options: Any) -> Subscriber:
    channel = connection.channels["query"]
    return Subscriber(channel, connection.tokens, dataset, None, start or Start(), Delivery(**options))


async def _dataset(connection: Connection) -> str:
    dataset = new_name("CURSOR")
    await connection.put(dataset, "A")
    return dataset


async def _take(subscriber: Subscriber, last: int) -> list[int]:
    """Read until a row came; give all rows."""
    rows: list[int] = []
    async with asyncio.timeout(20), aclosing(aiter(subscriber)) as updates:
        async for update in updates:
            rows += rows_of(update.batches)
            if last in rows:
                return rows
    raise AssertionError


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_store_gives_back_what_was_saved(kind: str, tmp_path: Path) -> None:
    store: CursorStore = MemoryStore() if kind == "memory" else FileStore(tmp_path / "new" / "folder")
    assert store.load("A/B") is None
    for cursor in ("AQ1", "AQ2"):
        store.save("A/B", cursor)
        store.save("../C", f"{cursor}c")
    assert (store.load("A/B"), store.load("../C")) == ("AQ2", "AQ2c")


def test_a_file_store_is_of_another_process_too_and_leaves_nothing_behind(tmp_path: Path) -> None:
    FileStore(tmp_path).save("SIM", "AQ1")
    assert FileStore(str(tmp_path)).load("SIM") == "AQ1"
    assert [path.name for path in tmp_path.iterdir()] == ["SIM.cursor"]


def test_a_save_that_fails_leaves_the_cursor_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path)
    store.save("SIM", "AQ1")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        store.save("SIM", "AQ2")
    assert store.load("SIM") == "AQ1"


async def test_a_subscription_goes_on_from_its_store(connection: Connection, tmp_path: Path) -> None:
    dataset = await _dataset(connection)
    first, second = (_subscriber(connection, dataset, store=FileStore(tmp_path), name="me") for _ in range(2))
    async with connection.publisher(dataset, "p") as publisher:
        async with aclosing(aiter(first)) as updates:
            await anext(updates)
            await publisher.publish(trades(1, 3))
            while not rows_of((await anext(updates)).batches):
                pass
            await first.commit()
        await publisher.publish(trades(4, 2))
        assert await _take(second, 5) == [4, 5]


async def test_what_was_not_worked_through_comes_again(connection: Connection) -> None:
    dataset = await _dataset(connection)
    store = CountingStore()
    async with connection.publisher(dataset, "p") as publisher:
        subscriber = _subscriber(connection, dataset, store=store, name="me", save_every_s=0)
        with pytest.raises(ZeroDivisionError):
            async with aclosing(aiter(subscriber)) as updates:
                await anext(updates)
                for number in (1, 2):
                    await publisher.publish(trades(number))
                    while not rows_of((await anext(updates)).batches):
                        pass
                1 / 0  # noqa: B018  # the user's own code fails with row 2
        assert store.load("me") == store.saved[-1] != subscriber.cursor
        assert await _take(_subscriber(connection, dataset, store=store, name="me"), 2) == [2]


async def test_a_cursor_that_is_given_wins_over_the_store(connection: Connection) -> None:
    dataset = await _dataset(connection)
    store = MemoryStore()
    async with connection.publisher(dataset, "p") as publisher:
        whole = _subscriber(connection, dataset)
        async with aclosing(aiter(whole)) as updates:
            start = (await anext(updates)).cursor
            await publisher.publish(trades(1))
            while not rows_of((await anext(updates)).batches):
                pass
        store.save("me", whole.cursor)
        given = _subscriber(connection, dataset, Start(cursor=start), store=store, name="me")
        assert await _take(given, 1) == [1]


async def test_cursors_are_saved_now_and_then(connection: Connection) -> None:
    now_s = [0.0]
    store = CountingStore()
    delivery = Delivery(store=store, name="n", save_every_s=1.0, clock_s=lambda: now_s[0])
    for number in range(5):
        delivery.give(Update((), (), f"c{number}", None, None))
        if delivery.done():
            delivery.save()
        now_s[0] += 0.4
    assert store.saved == ["c3"]
    delivery.save()
    assert store.saved == ["c3", "c4"]
    delivery.save()
    assert len(store.saved) == 2


async def test_gaps_and_watermarks_are_called_out(connection: Connection) -> None:
    dataset = await _dataset(connection)
    watermarks: list[Any] = []
    subscriber = _subscriber(connection, dataset, on_watermark=watermarks.append)
    async with (
        asyncio.timeout(20),
        connection.publisher(dataset, "p") as publisher,
        aclosing(aiter(subscriber)) as updates,
    ):
        await anext(updates)
        await publisher.publish(trades(1, 2))
        async for _ in updates:
            if watermarks and watermarks[-1].delivered_rows == 2:
                break
    gaps: list[Gap] = []
    opened, closed = Gap(state=Gap.STATE_OPEN), Gap(state=Gap.STATE_CLOSED)
    Delivery(on_gap=gaps.append).give(Update((), (), "c", None, None, gaps=[opened, closed]))
    assert gaps == [opened, closed]


async def test_a_subscription_proves_that_it_has_every_row(connection: Connection) -> None:
    dataset = await _dataset(connection)
    async with connection.publisher(dataset, "p") as publisher:
        await publisher.publish(trades(1, 3))
        subscriber = _subscriber(connection, dataset, digest=True)
        assert await subscriber.verify() == Digest()
        async with aclosing(aiter(subscriber)) as updates:
            await anext(updates)
            assert (await subscriber.verify()).rows == 0
            await publisher.publish(trades(4, 5))
            while subscriber.delivery.digest is None or subscriber.delivery.digest.rows < 5:
                await anext(updates)
            assert (await subscriber.verify()).rows == 5
            subscriber.delivery.digest += Digest(1, 1)
            with pytest.raises(DigestMismatchError, match="received 6 rows"):
                await subscriber.verify()
    with pytest.raises(ValueError, match="digest=True"):
        await _subscriber(connection, dataset).verify()


async def test_a_snapshot_is_no_part_of_what_is_verified(connection: Connection) -> None:
    dataset = await _dataset(connection)
    async with connection.publisher(dataset, "p") as publisher:
        await publisher.publish(trades(1, 3))
        await publisher.flush()
        subscriber = _subscriber(connection, dataset, Start(snapshot=True), digest=True)
        async with aclosing(aiter(subscriber)) as updates:
            await anext(updates)
            await publisher.publish(trades(4, 5))
            while subscriber.delivery.digest is None or subscriber.delivery.digest.rows < 5:
                await anext(updates)
        assert (await subscriber.verify()).rows == 5


async def test_patience_ends_and_breaks_are_told() -> None:
    breaks: list[ApiError] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{free_port()}") as channel:
        # The token is what it waits for here: nobody gives one.
        tokens = TokenSource(channel, "mdk_a.b")
        tokens._renew = _unavailable
        subscriber = Subscriber(channel, tokens, "X", None, Start(), patience_s=0.5, on_break=breaks.append)
        with pytest.raises(UnavailableError, match="Does the gateway run"):
            await anext(aiter(subscriber))
    assert len(breaks) >= 2


async def _unavailable() -> None:
    raise UnavailableError(grpc.StatusCode.UNAVAILABLE, "nobody there", "", {})
