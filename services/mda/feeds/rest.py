"""Calls of venues' REST methods: bounded in time and size, their refusals told apart."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from mda.feeds.source import RefusedError, SourceError

_TIMEOUT_S: Final = 10.0
_MOST_BYTES: Final = 16 << 20
_RETRIED: Final = frozenset({408, 418, 425, 429})
_MOST_WAIT_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server has answered.

    Attributes
    ----------
    status
        200, or 304 where nothing has changed.
    body
        The bytes.
    headers
        The headers.
    """

    status: int
    body: bytes
    headers: httpx.Headers

    def json(self) -> Any:
        """Return the body, parsed.

        Raises
        ------
        SourceError
            If it is no JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise SourceError(f"the answer is no JSON: {self.body[:80]!r}") from error


async def get(
    url: str,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    most_bytes: int = _MOST_BYTES,
    timeout_s: float = _TIMEOUT_S,
) -> Answer:
    """Return what a server answers.

    Raises
    ------
    SourceError
        If it does not answer, or may answer later (5xx, 408, 418, 425, 429, with its
        Retry-After), or the body is too large.
    RefusedError
        If it refuses, with what it says.
    """
    try:
        async with (
            httpx.AsyncClient(timeout=timeout_s, follow_redirects=True, max_redirects=5) as client,
            client.stream("GET", url, params=query or None, headers=headers) as response,
        ):
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > most_bytes:
                    raise SourceError(f"{url} answers with more than {most_bytes:,} bytes")
    except httpx.InvalidURL as error:
        raise RefusedError(f"{url} is no address: {error}") from error
    except httpx.UnsupportedProtocol as error:
        raise RefusedError(f"{url} is no address of HTTP") from error
    except httpx.HTTPError as error:
        raise SourceError(f"{url} does not answer: {error or type(error).__name__}") from error
    answer = Answer(response.status_code, bytes(body), response.headers)
    if answer.status in {200, 304}:
        return answer
    told = f"{url} answers {answer.status}: {answer.body[:200].decode(errors='replace')}"
    if answer.status in _RETRIED or answer.status >= 500:
        raise SourceError(told, retry_after_s=_retry_after_s(answer.headers.get("retry-after")))
    raise RefusedError(told)


def _retry_after_s(text: str | None) -> float:
    """Return what a Retry-After header means: seconds, or a date (RFC 9110, section 10.2.3)."""
    if not text:
        return 0.0
    try:
        seconds = float(text) if text.strip().isdecimal() else _until(text)
    except (TypeError, ValueError):
        return 0.0
    return min(max(seconds, 0.0), _MOST_WAIT_S)


def _until(text: str) -> float:
    return email.utils.parsedate_to_datetime(text).timestamp() - time.time()
