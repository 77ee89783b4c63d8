"""Files read ahead of who takes their rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

_THREADS: Final = 2
_AHEAD: Final = 2
A = TypeVar("A")
T = TypeVar("T")


class Ahead:
    """Threads that read files while others work on those before them; they start when they are first needed.

    Many threads may use one.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="lake-rows")

    def map(self, work: Callable[[A], T], items: Sequence[A]) -> Iterator[T]:
        """Yield what work returns for each item, in their order; the next two are worked on meanwhile.

        Raises what the work raises, in the place of the item's result.
        """
        if len(items) < 2:
            yield from map(work, items)
            return
        under_way: deque[Future[T]] = deque()
        for item in items:
            under_way.append(self._pool.submit(work, item))
            if len(under_way) > _AHEAD:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
