"""What a publisher sends, and sends again, whatever the server has heard when a connection breaks."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.errors import ApiError
from marketdata.ingestion.v1.ingestion_service_pb2 import PublishRequest
from marketdata.outbox import Outbox
from tests.tape.helpers import trades

ACTIONS = st.lists(st.sampled_from(["put", "send", "take", "acknowledge", "break"]), max_size=60)


def outbox(*, keeps_accepted: bool = False) -> Outbox:
    return Outbox(keeps_accepted=keeps_accepted, until_visible=False, spool=None)


class Server:
    """Takes each batch once, in the order of their numbers, as ingestion does; may lose what it only accepted."""

    def __init__(self, outbox: Outbox, *, loses: bool) -> None:
        self._outbox = outbox
        self._loses = loses
        self.on_the_way: list[list[int]] = []
        self.taken = 0
        self.told = 0
        self.durable = 0

    def send(self) -> None:
        if self._outbox.is_worth_a_message:
            message = PublishRequest.FromString(self._outbox.next_message())
            self.on_the_way.append([batch.number for batch in message.batches.batches])

    def take(self) -> None:
        for number in self.on_the_way.pop(0) if self.on_the_way else []:
            assert number <= self.taken + 1, "a hole"
            self.taken = max(self.taken, number)

    def acknowledge(self) -> None:
        # A tape that was told of is durable soon: here, by the next time.
        self.durable = self.told if self._loses else self.taken
        self._outbox.acknowledge(self.taken)
        self.told = self.taken

    def breaks(self) -> None:
        self.on_the_way.clear()
        self.taken = self.durable if self._loses else self.taken
        self._outbox.resume(self.taken)


@pytest.mark.parametrize("loses", [False, True])
@given(actions=ACTIONS)
def test_every_batch_arrives_once_and_in_order(loses: bool, actions: list[str]) -> None:
    mine = outbox(keeps_accepted=loses)
    mine.begin(0, "")
    mine.resume(0)
    server = Server(mine, loses=loses)
    put = 0
    steps = {"send": server.send, "take": server.take, "acknowledge": server.acknowledge, "break": server.breaks}
    for action in actions:
        if action == "put":
            put += 1
            assert mine.put(trades(put), (), "").number == put
        else:
            steps[action]()
    for _ in range(put + 2):
        server.send()
        while server.on_the_way:
            server.take()
        server.acknowledge()
    assert server.taken == put
    assert mine.is_empty
    assert (mine.rows, mine.acknowledged_rows + mine.duplicate_batches) == (0, put)


def test_a_server_that_has_lost_what_was_durable_is_told() -> None:
    mine = outbox()
    mine.begin(0, "")
    mine.resume(0)
    mine.put(trades(1), (), "")
    mine.next_message()
    mine.acknowledge(1)
    with pytest.raises(ApiError, match="lost batches from 1 on") as caught:
        mine.resume(0)
    assert caught.value.code is grpc.StatusCode.DATA_LOSS


def test_small_batches_are_joined_while_messages_are_on_their_way() -> None:
    mine = outbox()
    mine.begin(7, "here")
    assert (mine.last_number, mine.position) == (7, "here")
    for number in range(4):
        mine.put(trades(number), (), "")
        assert mine.is_worth_a_message
        mine.next_message()
    for number in range(4, 9):
        mine.put(trades(number), (), "")
    assert not mine.is_worth_a_message
    mine.acknowledge(8)
    assert mine.is_worth_a_message
    message = PublishRequest.FromString(mine.next_message())
    assert [batch.number for batch in message.batches.batches] == [12, 13, 14, 15, 16]
