"""Gaps in sequence numbers, from the policy to the list, through the gateway."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest

from marketdata.client import Client
from marketdata.columns import Batch, Kind, make_batch
from marketdata.subscriber import Start
from marketdata.v1.gap_pb2 import Gap
from tests.stack.conftest import Stack
from tests.tape.helpers import eventually


def trades(*numbers: int) -> Batch:
    ones = np.ones(len(numbers), np.int64)
    now = np.full(len(numbers), time.time_ns())
    return make_batch(Kind.TRADE, {"instrument_id": ones, "ts_event": now, "price": ones, "sequence": numbers})


class Rest:
    """The dataset GAPS over REST."""

    def __init__(self, stack: Stack, token: str) -> None:
        self._url = f"{stack.url}/v1/datasets/GAPS"
        self._headers = {"authorization": f"Bearer {token}"}

    def post(self, path: str, body: dict[str, Any]) -> Any:
        answer = httpx.post(f"{self._url}/{path}", json=body, headers=self._headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def gaps(self, **query: Any) -> list[tuple[Any, ...]]:
        answer = httpx.get(f"{self._url}/gaps", params=query, headers=self._headers)
        assert answer.status_code == 200, answer.text
        return [
            (gap["producer"], gap["cause"], gap["state"], gap["first_sequence"], gap["last_sequence"])
            for gap in answer.json()["gaps"]
        ]


@pytest.fixture
def rest(stack: Stack, tokens: dict[str, str]) -> Rest:
    rest = Rest(stack, tokens["good"])
    rest.post("instruments", {"instruments": [{"symbol": "AAA"}, {"symbol": "BBB"}]})
    told = rest.post("policy", {"policy": {"sequence_rule": "SEQUENCE_RULE_CONTIGUOUS"}})
    assert told["policy"]["sequence_rule"] == "SEQUENCE_RULE_CONTIGUOUS"
    return rest


async def test_a_hole_is_told_while_it_is_open_and_once_it_is_filled(rest: Rest, client: Client) -> None:
    opened = ("holes", "CAUSE_SEQUENCE", "STATE_OPEN", "3", "5")
    closed = ("holes", "CAUSE_SEQUENCE", "STATE_CLOSED", "3", "5")
    updates = aiter(client.subscribe("GAPS", ["BBB"], Start()))  # no row of it comes
    await anext(updates)
    found: list[Gap] = []

    async def hear(count: int) -> Sequence[Gap]:
        while len(found) < count:
            found.extend((await anext(updates)).gaps)
        return found

    async with client.publisher("GAPS", "holes") as publisher:
        await publisher.publish(trades(1, 2, 6, 7))
    assert [gap.state for gap in await hear(1)] == [Gap.STATE_OPEN]
    await eventually(lambda: rest.gaps() == rest.gaps(open_only=True) == [opened])
    async with client.publisher("GAPS", "holes") as publisher:
        await publisher.publish(trades(4, 5))
        await publisher.publish(trades(8, 3))
    assert [gap.state for gap in await hear(2)] == [Gap.STATE_OPEN, Gap.STATE_CLOSED]
    await eventually(lambda: rest.gaps() == [closed, opened])
    assert rest.gaps(open_only=True) == []
    await updates.aclose()
