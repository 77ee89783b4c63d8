"""`mda ingest --backfill`: gaps that are filled, and those that stay open."""

from __future__ import annotations

import json
import time
from collections.abc import Container, Generator, Iterable
from pathlib import Path

import httpx
import numpy as np
import pytest

from marketdata.columns import NANOS, Kind, make_batch
from marketdata.sync import Client, connect
from marketdata.v1.instrument_pb2 import Instrument
from tests.polling import until
from tests.stack.conftest import Stack

FIRST_NS = 1_767_225_600 * NANOS


@pytest.fixture(scope="module")
def connected(stack: Stack) -> Generator[Client]:
    with connect(stack.url, stack.secrets["api_key"]) as client:
        yield client


class Lossy:
    """A dataset whose producer left out rows, and the files that have them."""

    def __init__(self, stack: Stack, client: Client, dataset: str, folder: Path) -> None:
        self._stack = stack
        self._client = client
        self._dataset = dataset
        self._folder = folder
        client.put_instruments(dataset, [Instrument(symbol="F1")])
        self.put_policy()

    def put_policy(self, **actions: str) -> None:
        """Have the producer's numbers go up by one, and rows with these verdicts met like that."""
        put = httpx.post(
            f"{self._stack.url}/v1/datasets/{self._dataset}/policy",
            json={"policy": {"sequence_rule": "SEQUENCE_RULE_CONTIGUOUS", **actions}},
            headers={"authorization": f"Bearer {self._client.token()}"},
        )
        assert put.status_code == 200, put.text

    def publish(self, *numbers: int) -> None:
        """Publish the rows that were not left out."""
        with self._client.publisher(self._dataset, "lossy") as publisher:
            taken = np.array(numbers)
            columns = {"instrument_id": np.ones(len(taken)), "ts_event": FIRST_NS + taken * NANOS, "sequence": taken}
            publisher.publish(make_batch(Kind.TRADE, {**columns, "price": taken * NANOS}))

    def trades(self, name: str, numbers: Iterable[int], first_ns: int = FIRST_NS) -> str:
        """Write a file of trades; return its path."""
        rows = (f"{first_ns + number * NANOS},F1,{number},{number}" for number in numbers)
        (self._folder / name).write_text("\n".join(["time,symbol,sequence,price", *rows]))
        return str(self._folder / name)

    def quotes(self, name: str, numbers: Iterable[int], crossed: Container[int] = ()) -> str:
        """Write a file of quotes; return its path."""
        asks = ((number, number - 0.5 if number in crossed else number + 1) for number in numbers)
        rows = (f"{FIRST_NS + number * NANOS},F1,{number},{number},{ask}" for number, ask in asks)
        (self._folder / name).write_text("\n".join(["time,symbol,sequence,bid,ask", *rows]))
        return str(self._folder / name)

    def backfill(self, *files: str) -> tuple[int, str, str]:
        """Run the command; return its exit code, and what it says on standard output and on the other."""
        done = self._stack.mda("ingest", *files, "--dataset", self._dataset, "--yes", "--backfill", check=False)
        return done.returncode, " ".join(done.stdout.split()), done.stderr

    def open_gaps(self) -> list[tuple[str, int, int]]:
        gaps = self._client.gaps(self._dataset, open_only=True)
        return [(gap.producer, gap.first_sequence, gap.last_sequence) for gap in gaps]

    def until_open(self, *gaps: tuple[str, int, int]) -> None:
        until(lambda: self.open_gaps() == [*gaps])

    def numbers(self) -> list[int]:
        """Return the numbers of the rows on the tape, in their order there."""
        batches = (batch for update in self._client.scan(self._dataset) for batch in update.batches)
        return [int(number) for batch in batches for number in batch["sequence"]]


def test_files_fill_gaps(stack: Stack, connected: Client, tmp_path: Path) -> None:
    lossy = Lossy(stack, connected, "FILLED", tmp_path)
    lossy.publish(1, 2, 6, 7, 10)
    lossy.until_open(("lossy", 8, 9), ("lossy", 3, 5))

    code, partial, _ = lossy.backfill(lossy.trades("some.csv", [1, 3, 4, 10]))
    assert code == 0
    assert "0 of 2 open gaps in sequence numbers are filled and closed, 0 rows added" in partial
    assert "lossy 3 to 5: the files have 2 of 3 rows. It is left as it is" in partial
    _, whole, _ = lossy.backfill(lossy.trades("day.csv", [1, 2, 3, 4, 5, 5, 6, 7]))
    assert "1 of 2 open gaps in sequence numbers are filled and closed, 3 rows added" in whole
    lossy.until_open(("lossy", 8, 9))
    all_of_it = lossy.trades("more.csv", range(1, 11))
    assert "1 of 1 open gaps in sequence numbers are filled and closed, 2 rows added" in lossy.backfill(all_of_it)[1]
    code, nothing, _ = lossy.backfill(all_of_it)
    assert (code, "0 of 0 open gaps" in nothing) == (0, True)
    assert lossy.numbers() == [1, 2, 6, 7, 10, 3, 4, 5, 8, 9]  # where a cursor is, it stays


