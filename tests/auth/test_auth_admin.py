"""Making clients and API keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mda.auth import api_key, bootstrap
from mda.auth.actor import Actor
from mda.auth.admin import NewApiKey, create_api_key, ensure_client
from mda.auth.clients import Clients, Wish
from mda.auth.engine import open_engine
from mda.auth.models import Base
from mda.auth.opening import open_store
from mda.auth.records import Client
from mda.auth.settings import AuthSettings
from mda.auth.store import Store
from mda.auth.tiers import Tier
from tests.auth.conftest import api_keys_of, clients_of

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
    assert clients_of(store) == [stored]


def test_a_known_client_stays_as_somebody_has_made_it(store: Store, actor: Actor, stored: Client) -> None:
    changed = Clients(store).update(actor, stored.id, Wish(Tier.FREE, ["reader"], ["SIM"]))
    Clients(store).disable(actor, stored.id)
    kept = ensure_client(store, "desk", Tier.PRO, ["trades:read", "quotes:read"])
    assert (kept.granted, kept.datasets, kept.tier) == (("quotes:read",), ("SIM",), Tier.FREE)
    assert kept == store.client(stored.id)
    assert (kept.version, kept.disabled_at is None) == (changed.version + 1, False)


def test_scopes_are_sorted(store: Store) -> None:
    assert ensure_client(store, "desk", Tier.PRO, "hgfedcbah").scopes == tuple("abcdefgh")


def test_clients_have_ids_of_their_own(store: Store, stored: Client) -> None:
    assert ensure_client(store, "other", Tier.FREE, ["a"]).id != stored.id


@pytest.mark.parametrize("name", ["", " ", "a b", ".a", "a\n", "é", "a" * 101])
def test_names_that_will_not_do(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="not a client name"):
        ensure_client(store, name, Tier.FREE, ["a"])
    assert clients_of(store) == []


@pytest.mark.parametrize("name", ["a", "A.b-c_d@e", "0" * 100])
def test_names_that_will(store: Store, name: str) -> None:
    assert ensure_client(store, name, Tier.FREE, ["a"]).name == name


@pytest.mark.parametrize(
    ("scopes", "message"),
    [
        ([], "a client needs at least one scope"),
        (["a b"], "not a scope: 'a b'"),
        (["ok", ""], "not a scope: ''"),
        (['"', "\\"], "not a scope: "),
    ],
)
def test_scopes_that_will_not_do(store: Store, scopes: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ensure_client(store, "desk", Tier.FREE, scopes)


def test_the_first_admin_is_made_on_the_machine_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MDA_AUTH_DATABASE_URL", f"sqlite:///{tmp_path / 'auth.db'}")
    bootstrap.main([])
    key_id, secret = api_key.parse_api_key(capsys.readouterr().out)
    store = open_store(AuthSettings())
    (key,) = api_keys_of(store)
    assert (key.id, key.client.name, key.client.granted) == (key_id, "admin", ("clients:admin",))
    assert api_key.verify_secret(secret, key.secret_hash)
    said = [(entry.event.actor, entry.event.action, entry.event.subject) for entry in store.audit()]
    assert said == [("local", "client.create", key.client.id), ("local", "api_key.create", key_id)]
    for name, message in (("admin", "There is a client of the name 'admin'"), ("a b", "not a client name")):
        with pytest.raises(SystemExit, match=message):
            bootstrap.main([name])
    bootstrap.main(["second"])
    assert len(api_keys_of(store)) == 2
    store.close()


def test_a_new_api_key(store: Store, stored: Client, clock: Clock) -> None:
    new = create_api_key(store, stored, clock=clock)
    (key,) = api_keys_of(store)
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
    assert [key.expires_at for key in api_keys_of(store)] == [clock() + timedelta(days=30)]


@pytest.mark.parametrize("lifetime", [timedelta(), timedelta(seconds=-1)])
def test_a_lifetime_must_be_positive(store: Store, stored: Client, lifetime: timedelta) -> None:
    with pytest.raises(ValueError, match="lifetime of an API key must be positive"):
        create_api_key(store, stored, lifetime=lifetime)
    assert api_keys_of(store) == []


def test_the_text_of_a_key() -> None:
    assert NewApiKey("mdk_1", "s").text == "mdk_1.s"
