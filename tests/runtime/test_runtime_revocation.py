"""Revocations: which tokens they end, how they come, and what they do to streams that run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import pytest
import pytest_asyncio
from echo_service import SCOPED, serving
from issuing import AUDIENCE, ISSUER, Issuer, eventually
from nats.aio.client import Client

from marketdata.errors import api_error
from marketdata.v1.instrument_pb2 import Instrument
from mda.market.errors import MarketDataError
from mda.market.quotas import Quotas
from mda.runtime.identity import Caller, Principal, TokenVerifier, current_principal, set_caller
from mda.runtime.lease import while_token_lives
from mda.runtime.revocation import STREAM, SUBJECTS, Revocation, Revocations, Revoked, following_revocations
from mda.runtime.settings import ServiceSettings
from mda.runtime.usage.account import Account, Usage
from mda.tape.log import Log
from tests.tape.nats_server import NatsServer

ACCOUNT = Account(Usage(), "mdc_1", Quotas())
LATER = time.time() + 3600
HOLDER = Principal("mdc_1", frozenset(), "", LATER, key="mdk_1", token_id="t1", version=3)
ENDS = {
    "the token": Revocation(Revoked.TOKEN, "t1", 0, LATER),
    "its key": Revocation(Revoked.KEY, "mdk_1", 0, LATER),
    "its client": Revocation(Revoked.CLIENT, "mdc_1", 4, LATER),
}
LEAVES = {
    "another token": Revocation(Revoked.TOKEN, "t2", 0, LATER),
    "another key": Revocation(Revoked.KEY, "mdk_2", 0, LATER),
    "another client": Revocation(Revoked.CLIENT, "mdc_2", 9, LATER),
    "an earlier version of the client": Revocation(Revoked.CLIENT, "mdc_1", 3, LATER),
    "a key by the name of the token": Revocation(Revoked.KEY, "t1", 0, LATER),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_ends_a_token(name: str) -> None:
    revocations = Revocations()
    assert not revocations.covers(HOLDER)
    revocations.apply(ENDS[name])
    assert revocations.covers(HOLDER)


@pytest.mark.parametrize("name", LEAVES)
def test_what_does_not(name: str) -> None:
    revocations = Revocations()
    revocations.apply(LEAVES[name])
    assert not revocations.covers(HOLDER)


@pytest.mark.parametrize("revocation", [*ENDS.values(), *LEAVES.values()])
def test_what_is_told_is_understood(revocation: Revocation) -> None:
    assert Revocation.decode(revocation.encode()) == revocation


def test_those_whose_tokens_have_ended_are_forgotten() -> None:
    revocations = Revocations(lambda: 100.0)
    revocations.apply(Revocation(Revoked.KEY, "mdk_1", 0, 99.0))
    assert not revocations.covers(HOLDER)


@pytest.mark.parametrize("versions", [(4, 5), (5, 4), (4, 5, 4)])
def test_what_is_told_late_takes_nothing_back(versions: tuple[int, ...]) -> None:
    revocations = Revocations()
    for version in versions:
        revocations.apply(Revocation(Revoked.CLIENT, "mdc_1", version, LATER))
    assert revocations.covers(replace(HOLDER, version=4))
    assert not revocations.covers(replace(HOLDER, version=5))


def hold(revocations: Revocations, principal: Principal = HOLDER) -> None:
    async def renewed(token: str) -> Principal:
        return replace(principal, token_id=token, expires_s=LATER + 60)

    set_caller(Caller(principal, ACCOUNT, renewed, revocations))


@pytest.mark.parametrize("name", ENDS)
async def test_a_stream_ends_when_its_token_is_revoked(name: str) -> None:
    revocations = Revocations()
    hold(revocations)
    with pytest.raises(MarketDataError) as caught:
        async with while_token_lives():
            revocations.apply(LEAVES["another key"])
            asyncio.get_running_loop().call_soon(revocations.apply, ENDS[name])
            await asyncio.sleep(30)
    assert caught.value.reason_name == "TOKEN_REVOKED"


async def test_a_stream_whose_token_is_revoked_already_ends_at_once() -> None:
    revocations = Revocations()
    revocations.apply(ENDS["its key"])
    hold(revocations)
    with pytest.raises(MarketDataError, match="has been revoked"):
        async with while_token_lives():
            await asyncio.sleep(30)


async def test_a_fresh_token_takes_the_place_of_the_first() -> None:
    revocations = Revocations()
    hold(revocations)
    reached: list[str] = []
    with pytest.raises(MarketDataError) as caught:
        async with while_token_lives() as lease:
            await lease.renew("t2")
            revocations.apply(ENDS["the token"])
            await asyncio.sleep(0)
            reached.append(current_principal().client)
            revocations.apply(Revocation(Revoked.TOKEN, "t2", 0, LATER))
            await asyncio.sleep(30)
    assert reached == ["mdc_1"]
    assert caught.value.reason_name == "TOKEN_REVOKED"


async def test_a_fresh_token_saves_no_stream_that_is_revoked() -> None:
    revocations = Revocations()
    hold(revocations)
    with pytest.raises(MarketDataError, match="has been revoked"):
        async with while_token_lives() as lease:
            revocations.apply(ENDS["its client"])
            await lease.renew("t2")
            await asyncio.sleep(30)


@pytest.mark.parametrize("fresh", [{"version": 4}, {"version": 2}])
async def test_a_client_that_changed_opens_its_stream_again(fresh: dict[str, int]) -> None:
    """The fresh token may be for less than what the stream gives, and the revocation still be on its way."""

    async def renewed(token: str) -> Principal:
        return replace(HOLDER, token_id=token, **fresh)

    set_caller(Caller(HOLDER, ACCOUNT, renewed, Revocations()))
    async with while_token_lives() as lease:
        with pytest.raises(MarketDataError) as caught:
            await lease.renew("t2")
    assert caught.value.reason_name == "TOKEN_REVOKED"


async def test_a_stream_lives_as_long_as_its_newest_token_and_no_longer() -> None:
    async def renewed(token: str) -> Principal:
        return replace(HOLDER, token_id=token, expires_s=time.time() + 60)

    set_caller(Caller(HOLDER, ACCOUNT, renewed, Revocations()))
    async with while_token_lives() as lease:
        await lease.renew("t2")
        assert lease.expires_s < time.time() + 61


async def test_what_is_revoked_twice_while_a_stream_ends_harms_nobody() -> None:
    revocations = Revocations()
    hold(revocations)
    with pytest.raises(MarketDataError) as caught:
        async with while_token_lives():
            try:
                revocations.apply(ENDS["its key"])
                await asyncio.sleep(30)
            finally:
                revocations.apply(ENDS["its client"])
                await asyncio.sleep(0)
    assert caught.value.reason_name == "TOKEN_REVOKED"


async def test_streams_that_have_ended_are_held_no_longer() -> None:
    revocations = Revocations()
    hold(revocations)
    async with while_token_lives():
        assert revocations._held
    assert not revocations._held


async def test_a_revoked_token_verifies_no_more_though_it_is_remembered(issuer: Issuer) -> None:
    revocations = Revocations()
    verifier = TokenVerifier(issuer.fetch, ISSUER, AUDIENCE, revocations=revocations)
    header = f"Bearer {issuer.token(jti='t1', client_id='mdk_1', version=3)}"
    assert (await verifier.verify(header)).token_id == "t1"
    revocations.apply(ENDS["its client"])
    with pytest.raises(MarketDataError) as caught:
        await verifier.verify(header)
    assert (caught.value.reason_name, caught.value.metadata) == ("INVALID_TOKEN", {"problem": "revoked"})
    assert (await verifier.verify(f"Bearer {issuer.token(version=4)}")).version == 4


@pytest_asyncio.fixture
async def log(nats: NatsServer, client: Client) -> AsyncIterator[Log]:
    made = Log(client, STREAM, SUBJECTS)
    await made.create(max_bytes=1 << 20, replicas=1, keep_s=3600)
    yield made
    await client.jetstream().delete_stream(STREAM)


async def tell(log: Log, revocation: Revocation) -> None:
    await log.append(revocation.subject, revocation.encode(), {}, None)


async def test_a_service_knows_what_was_revoked_before_it_began_and_what_comes(nats: NatsServer, log: Log) -> None:
    await tell(log, ENDS["its key"])
    await tell(log, LEAVES["another client"])
    async with following_revocations(ServiceSettings(nats_url=nats.url)) as revocations:
        assert revocations.covers(HOLDER)
        other = replace(HOLDER, key="mdk_9", token_id="t9")
        assert not revocations.covers(other)
        await tell(log, Revocation(Revoked.TOKEN, "t9", 0, LATER))
        await eventually(lambda: revocations.covers(other), 5)


async def test_what_is_not_understood_stops_nothing(nats: NatsServer, log: Log) -> None:
    await log.append(ENDS["its key"].subject, b'{"what": "planet"}', {}, None)
    await log.append(ENDS["its key"].subject, b"\x00", {}, None)
    await tell(log, ENDS["its key"])
    async with following_revocations(ServiceSettings(nats_url=nats.url)) as revocations:
        assert revocations.covers(HOLDER)


async def test_a_log_that_was_lost_and_made_anew_is_read_from_its_beginning(
    nats: NatsServer, client: Client, log: Log
) -> None:
    for _ in range(5):
        await tell(log, LEAVES["another client"])
    async with following_revocations(ServiceSettings(nats_url=nats.url)) as revocations:
        await client.jetstream().delete_stream(STREAM)
        await log.create(max_bytes=1 << 20, replicas=1, keep_s=3600)
        await tell(log, ENDS["the token"])
        await eventually(lambda: revocations.covers(HOLDER), 10)


async def test_a_log_that_is_not_there_yet_is_waited_for(nats: NatsServer, client: Client) -> None:
    async with following_revocations(ServiceSettings(nats_url=nats.url)) as revocations:
        log = Log(client, STREAM, SUBJECTS)
        await log.create(max_bytes=1 << 20, replicas=1, keep_s=3600)
        await tell(log, ENDS["the token"])
        await eventually(lambda: revocations.covers(HOLDER), 5)
    await client.jetstream().delete_stream(STREAM)


async def test_a_running_call_ends_within_a_second_of_the_revocation(
    issuer: Issuer, nats: NatsServer, log: Log
) -> None:
    async with (
        following_revocations(ServiceSettings(nats_url=nats.url)) as revocations,
        serving(SCOPED, TokenVerifier(issuer.fetch, ISSUER, AUDIENCE, revocations=revocations)) as caller,
    ):
        metadata = {"authorization": f"Bearer {issuer.token(client_id='mdk_1')}"}
        call = caller.call("ManyMany", Instrument(symbol="A", description="token"), metadata=metadata)
        reading = asyncio.ensure_future(call.read())
        await eventually(lambda: revocations._held, 5)
        began = time.monotonic()
        await tell(log, ENDS["its key"])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reading
        assert time.monotonic() - began < 1
    error = api_error(caught.value)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")
    assert not error.transient
