"""What many readers need at the same time, and nobody afterwards."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """One thing for all who need it: made by the first, and kept for as long as somebody has it."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._made: Callable[[], T | None] | None = None

    async def get(self, is_good: Callable[[T], bool], make: Callable[[], Awaitable[T]]) -> T:
        """Return what is there, if it is good; or else what is made now, one after the other."""
        async with self._lock:
            found = self._made() if self._made is not None else None
            if found is None or not is_good(found):
                found = await make()
                self._made = weakref.ref(found)
            return found

    def forget(self) -> None:
        """Give nobody any more what is there."""
        self._made = None
