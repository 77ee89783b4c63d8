"""The service over gRPC: levels of acknowledgement, policies, and rows set aside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.client import Client

from marketdata.codec import to_bytes
from marketdata.columns import Batch, Kind, make_batch
from marketdata.ingestion.v1 import ingestion_service_pb2 as api
from marketdata.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from marketdata.v1 import batch_pb2
from marketdata.v1.instrument_pb2 import Instrument
from marketdata.v1.policy_pb2 import Policy
from marketdata.v1.quote_pb2 import Quote
from marketdata.v1.trade_pb2 import Trade
from marketdata.v1.verdict_pb2 import Verdict
from mda.ingestion.servicer import IngestionServicer
from mda.market.quotas import Quotas
from mda.runtime.handlers import Endpoint
from mda.runtime.identity import Caller, Principal, set_caller
from mda.runtime.tasks import background_tasks
from mda.runtime.usage.account import Account, Usage
from tests.ingestion.feeding import make_datasets
from tests.tape.helpers import NOW_NS, new_name, quotes, rows_on_tape, trades

SERVICE = api.DESCRIPTOR.services_by_name["IngestionService"]
CASES = {
    "default": (api.ACK_LEVEL_UNSPECIFIED, api.ACK_LEVEL_DURABLE),
    "durable": (api.ACK_LEVEL_DURABLE, api.ACK_LEVEL_DURABLE),
    "accepted": (api.ACK_LEVEL_ACCEPTED, api.ACK_LEVEL_ACCEPTED),
}


class Signed(grpc.aio.ServerInterceptor):
    """Takes every caller for one whose token lasts."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        account = Account(Usage(), "mdc_test", Quotas())
        set_caller(Caller(Principal("mdc_test", frozenset(), "internal", time.time() + 600), account))
        return await continuation(handler_call_details)


