"""The socket on which a running stack is told to run processes anew: a line of JSON each way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from mda.cli.folder import Folder, StackError

_REQUEST_S: Final = 5.0
"""How long a request may take to come, in seconds."""


@asynccontextmanager
async def taking_requests(folder: Folder, restart: Callable[[str], Awaitable[None]]) -> AsyncGenerator[None]:
    """Take requests while the body runs, one at a time.

    Parameters
    ----------
    folder
        The stack's.
    restart
        Runs the process of this name anew; StackError says why it did not.
    """
    turn = asyncio.Lock()
    under_way: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(answer(reader, writer))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_S):
                name = json.loads(await reader.readline())["restart"]
            async with turn:
                await restart(name)
            _write(writer, {})
        except (StackError, ValueError, LookupError, TypeError, TimeoutError) as error:
            _write(writer, {"error": str(error) or repr(error)})
        finally:
            writer.close()

    folder.control.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(accept, folder.control)
    folder.control.chmod(0o600)
    try:
        yield
    finally:
        server.close()
        for task in under_way:  # what stops starts nothing
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        folder.control.unlink(missing_ok=True)


async def request_restart(folder: Folder, name: str, within_s: float) -> None:
    """Have the running stack run a process anew, and wait until it is ready.

    Raises
    ------
    StackError
        If none runs, or the process did not become ready in time.
    """
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_unix_connection(folder.control)
            _write(writer, {"restart": name})
            answered = json.loads(await reader.readline())
            writer.close()
    except (OSError, ValueError) as error:  # TimeoutError is one, too
        raise StackError(f"{name} was not restarted: {error!r}. `mda status` may tell more.") from None
    if "error" in answered:
        raise StackError(answered["error"])


def _write(writer: asyncio.StreamWriter, message: Mapping[str, str]) -> None:
    writer.write(json.dumps(message).encode() + b"\n")