def test_a_gap_whose_rows_are_set_aside_stays_open(stack: Stack, connected: Client, tmp_path: Path) -> None:
    lossy = Lossy(stack, connected, "ASIDE", tmp_path)
    lossy.put_policy(crossed="ACTION_QUARANTINE")
    lossy.publish(1, 6, 9)
    lossy.until_open(("lossy", 7, 8), ("lossy", 2, 5))
    files = (lossy.quotes("q.csv", [2, 4, 5, 7], crossed=[4, 5]), lossy.trades("t.csv", [1, 3, 6, 8, 9]))

    code, told, error = lossy.backfill(*files)
    assert code == 1
    assert "1 of 2 open gaps in sequence numbers are filled and closed, 4 rows added" in told
    assert "lossy 2 to 5: 2 of 4 rows are set aside by the dataset's policy. It is left open." in told
    assert "1 gap is left open; why stands above." in error
    lossy.until_open(("lossy", 2, 5))
    lossy.put_policy()  # which changes nothing for rows that are set aside
    code, again, _ = lossy.backfill(*files)
    assert code == 1
    assert "0 of 1 open gaps in sequence numbers are filled and closed, 0 rows added" in again
    assert "lossy 2 to 5: 2 of 4 rows are set aside" in again
    lossy.until_open(("lossy", 2, 5))
    assert lossy.numbers() == [1, 6, 9, 2, 3, 8, 7]

    list_them, release_them = (part.split("`")[0].split()[1:] for part in again.split("`mda")[1:])
    items = json.loads(stack.mda("quarantine", *list_them, "--waiting", "--output", "json").stdout)
    assert [quote["sequence"] for item in items for quote in item["quotes"]] == ["5", "4"]
    stack.mda("quarantine", *release_them)
    code, filled, _ = lossy.backfill(*files)
    assert code == 0
    assert "1 of 1 open gaps in sequence numbers are filled and closed, 0 rows added" in filled
    lossy.until_open()
    assert "0 of 0 open gaps" in lossy.backfill(*files)[1]
    assert lossy.numbers() == [1, 6, 9, 2, 3, 8, 7, 5, 4]


def test_a_gap_whose_rows_are_refused_stops_no_other(stack: Stack, connected: Client, tmp_path: Path) -> None:
    lossy = Lossy(stack, connected, "REFUSED", tmp_path)
    lossy.put_policy(crossed="ACTION_REJECT")
    lossy.publish(1, 4, 7, 9)
    lossy.until_open(("lossy", 8, 8), ("lossy", 5, 6), ("lossy", 2, 3))
    files = (lossy.quotes("q.csv", [2, 3, 5, 8], crossed=[3]), lossy.trades("t.csv", [6]))

    code, told, error = lossy.backfill(*files)
    assert code == 1
    assert "2 of 3 open gaps in sequence numbers are filled and closed, 3 rows added" in told
    assert "lossy 2 to 3: refused, ROW_REFUSED: batch.quotes.bid_price, row 1: 3000000000 is above the ask" in told
    assert "It is left open: correct the rows, or change the dataset's policy; then run the command again." in told
    assert "1 gap is left open; why stands above." in error
    lossy.until_open(("lossy", 2, 3))
    lossy.put_policy()
    code, filled, _ = lossy.backfill(*files)
    assert code == 0
    assert "1 of 1 open gaps in sequence numbers are filled and closed, 2 rows added" in filled
    assert lossy.numbers() == [1, 4, 7, 9, 6, 5, 8, 2, 3]


def test_a_filling_goes_on_and_leaves_no_gaps_of_its_own(stack: Stack, connected: Client, tmp_path: Path) -> None:
    lossy = Lossy(stack, connected, "HALFWAY", tmp_path)
    lossy.put_policy(future="ACTION_REJECT", future_after="1s")
    lossy.publish(1, 7)
    lossy.until_open(("lossy", 2, 6))
    in_half_an_hour_ns = time.time_ns() + 1_800 * NANOS
    files = (lossy.quotes("q.csv", [2, 4, 6]), lossy.trades("t.csv", [3, 5], in_half_an_hour_ns))

    code, told, _ = lossy.backfill(*files)
    assert code == 1
    assert "0 of 1 open gaps in sequence numbers are filled and closed, 3 rows added" in told
    assert "is too far ahead: FUTURE, which the dataset's policy refuses. It is left open, with 3 of its rows" in told
    lossy.until_open(("lossy", 2, 6))
    lossy.put_policy()
    code, filled, _ = lossy.backfill(*files)
    assert code == 0
    assert "1 of 1 open gaps in sequence numbers are filled and closed, 2 rows added" in filled
    assert lossy.numbers() == [1, 7, 6, 2, 4, 3, 5]
    lossy.until_open()
    assert {gap.producer for gap in connected.gaps("HALFWAY")} == {"lossy"}


def test_rows_that_came_late_are_not_filled_in_once_more(stack: Stack, connected: Client, tmp_path: Path) -> None:
    lossy = Lossy(stack, connected, "LATE", tmp_path)
    lossy.publish(1, 7)
    lossy.until_open(("lossy", 2, 6))
    lossy.publish(4, 5)
    _, told, _ = lossy.backfill(lossy.trades("t.csv", range(1, 8)))
    assert "1 of 1 open gaps in sequence numbers are filled and closed, 3 rows added" in told
    assert lossy.numbers() == [1, 7, 4, 5, 6, 2, 3]
    lossy.until_open()
    assert {gap.producer for gap in connected.gaps("LATE")} == {"lossy"}