@pytest.fixture
async def stub(client: Client) -> AsyncIterator[Any]:
    async with background_tasks() as tasks:
        server = grpc.aio.server(interceptors=[Signed()])
        servicer = IngestionServicer(make_datasets(client), asyncio.Event(), tasks)
        endpoint = Endpoint(SERVICE, servicer, raw_requests=frozenset({"Publish"}))
        server.add_generic_rpc_handlers((endpoint.handler(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield IngestionServiceStub(channel)
        await server.stop(None)


@pytest.fixture
async def name(stub: Any) -> str:
    """Give a dataset of two instruments that sets crossed quotes and prices that are none aside."""
    made = new_name()
    instruments = [Instrument(symbol="A"), Instrument(symbol="B")]
    await stub.PutInstruments(api.PutInstrumentsRequest(dataset=made, instruments=instruments))
    policy = Policy(
        crossed=Policy.ACTION_QUARANTINE,
        not_a_price=Policy.ACTION_QUARANTINE,
        unknown_instrument=Policy.ACTION_QUARANTINE,
    )
    await stub.PutPolicy(api.PutPolicyRequest(dataset=made, policy=policy))
    return made


async def publish(
    stub: Any, name: str, batches: Sequence[Batch], level: api.AckLevel = api.ACK_LEVEL_UNSPECIFIED
) -> list[Any]:
    """Publish batches; return the acknowledgements."""
    opening = api.PublishRequest.Open(dataset=name, producer="p", ack_level=level)
    requests = [api.PublishRequest(open=opening)]
    for number, batch in enumerate(batches, 1):
        message = batch_pb2.Batch.FromString(to_bytes(batch))
        requests.append(api.PublishRequest(batch=api.NumberedBatch(number=number, batch=message)))
    answers = [answer async for answer in stub.Publish(iter(requests))]
    return [ack for answer in answers[1:] for ack in answer.acks.acks]


@pytest.mark.parametrize("case", CASES)
async def test_acks_have_the_level_that_was_asked_for(stub: Any, name: str, client: Client, case: str) -> None:
    asked, told = CASES[case]
    batches = [quotes(1, 3, bid_price=[10, 30, 10]), quotes(5, ts_event=[NOW_NS]), trades(7)]
    acks = await publish(stub, name, batches, asked)
    assert [(ack.number, ack.level, ack.duplicate) for ack in acks] == [(n, told, False) for n in (1, 2, 3)]
    assert [(ack.flagged_rows, ack.quarantined_rows) for ack in acks] == [(0, 1), (1, 0), (0, 0)]
    assert all((ack.tape_sequence > 0) == (told == api.ACK_LEVEL_DURABLE) for ack in acks)
    assert await rows_on_tape(client, name) == [1, 3, 5, 7]
    again = await publish(stub, name, batches, asked)
    assert [(ack.level, ack.duplicate, ack.tape_sequence, ack.quarantined_rows) for ack in again] == [
        (told, True, 0, 0)
    ] * 3


async def test_a_policy_is_put_and_told(stub: Any, name: str) -> None:
    told = (await stub.GetPolicy(api.GetPolicyRequest(dataset=name))).policy
    assert (told.crossed, told.locked) == (Policy.ACTION_QUARANTINE, Policy.ACTION_IGNORE)
    policy = Policy(stale=Policy.ACTION_REJECT)
    policy.stale_after.FromSeconds(60)
    put = (await stub.PutPolicy(api.PutPolicyRequest(dataset=name, policy=policy))).policy
    assert (put.stale, put.stale_after.seconds, put.crossed) == (Policy.ACTION_REJECT, 60, Policy.ACTION_FLAG)
    assert (await stub.GetPolicy(api.GetPolicyRequest(dataset=name))).policy == put


async def test_rows_set_aside_are_listed_for_people_and_released(stub: Any, name: str, client: Client) -> None:
    prices = {"bid_price": [10, 30_500_000_000], "ask_price": [20, 20_000_000_000]}
    await publish(stub, name, [quotes(1, 2, **prices), trades(3, 2, instrument_id=[9, 2], price=[1, -(1 << 63)])])
    listed = await stub.ListQuarantined(api.ListQuarantinedRequest(dataset=name, page_size=1))
    (first,) = listed.items
    assert (first.producer, first.batch_number, first.tape_sequence) == ("p", 1, 0)
    assert first.time.seconds > NOW_NS // 1_000_000_000
    (quote,) = first.quotes
    assert (quote.symbol, quote.bid_price, quote.ask_price) == ("A", "30.5", "20")
    assert list(quote.verdicts) == [Verdict.VERDICT_CROSSED]
    listed = await stub.ListQuarantined(api.ListQuarantinedRequest(dataset=name, page_token=listed.next_page_token))
    (second,) = listed.items
    assert listed.next_page_token == ""
    assert [trade.symbol for trade in second.trades] == ["", "B"]
    assert list(second.instrument_ids) == [9, 2]
    assert [list(trade.verdicts) for trade in second.trades] == [
        [Verdict.VERDICT_UNKNOWN_INSTRUMENT],
        [Verdict.VERDICT_NOT_A_PRICE],
    ]
    request = api.ReleaseQuarantinedRequest(dataset=name, ids=[first.id])
    (released,) = (await stub.ReleaseQuarantined(request)).released
    assert (released.id, released.already_released) == (first.id, False)
    (again,) = (await stub.ReleaseQuarantined(request)).released
    assert (again.tape_sequence, again.already_released) == (released.tape_sequence, True)
    assert await rows_on_tape(client, name) == [1, 2]
    (first, _) = (await stub.ListQuarantined(api.ListQuarantinedRequest(dataset=name))).items
    assert first.tape_sequence == released.tape_sequence


async def test_bars_set_aside_are_listed_for_people(stub: Any, name: str) -> None:
    bar = {"instrument_id": [9], "ts_event": [NOW_NS], "interval_ns": [60], "open": [2], "high": [4], "low": [1]}
    await publish(stub, name, [make_batch(Kind.BAR, {**bar, "close": [3]})])
    (item,) = (await stub.ListQuarantined(api.ListQuarantinedRequest(dataset=name))).items
    (listed,) = item.bars
    assert (listed.high, list(listed.verdicts)) == ("0.000000004", [Verdict.VERDICT_UNKNOWN_INSTRUMENT])
    assert not item.quotes
    assert not item.trades


async def test_calls_that_publish_rows_tell_how_many_are_set_aside(stub: Any, name: str) -> None:
    moment = Timestamp(seconds=NOW_NS // 1_000_000_000)
    crossed = Quote(symbol="A", event_time=moment, bid_price="2", ask_price="1")
    good = Quote(symbol="A", event_time=moment, bid_price="1", ask_price="2")
    answer = await stub.PublishQuotes(api.PublishQuotesRequest(dataset=name, quotes=[crossed, good, crossed]))
    assert (answer.flagged_rows, answer.quarantined_rows) == (0, 2)
    none = Trade(symbol="B", event_time=moment, price="-1")
    answer = await stub.PublishTrades(api.PublishTradesRequest(dataset=name, trades=[none]))
    assert (answer.quarantined_rows, answer.tape_sequence > 0) == (1, True)
