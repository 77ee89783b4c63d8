"""Making clients and API keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from mda.auth import api_key
from mda.auth.admin import NewApiKey, create_api_key, ensure_client
from mda.auth.engine import open_engine
from mda.auth.models import Base
from mda.auth.records import Client, Tier
from mda.auth.store import Store

Clock = Callable[[], datetime]


def dump(database_url: str) -> str:
    """Return all that stands in a database."""
    engine = open_engine(database_url)
    with engine.connect() as connection:
        content = [str(connection.execute(table.select()).all()) for table in Base.metadata.sorted_tables]
    engine.dispose()
    return "".join(content)


@pytest.fixture
def stored(store: Store, clock: Clock) -> Client:
    return ensure_client(store, "desk", Tier.PRO, ["trades:read", "quotes:read"], clock=clock)


def test_a_new_client(store: Store, stored: Client, clock: Clock) -> None:
    assert stored == Client(
        id=stored.id,
        name="desk",
        tier=Tier.PRO,
        scopes=("quotes:read", "trades:read"),
        datasets=("*",),
        created_at=clock(),
    )
    assert stored.id.startswith("mdc_")
    assert store.list_clients() == [stored]


def test_a_known_client_becomes_as_said_and_keeps_its_id(store: Store, stored: Client) -> None:
    changed = ensure_client(store, "desk", Tier.FREE, ["a", "a"], datasets=["SIM", "GLBX.MDP3"])
    assert (changed.id, changed.created_at) == (stored.id, stored.created_at)
    assert (changed.tier, changed.scopes, changed.datasets) == (Tier.FREE, ("a",), ("GLBX.MDP3", "SIM"))
    assert store.list_clients() == [changed]


def test_scopes_and_datasets_are_sorted(store: Store) -> None:
    client = ensure_client(store, "desk", Tier.PRO, "hgfedcbah", datasets="HGFEDCBAH")
    assert (client.scopes, client.datasets) == (tuple("abcdefgh"), tuple("ABCDEFGH"))


def test_datasets_not_named_stay(store: Store) -> None:
    ensure_client(store, "desk", Tier.PRO, ["a"], datasets=["SIM"])
    assert ensure_client(store, "desk", Tier.PRO, ["a"]).datasets == ("SIM",)


def test_clients_have_ids_of_their_own(store: Store, stored: Client) -> None:
    assert ensure_client(store, "other", Tier.FREE, ["a"]).id != stored.id


@pytest.mark.parametrize("name", ["", " ", "a b", ".a", "a\n", "é", "a" * 101])
def test_names_that_will_not_do(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="not a client name"):
        ensure_client(store, name, Tier.FREE, ["a"])
    assert store.list_clients() == []


@pytest.mark.parametrize("name", ["a", "A.b-c_d@e", "0" * 100])
def test_names_that_will(store: Store, name: str) -> None:
    assert ensure_client(store, name, Tier.FREE, ["a"]).name == name


@pytest.mark.parametrize(
    ("scopes", "datasets", "message"),
    [
        ([], None, "a client needs at least one scope"),
        (["a b"], None, "not a scope: 'a b'"),
        (["ok", ""], None, "not a scope: ''"),
        (['"', "\\"], None, "not a scope: "),
        (["ok"], [], "a client needs at least one dataset"),
        (["ok"], ["**"], "not a dataset: '\\*\\*'"),
        (["ok"], ["a b", "SIM"], "not a dataset: 'a b'$"),
    ],
)
def test_scopes_and_datasets_that_will_not_do(
    store: Store, scopes: list[str], datasets: list[str] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ensure_client(store, "desk", Tier.FREE, scopes, datasets=datasets)


def test_a_new_api_key(store: Store, stored: Client, clock: Clock) -> None:
    new = create_api_key(store, stored, clock=clock)
    (key,) = store.list_api_keys()
    assert (key.id, key.client, key.hint) == (new.id, stored, new.secret[-4:])
    assert (key.created_at, key.expires_at, key.revoked_at, key.last_used_at) == (clock(), None, None, None)
    assert api_key.verify_secret(new.secret, key.secret_hash)
    assert api_key.parse_api_key(new.text) == (new.id, new.secret)


def test_the_secret_is_not_stored_nor_shown(store: Store, stored: Client, database_url: str) -> None:
    new = create_api_key(store, stored)
    content = dump(database_url)
    assert new.id in content
    assert new.secret not in content
    assert new.secret not in repr(new)


def test_a_lifetime(store: Store, stored: Client, clock: Clock) -> None:
    create_api_key(store, stored, lifetime=timedelta(days=30), clock=clock)
    assert [key.expires_at for key in store.list_api_keys()] == [clock() + timedelta(days=30)]


@pytest.mark.parametrize("lifetime", [timedelta(), timedelta(seconds=-1)])
def test_a_lifetime_must_be_positive(store: Store, stored: Client, lifetime: timedelta) -> None:
    with pytest.raises(ValueError, match="lifetime of an API key must be positive"):
        create_api_key(store, stored, lifetime=lifetime)
    assert store.list_api_keys() == []


def test_the_text_of_a_key() -> None:
    assert NewApiKey("mdk_1", "s").text == "mdk_1.s"
