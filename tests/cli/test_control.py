"""The socket on which a running stack is told to run processes anew."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from mda.cli.control import request_restart, taking_requests
from mda.cli.folder import Folder, StackError


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.create()
    return made


async def test_requests_are_done_one_at_a_time(folder: Folder) -> None:
    done: list[str] = []

    async def restart(name: str) -> None:
        done.append(f"begin {name}")
        await asyncio.sleep(0)
        done.append(f"end {name}")

    async with taking_requests(folder, restart):
        await asyncio.gather(*(request_restart(folder, name, 5) for name in ("query", "auth")))
    assert sorted([done[0][6:], done[2][6:]]) == ["auth", "query"]
    assert [line.split()[0] for line in done] == ["begin", "end", "begin", "end"]


async def test_only_its_user_may_ask(folder: Folder) -> None:
    async def restart(name: str) -> None: ...

    async with taking_requests(folder, restart):
        assert stat.S_IMODE(folder.control.stat().st_mode) == 0o600
    assert not folder.control.exists()


async def test_what_went_wrong_is_told(folder: Folder) -> None:
    async def restart(name: str) -> None:
        raise StackError(f"{name} does not start.")

    async with taking_requests(folder, restart):
        with pytest.raises(StackError, match=r"^query does not start\.$"):
            await request_restart(folder, "query", 5)


@pytest.mark.parametrize("line", [b"restart\n", b"{}\n", b"[]\n", b"\n"])
async def test_nonsense_is_refused(folder: Folder, line: bytes) -> None:
    async def restart(name: str) -> None: ...

    async with taking_requests(folder, restart), asyncio.timeout(5):
        reader, writer = await asyncio.open_unix_connection(folder.control)
        writer.write(line)
        assert b"error" in await reader.readline()
        writer.close()


async def test_a_stack_that_takes_too_long_or_is_not_there_is_told(folder: Folder) -> None:
    async def restart(name: str) -> None:
        await asyncio.sleep(600)

    async with taking_requests(folder, restart):
        with pytest.raises(StackError, match="query was not restarted: TimeoutError"):
            await request_restart(folder, "query", 0.1)
    with pytest.raises(StackError, match="query was not restarted: FileNotFoundError"):
        await request_restart(folder, "query", 5)


async def test_a_stack_that_goes_away_meanwhile_is_told(folder: Folder) -> None:
    async def gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_unix_server(gone, folder.control)
    with pytest.raises(StackError, match="query was not restarted"):
        await request_restart(folder, "query", 5)
    server.close()
