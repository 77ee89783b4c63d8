"""Page tokens that anybody may have made."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mda.auth.actor import Actor
from mda.auth.paging import Place, decode_place
from mda.auth.store import Store
from mda.market.errors import MarketDataError
from mda.market.pages import decode_page, encode_page
from tests.auth.conftest import NOW


def encoded(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


ZONES = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(timezone)
TIMES = st.datetimes(timezones=st.none() | ZONES | st.just(UTC)).map(datetime.isoformat)
IDS = st.text() | st.from_regex(r"md[ck]_[0-9a-z_]{1,28}", fullmatch=True)
TOKENS = st.one_of(
    st.text(),
    st.binary().map(lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()),
    st.tuples(TIMES, IDS).map(encoded),
    st.recursive(st.none() | st.integers() | TIMES | IDS, st.lists).map(encoded),
    st.integers(0, (1 << 64) - 1).map(encode_page),
)


def read(store: Store, token: str) -> None:
    place = decode_place(token)
    store.page_of_clients(place, 10)
    store.page_of_api_keys(None, place, 10)


def refusal(attempt: Callable[[], object]) -> tuple[str, str | None] | None:
    try:
        attempt()
    except MarketDataError as error:
        return error.reason_name, error.field
    return None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(token=TOKENS)
def test_a_forged_token_gives_a_page_or_is_refused(store: Store, token: str) -> None:
    allowed = (None, ("INVALID_FIELD", "page_token"))
    assert refusal(lambda: read(store, token)) in allowed
    assert refusal(lambda: store.page_of_audit(decode_page(token), 10)) in allowed


@pytest.mark.parametrize(
    "token",
    [
        *("!", "e30", "W10", "WzEsMl0", "WyJ4IiwieSJd", "A" * 100),
        encoded(["2026-03-02T14:30:00", "mdc_1"]),
        encoded(["0001-01-01T00:00:00+23:59", "mdc_1"]),
        encoded(["9999-12-31T23:59:59-23:59", "mdc_1"]),
        encoded(["2026-03-02T14:30:00+00:00", 1]),
        encoded(["2026-03-02T14:30:00+00:00", "\0"]),
        encoded(["2026-03-02T14:30:00+00:00", "\ud800"]),
        encoded(["2026-03-02T14:30:00Z", "mdc_1"]),
    ],
)
def test_what_is_no_place_is_refused(token: str) -> None:
    with pytest.raises(MarketDataError) as error:
        decode_place(token)
    assert (error.value.reason_name, error.value.field) == ("INVALID_FIELD", "page_token")


def test_a_number_that_no_database_has_is_refused() -> None:
    assert decode_page(encode_page((1 << 63) - 1)) == (1 << 63) - 1
    with pytest.raises(MarketDataError) as error:
        decode_page(encode_page(1 << 63))
    assert (error.value.reason_name, error.value.field) == ("INVALID_FIELD", "page_token")


def test_a_place_comes_back(store: Store, actor: Actor) -> None:
    (client,) = store.page_of_clients(None, 1)
    place = Place(client.created_at, actor.client)
    assert decode_place(place.encode()) == place
    assert store.page_of_clients(place, 1) == []
    assert decode_place(Place(NOW, "mdk_1").encode()) == Place(NOW, "mdk_1")
