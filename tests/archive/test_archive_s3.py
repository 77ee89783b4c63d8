"""The lake on an object store: a real S3 server, by settings alone. `make s3-test` installs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from mda.archive.archiver import Archiver
from mda.lake.location import Location
from mda.lake.settings import LakeSettings
from tests.archive.feeding import caught_up, digest_of_lake, make_feed, settings
from tests.polling import until
from tests.tape.helpers import eventually, running
from tests.tape.nats_server import free_port

SERVER = shutil.which("versitygw", path=str(Path(__file__).parents[2] / "build" / "s3"))
KEY, SECRET = "user", "a secret of tests"

pytestmark = pytest.mark.skipif(SERVER is None, reason="no S3 server: `make s3-test` installs one")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[Location, subprocess.Popen[bytes]]]:
    """Give a bucket, as settings name it, and its server."""
    port = free_port()
    (tmp_path / "store" / "lake").mkdir(parents=True)
    address = f"127.0.0.1:{port}"
    env = {**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
    with (tmp_path / "store.log").open("wb") as log:
        argv = [str(SERVER), "--port", address, "posix", str(tmp_path / "store")]
        server = subprocess.Popen(argv, env=env, stdout=log, stderr=log)
    options = {
        "AWS_ENDPOINT_URL": f"http://{address}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }
    try:
        until(lambda: _accepts(port))
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("MDA_LAKE_URI", "s3://lake/prefix")
            environment.setenv("MDA_LAKE_OPTIONS", json.dumps(options))
            location = LakeSettings().location()
        assert location is not None
        yield location, server
    finally:
        server.kill()
        server.wait()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


async def test_rows_are_archived_and_written_together(
    client: Client, store: tuple[Location, subprocess.Popen[bytes]]
) -> None:
    feed = await make_feed(client)
    archiver = Archiver(client, feed.dataset, store[0], settings())
    async with running(archiver.run()):
        for _ in range(3):
            await feed.write_some(10, days=2)
            lake = await caught_up(archiver, feed)
        assert (await archiver.compact(whole=True)).before > 3
    assert digest_of_lake(lake) == feed.digest


async def test_two_archives_on_one_store_write_each_row_once(
    client: Client, store: tuple[Location, subprocess.Popen[bytes]]
) -> None:
    feed = await make_feed(client)
    one, other = (Archiver(client, feed.dataset, store[0], settings()) for _ in range(2))
    async with running(one.run(), other.run()):
        for _ in range(5):
            await feed.write_some(5)
        await caught_up(one, feed)
        lake = await caught_up(other, feed)
    assert digest_of_lake(lake) == feed.digest


async def test_a_store_that_stalls_is_told_and_nothing_is_lost(
    client: Client, store: tuple[Location, subprocess.Popen[bytes]]
) -> None:
    location, server = store
    feed = await make_feed(client)
    archiver = Archiver(client, feed.dataset, location, settings())
    async with running(archiver.run()):
        await feed.write_some(5)
        await caught_up(archiver, feed)
        server.send_signal(signal.SIGSTOP)
        await feed.write_some(5)
        await eventually(lambda: "cannot be used" in archiver.problem, within_s=40)
        server.send_signal(signal.SIGCONT)
        lake = await caught_up(archiver, feed)
        await eventually(lambda: not archiver.problem)
    assert digest_of_lake(lake) == feed.digest
