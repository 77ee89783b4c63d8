"""Counters that any number of processes add to: JetStream's (NATS ADR-49)."""

from __future__ import annotations

import json
from typing import Any, Final

from nats.aio.client import Client
from nats.js.api import Header

from marketdata.v1 import error_reason_pb2 as reasons
from mda.market.errors import MarketDataError
from mda.tape.log import of_the_contract

_INCREMENT: Final = "Nats-Incr"
_NOT_FOUND: Final = 10059
"""JetStream's code for: there is no such stream."""


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
        there = await self._ask(f"$JS.API.STREAM.INFO.{self._stream}")
        if "error" not in there:
            return
        if there["error"].get("err_code") != _NOT_FOUND:
            raise _refused(there)
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
            raise _refused(answer)

    async def add(self, subject: str, amount: int, increment_id: str) -> int:
        """Add to a counter and return what it has then.

        Parameters
        ----------
        subject, amount
            The counter, and what is added.
        increment_id
            Names this addition: the same one again, within two minutes, adds nothing.

        Raises
        ------
        MarketDataError
            TAPE_UNAVAILABLE: it may have been added.
        """
        answer = await self._ask(subject, headers={_INCREMENT: f"{amount:+d}", Header.MSG_ID.value: increment_id})
        if "error" in answer:
            raise _refused(answer)
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
        if not self._client.is_connected:  # it would keep the message, and send it at some later time
            raise _unavailable("NATS is away")
        with of_the_contract(self._stream):
            answer = await self._client.request(subject, data, timeout=self._timeout_s, headers=headers)
        return json.loads(answer.data) if answer.data else {}


def _refused(answer: dict[str, Any]) -> MarketDataError:
    return _unavailable(f"a counter refuses: {answer['error'].get('description')}")


def _unavailable(problem: str) -> MarketDataError:
    return MarketDataError(
        reasons.ERROR_REASON_TAPE_UNAVAILABLE, f"Rows are not counted: {problem}.", retry_after_s=0.5
    )
