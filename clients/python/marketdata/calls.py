"""What all parts of the client call the API with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import grpc

from marketdata.retries import Retries
from marketdata.tokens import TokenSource

PAGE: Final = 10_000
"""How many rows to ask for at once."""

_TIMEOUT_S: Final = 10.0


class Calls:
    """Makes unary calls with a token, again where that may help."""

    def __init__(self, channel: grpc.aio.Channel, tokens: TokenSource) -> None:
        self._channel = channel
        self._tokens = tokens
        self._retries = Retries(tokens)

    async def _call(self, method: Any, request: Any) -> Any:
        async def attempt(token: str, timeout_s: float) -> Any:
            metadata = (("authorization", f"Bearer {token}"),)
            return await method(request, metadata=metadata, timeout=timeout_s)

        return await self._retries.call(attempt, _TIMEOUT_S)

    async def _pages(
        self, method: Any, request: Any, field: str, limit: int | None, most: int | None = None
    ) -> list[Any]:
        page = most or PAGE
        rows: list[Any] = []
        while limit is None or len(rows) < limit:
            request.page_size = page if limit is None else min(page, limit - len(rows))
            answer = await self._call(method, request)
            rows += getattr(answer, field)
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
        return rows


def some(symbols: Sequence[str] | None) -> Sequence[str] | None:
    """Return symbols as a request has them.

    Raises
    ------
    ValueError
        If there are none: a request without any means all.
    """
    if symbols is not None and not symbols:
        raise ValueError("symbols: name some, or None for all")
    return symbols
