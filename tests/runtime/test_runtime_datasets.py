"""Which datasets a token is for: held to at the one place that all calls pass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from echo_service import KINDS, PATH, Caller, serving
from issuing import AUDIENCE, ISSUER, Issuer

from marketdata.errors import ApiError, api_error
from marketdata.v1.instrument_pb2 import Instrument
from mda.market.errors import MarketDataError
from mda.runtime.access import Rule
from mda.runtime.identity import Principal, TokenVerifier

# Here an instrument's symbol stands for the dataset.
RULES = {f"{PATH}/{name}": Rule("quotes:read", dataset=("symbol",), request=Instrument) for name in KINDS}


class Told:
    """Keeps the refusals that it is told of."""

    def __init__(self) -> None:
        self.of: list[tuple[str, str, str]] = []

    async def __call__(self, method: str, principal: Principal, error: MarketDataError) -> None:
        self.of.append((method, principal.client, error.reason_name))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest_asyncio.fixture
async def caller(issuer: Issuer, told: Told) -> AsyncIterator[Caller]:
    async with serving(RULES, TokenVerifier(issuer.fetch, ISSUER, AUDIENCE), told) as serving_caller:
        yield serving_caller


def bearer(issuer: Issuer, datasets: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {issuer.token(datasets=datasets)}"}


async def refused(caller: Caller, method: str, *requests: Any, **options: Any) -> ApiError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.answers(method, *requests, **options)
    return api_error(caught.value)


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("datasets", [["SIM"], ["GLBX.MDP3", "SIM"], ["*"]])
async def test_a_token_for_the_dataset_is_served(
    caller: Caller, issuer: Issuer, method: str, datasets: list[str], told: Told
) -> None:
    answers = await caller.answers(method, Instrument(symbol="SIM"), metadata=bearer(issuer, datasets))
    assert answers[-1].symbol == "SIM"
    assert told.of == []


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("datasets", [[], None, ["SIMU"], ["S"], ["SIM*"]])
async def test_another_token_is_refused_and_the_refusal_told(
    caller: Caller, issuer: Issuer, method: str, datasets: Any, told: Told
) -> None:
    error = await refused(caller, method, Instrument(symbol="SIM"), metadata=bearer(issuer, datasets))
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "DATASET_NOT_ENTITLED")
    assert error.metadata == {"field": "symbol", "dataset": "SIM"}
    assert told.of == [(f"{PATH}/{method}", "mdc_1", "DATASET_NOT_ENTITLED")]


async def test_what_opens_a_stream_counts_and_what_comes_after_does_not(caller: Caller, issuer: Issuer) -> None:
    requests = [Instrument(symbol="SIM"), Instrument(symbol="OTHER")]
    answers = await caller.answers("ManyMany", *requests, metadata=bearer(issuer, ["SIM"]))
    assert [answer.symbol for answer in answers] == ["SIM", "OTHER"]


async def test_a_stream_that_opens_with_no_message_is_refused(caller: Caller, issuer: Issuer) -> None:
    error = await refused(caller, "ManyMany", b"\xff", metadata=bearer(issuer, ["SIM"]))
    assert error.reason == "MALFORMED_MESSAGE"


@pytest.mark.parametrize("method", KINDS)
async def test_naming_no_dataset_is_being_entitled_to_none(caller: Caller, issuer: Issuer, method: str) -> None:
    error = await refused(caller, method, Instrument(), metadata=bearer(issuer, ["SIM"]))
    assert error.reason in {"DATASET_NOT_ENTITLED", "INVALID_FIELD"}


async def test_a_method_that_should_name_a_dataset_and_does_not_is_refused_to_everybody(issuer: Issuer) -> None:
    rules = {f"{PATH}/OneOne": Rule("quotes:read")}
    async with serving(rules, TokenVerifier(issuer.fetch, ISSUER, AUDIENCE)) as caller:
        error = await refused(caller, "OneOne", Instrument(symbol="SIM"), metadata=bearer(issuer, ["*"]))
    assert (error.reason, error.metadata) == ("MISSING_SCOPE", {"scope": ""})


async def test_a_refusal_for_want_of_a_scope_is_told_too(caller: Caller, issuer: Issuer, told: Told) -> None:
    metadata = {"authorization": f"Bearer {issuer.token(scope='')}"}
    assert (await refused(caller, "OneOne", Instrument(symbol="SIM"), metadata=metadata)).reason == "MISSING_SCOPE"
    assert told.of == [(f"{PATH}/OneOne", "mdc_1", "MISSING_SCOPE")]
