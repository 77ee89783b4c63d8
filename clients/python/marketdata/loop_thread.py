"""An event loop in a thread of its own, for those who have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from concurrent.futures import CancelledError
from contextlib import aclosing
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

_CLOSED: Final = "the client was closed"
_ITSELF: Final = "this would wait for itself: in coroutines, use marketdata.client"
_WAITING: Final = 32
"""So many items may wait to be taken: as much is held in memory."""


class LoopThread:
    """Runs coroutines for other threads, a notebook's among them.

    Attributes
    ----------
    loop
        The loop.
    closed
        Whether it has ended, or is about to.
    """

    def __init__(self) -> None:
        self.loop: Final = asyncio.new_event_loop()
        self.closed = False
        self._thread = threading.Thread(target=self._run, name="marketdata", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    @property
    def here(self) -> bool:
        """Whether the caller runs in this thread."""
        return threading.current_thread() is self._thread

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine returns; if the wait is interrupted, it is cancelled."""
        if self.closed or self.here:
            work.close()
            raise RuntimeError(_CLOSED if self.closed else _ITSELF)
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError(_CLOSED) from None
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End what runs, and the thread."""
        if self.closed:
            return
        ending = asyncio.run_coroutine_threadsafe(_end_all(), self.loop)
        self.closed = True
        ending.result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


async def _end_all() -> None:
    loop = asyncio.get_running_loop()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


class Pump(Generic[T]):
    """Gives what an asynchronous generator yields, in another thread, a little ahead of whoever takes it.

    Parameters
    ----------
    thread
        Where the generator runs.
    source
        The generator.
    waiting
        How many items may wait to be taken, until the generator has to.
    """

    def __init__(self, thread: LoopThread, source: AsyncGenerator[T], waiting: int = _WAITING) -> None:
        self._thread = thread
        self._waiting = waiting
        self._items: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
        self._room = asyncio.Semaphore(waiting)
        self._task: asyncio.Task[None] | None = None
        self._over = threading.Event()
        if thread.closed:
            raise RuntimeError(_CLOSED)
        thread.loop.call_soon_threadsafe(self._start, source)

    def __iter__(self) -> Iterator[T]:
        """Yield the items; raise what the generator raises."""
        taken = 0
        while (item := self._items.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            taken += 1
            if 2 * taken >= self._waiting:  # the loop is woken up once for many
                self._thread.loop.call_soon_threadsafe(self._make_room, taken)
                taken = 0
            yield item[0]

    def close(self) -> None:
        """End the generator."""
        if not self._over.is_set() and not self._thread.closed:
            self._thread.loop.call_soon_threadsafe(self._cancel)
        if not self._thread.here:  # as it may be where the garbage collector ends an iterator
            self._over.wait()

    def _start(self, source: AsyncGenerator[T]) -> None:
        self._task = self._thread.loop.create_task(self._fill(source))
        self._task.add_done_callback(self._end)

    async def _fill(self, source: AsyncGenerator[T]) -> None:
        async with aclosing(source) as items:
            async for item in items:
                await self._room.acquire()
                self._items.put((item,))

    def _end(self, task: asyncio.Task[None]) -> None:
        """Tell whoever takes items how it ended, even where it was cancelled before it began."""
        error = RuntimeError(_CLOSED) if task.cancelled() else task.exception()
        self._items.put(error)
        self._over.set()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _make_room(self, count: int) -> None:
        for _ in range(count):
            self._room.release()
