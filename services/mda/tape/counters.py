"""Counters that any number of processes add to: JetStream's (NATS ADR-49)."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any, Final

from nats.aio.client import Client
from nats.js.api import Header

from marketdata.v1 import error_reason_pb2 as reasons
from mda.market.errors import MarketDataError
from mda.tape.log import of_the_contract

_INCREMENT: Final = "Nats-Incr"
_NOT_FOUND: Final = 10059
"""JetStream's code for: there is no such stream."""
_AGAIN_S: Final = 0.1


class Counters:
    """Counters by subject, kept in one stream.

    Parameters
    ----------
    client
        The connection.
    stream
        The stream's name.
    subjects
        The subjects that it holds.
    timeout_s
        How long to wait for an answer, in seconds.
    """

    def __init__(self, client: Client, stream: str, subjects: str, *, timeout_s: float = 2.0) -> None:
        self._client = client
        self._stream = stream
        self._subjects = subjects
        self._timeout_s = timeout_s

    async def create(self, *, replicas: int, keep_s: float) -> None:
        """Make the stream, if it is not there. A counter to which nothing was added for `keep_s` seconds goes.

        Raises
        ------
        MarketDataError
            TAPE_UNAVAILABLE.
        """
        if _code(await self._ask(f"$JS.API.STREAM.INFO.{self._stream}")) != _NOT_FOUND:
            return
        config = {  # the library's own type does not know `allow_msg_counter`
            "name": self._stream,
            "subjects": [self._subjects],
            "storage": "file",
            "max_msgs_per_subject": 1,
            "max_age": int(keep_s * 1e9),
            "num_replicas": replicas,
            "allow_direct": True,
            "allow_msg_counter": True,
            "deny_delete": True,
        }
        answer = await self._ask(f"$JS.API.STREAM.CREATE.{self._stream}", json.dumps(config).encode())
        if "error" in answer:
            raise _unavailable(str(answer["error"].get("description")))

    async def add(self, subject: str, amount: int) -> int:
        """Add to a counter, once, and return what it has then.

        Raises
        ------
        MarketDataError
            TAPE_UNAVAILABLE: it may have been added.
        """
        headers = {_INCREMENT: f"{amount:+d}", Header.MSG_ID.value: uuid.uuid4().hex}
        try:
            answer = await self._ask(subject, headers=headers)
        except MarketDataError:  # once more: its id keeps it from being added twice
            await asyncio.sleep(_AGAIN_S)
            answer = await self._ask(subject, headers=headers)
        if "error" in answer:
            raise _unavailable(str(answer["error"].get("description")))
        return int(answer["val"]) if "val" in answer else await self.value(subject)

    async def value(self, subject: str) -> int:
        """Return what a counter has; 0 where nothing was added.

        Raises
        ------
        MarketDataError
            TAPE_UNAVAILABLE.
        """
        query = json.dumps({"last_by_subj": subject}).encode()
        return int((await self._ask(f"$JS.API.DIRECT.GET.{self._stream}", query)).get("val", 0))

    async def _ask(self, subject: str, data: bytes = b"", headers: dict[str, str] | None = None) -> dict[str, Any]:
        with of_the_contract(self._stream):
            answer = await self._client.request(subject, data, timeout=self._timeout_s, headers=headers)
        return json.loads(answer.data) if answer.data else {}


def _code(answer: dict[str, Any]) -> int:
    return int(answer.get("error", {}).get("err_code", 0))


def _unavailable(problem: str) -> MarketDataError:
    return MarketDataError(reasons.ERROR_REASON_TAPE_UNAVAILABLE, f"A counter refuses: {problem}.", retry_after_s=0.5)
