"""Batches that outlive `kill -9` of their publisher: each row on the tape once."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from feed_api import Api
from venues import on_tape

from marketdata.client import Client
from marketdata.columns import Kind, make_batch
from marketdata.errors import DataLossError
from marketdata.publisher import AckLevel
from marketdata.spool import Spool, SpoolError
from marketdata.v1.instrument_pb2 import Instrument

PRODUCER = """
import asyncio, os, signal, sys, time
from pathlib import Path
from marketdata.client import Client
from marketdata.columns import Kind, make_batch
from marketdata.spool import Spool

async def main(url, key, path, batches):
    async with Client.connect(url, key) as client:
        async with client.publisher("SPOOLED", "p", spool=Spool(Path(path))) as publisher:
            next_row = int(publisher.position or 1)
            print("open", next_row, flush=True)
            for number in range(next_row, next_row + batches):
                columns = {"instrument_id": [1], "ts_event": [time.time_ns()], "price": [5], "sequence": [number]}
                await publisher.publish(make_batch(Kind.TRADE, columns), position=str(number + 1))
                if batches < 10 and number == next_row + batches - 1:
                    os.kill(os.getpid(), signal.SIGKILL)  # nothing was sent yet: the loop had no turn
                if batches > 10:
                    await asyncio.sleep(0 if number % 3 else 0.001)

asyncio.run(main(*sys.argv[1:4], int(sys.argv[4])))
"""


async def produce(api: Api, path: Path, batches: int, *, seconds: float | None = None) -> int:
    """Run the producer until it ends, or is killed; return the row with which it began."""
    command = [sys.executable, "-c", PRODUCER, api.url, api.api_key, str(path), str(batches)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 60)
    if seconds is not None:
        await asyncio.sleep(seconds)  # anywhere in its work
        process.kill()
    code = await asyncio.wait_for(process.wait(), 60)
    assert code in {0, -signal.SIGKILL}
    return int(line.split()[1])


@pytest.fixture
async def client(api: Api) -> Client:
    async with Client.connect(api.url, api.api_key) as connected:
        await connected.put_instruments("SPOOLED", [Instrument(symbol="A")])
    return connected


async def numbers(nats_url: str) -> list[int]:
    return (await on_tape(nats_url, "SPOOLED")).numbers(Kind.TRADE)


@pytest.mark.usefixtures("client")
async def test_what_was_never_sent_is_sent_by_the_next_process(api: Api, nats_url: str, tmp_path: Path) -> None:
    path = tmp_path / "spool"
    assert await produce(api, path, 3) == 1
    assert await numbers(nats_url) == []
    assert await produce(api, path, 20) == 4  # which goes on after what is in the spool
    assert await numbers(nats_url) == list(range(1, 24))
    assert path.stat().st_size < 100  # nothing is left in it


@pytest.mark.usefixtures("client")
async def test_killed_again_and_again(api: Api, nats_url: str, tmp_path: Path) -> None:
    chance = random.Random(1)
    for _ in range(4):
        await produce(api, tmp_path / "spool", 100_000, seconds=chance.uniform(0, 0.5))
    await produce(api, tmp_path / "spool", 20)
    found = await numbers(nats_url)
    assert len(found) > 20
    assert found == list(range(1, len(found) + 1))


async def test_a_tape_that_has_lost_what_it_acknowledged(api: Api, tmp_path: Path) -> None:
    batch = make_batch(Kind.TRADE, {"instrument_id": [1], "ts_event": [1], "price": np.array([5])})
    async with Client.connect(api.url, api.api_key) as client:
        for dataset in ("ONE", "TWO"):
            await client.put_instruments(dataset, [Instrument(symbol="A")])
        async with client.publisher("ONE", "p") as publisher:
            await publisher.publish(batch)
        spool = Spool(tmp_path / "spool")
        async with client.publisher("ONE", "p", spool=spool) as publisher:
            await publisher.publish(batch)
            data = spool.path.read_bytes()
        # the spool of a producer whose first batch another tape does not have
        spool.path.write_bytes(data.replace(b"ONE", b"TWO"))
        with pytest.raises(DataLossError, match="goes on with 2"):
            async with client.publisher("TWO", "p", spool=spool):
                pass
        with pytest.raises(SpoolError, match="take another level"):
            async with client.publisher("ONE", "p", spool=spool, ack_level=AckLevel.ACCEPTED):
                pass
