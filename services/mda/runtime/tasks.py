"""Background tasks that live as long as a service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


@asynccontextmanager
async def background_tasks() -> AsyncGenerator[asyncio.TaskGroup]:
    """Give a task group whose tasks are cancelled at the end.

    A task that fails ends the service: its supervisor starts it again.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
            _end()
    except* _EndError:
        pass


def _end() -> None:
    raise _EndError


class _EndError(Exception):
    """Makes the task group cancel what still runs."""
