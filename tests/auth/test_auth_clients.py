"""The decisions of ClientService, with what they leave in the audit log and what they revoke."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from mda.auth.actor import Actor
from mda.auth.admin import NewApiKey, ensure_client
from mda.auth.audit import Known, verify
from mda.auth.clients import Clients, Wish
from mda.auth.paging import Place, decode_place
from mda.auth.records import Client
from mda.auth.store import Store
from mda.auth.tiers import TIERS, Tier
from mda.gateway import Limits
from mda.market.errors import MarketDataError
from mda.market.quotas import Quotas
from mda.runtime.revocation import Revocation, Revoked
from tests.auth.conftest import NOW, StandingClock, api_keys_of

UNTIL_S = (NOW + timedelta(hours=1, minutes=1)).timestamp()
GUARD = Limits().tiers()
WISH = Wish(Tier.PRO, ["reader", "publisher"], ["SIM", "GLBX.MDP3"], Quotas(streams=5))


@pytest.fixture
def clients(store: Store, clock: StandingClock) -> Clients:
    return Clients(store, clock)


@pytest.fixture
def desk(actor: Actor, clients: Clients) -> Client:
    return clients.create(actor, "desk", WISH)


@pytest.fixture
def new_key(actor: Actor, clients: Clients, desk: Client) -> NewApiKey:
    return clients.create_key(actor, desk.id, None)[0]


def refused(error: pytest.ExceptionInfo[MarketDataError]) -> tuple[str, str | None]:
    return error.value.reason_name, error.value.field


def actions(store: Store) -> list[tuple[str, str, str]]:
    return [(entry.event.actor, entry.event.action, entry.event.subject) for entry in store.audit()]


def revocations(store: Store) -> list[Revocation]:
    return [revocation for _, revocation in store.unsent_revocations()]


def test_a_client_is_made_as_wished(actor: Actor, store: Store, desk: Client) -> None:
    assert desk.id.startswith("mdc_")
    assert store.client(desk.id) == desk
    assert (desk.name, desk.tier, desk.quotas) == ("desk", Tier.PRO, Quotas(streams=5))
    assert (desk.roles, desk.datasets) == (("publisher", "reader"), ("GLBX.MDP3", "SIM"))
    assert desk.granted == ("quotes:publish", "quotes:read")
    (entry,) = store.audit()
    assert (entry.event.actor, entry.event.action, entry.event.subject) == ("mdc_admin", "client.create", desk.id)
    assert entry.event.details["roles"] == "publisher reader"


def test_a_name_is_had_once(actor: Actor, store: Store, clients: Clients, desk: Client) -> None:
    with pytest.raises(MarketDataError) as error:
        clients.create(actor, "desk", WISH)
    assert refused(error) == ("CLIENT_EXISTS", "name")
    assert len(list(store.audit())) == 1


def test_a_role_that_there_is_not_is_named(actor: Actor, clients: Clients, desk: Client) -> None:
    with pytest.raises(MarketDataError) as error:
        clients.create(actor, "other", Wish(Tier.PRO, ["reader", "king"]))
    assert refused(error) == ("INVALID_FIELD", "roles[1]")
    with pytest.raises(MarketDataError) as error:
        clients.update(actor, desk.id, Wish(roles=["king"]))
    assert refused(error) == ("INVALID_FIELD", "roles.names[0]")


def test_what_is_not_wished_stays_and_the_tokens_so_far_end(
    actor: Actor, store: Store, clients: Clients, desk: Client
) -> None:
    changed = clients.update(actor, desk.id, Wish(datasets=["*"]))
    assert (changed.tier, changed.roles, changed.quotas) == (desk.tier, desk.roles, desk.quotas)
    assert (changed.datasets, changed.version) == (("*",), 1)
    assert store.client(desk.id) == changed
    assert revocations(store) == [Revocation(Revoked.CLIENT, desk.id, 1, UNTIL_S)]
    assert actions(store)[1:] == [("mdc_admin", "client.update", desk.id)]


def test_who_says_the_roles_says_all(actor: Actor, store: Store, clients: Clients) -> None:
    """Clients of before there were roles have scopes of their own."""
    old = ensure_client(store, "old", Tier.PRO, ["quotes:publish", "quotes:read"])
    kept = clients.update(actor, old.id, Wish(tier=Tier.FREE))
    assert kept.granted == old.granted
    changed = clients.update(actor, old.id, Wish(roles=["reader"]))
    assert (changed.granted, changed.scopes) == (("quotes:read",), ())
    assert store.client(old.id) == changed


def test_what_changes_nothing_ends_nothing(actor: Actor, store: Store, clients: Clients, desk: Client) -> None:
    for wish in (Wish(), Wish(desk.tier, desk.roles[::-1], desk.datasets[::-1], desk.quotas)):
        assert clients.update(actor, desk.id, wish) == desk
    assert revocations(store) == []
    assert [action for _, action, _ in actions(store)] == ["client.create"]


def end_token(store: Store, clients: Clients, actor: Actor) -> None:
    with store.change() as change:
        change.revoke(Revocation(Revoked.TOKEN, actor.token_id, 0, UNTIL_S))


def another_admin(clients: Clients, actor: Actor, name: str = "another") -> Actor:
    client = clients.create(actor, name, Wish(Tier.PRO, ["admin"]))
    _, key = clients.create_key(actor, client.id, None)
    return Actor(client.id, key.id, "t_another", client.version)


ENDS: dict[str, Callable[[Store, Clients, Actor], object]] = {
    "its token": end_token,
    "its key": lambda _, clients, actor: clients.revoke_key(another_admin(clients, actor), actor.key),
    "its client": lambda _, clients, actor: clients.disable(another_admin(clients, actor), actor.client),
    "a change": lambda _, clients, actor: clients.update(another_admin(clients, actor), actor.client, Wish(Tier.FREE)),
}


@pytest.mark.parametrize("end", ENDS)
def test_an_ended_token_changes_and_reads_nothing_though_no_service_was_told(
    actor: Actor, store: Store, clients: Clients, desk: Client, new_key: NewApiKey, end: str
) -> None:
    clients.check(actor)
    ENDS[end](store, clients, actor)
    before = list(store.audit())
    calls: list[Callable[[], object]] = [
        lambda: clients.check(actor),
        lambda: clients.create(actor, "new", WISH),
        lambda: clients.update(actor, desk.id, Wish(tier=Tier.FREE)),
        lambda: clients.disable(actor, desk.id),
        lambda: clients.enable(actor, desk.id),
        lambda: clients.create_key(actor, desk.id, None),
        lambda: clients.rotate_key(actor, new_key.id, None, None),
        lambda: clients.revoke_key(actor, new_key.id),
    ]
    for call in calls:
        with pytest.raises(MarketDataError) as error:
            call()
        assert (error.value.reason_name, error.value.metadata) == ("INVALID_TOKEN", {"problem": "revoked"})
    assert list(store.audit()) == before


@pytest.mark.parametrize("changed", [{"client": "mdc_9"}, {"key": "mdk_9"}, {"key": ""}])
def test_who_is_not_there_is_refused(actor: Actor, clients: Clients, changed: dict[str, str]) -> None:
    with pytest.raises(MarketDataError) as error:
        clients.check(replace(actor, **changed))
    assert error.value.reason_name == "INVALID_TOKEN"


def test_a_token_outlives_its_rotated_key(actor: Actor, clients: Clients, clock: StandingClock) -> None:
    clients.rotate_key(actor, actor.key, timedelta(), None)
    clock.now += timedelta(minutes=1)
    clients.check(actor)


def test_the_last_admin_stays(actor: Actor, store: Store, clients: Clients, desk: Client) -> None:
    takes_away: list[Callable[[], object]] = [
        lambda: clients.disable(actor, actor.client),
        lambda: clients.update(actor, actor.client, Wish(roles=["reader"])),
    ]
    gone = another_admin(clients, actor, "gone")
    clients.disable(actor, gone.client)
    for change in takes_away:
        with pytest.raises(MarketDataError, match="Make another admin first") as error:
            change()
        assert refused(error) == ("INVALID_FIELD", "client_id")
    assert store.client(actor.client).version == actor.version
    other = another_admin(clients, actor)
    clients.disable(other, actor.client)
    with pytest.raises(MarketDataError, match="Make another admin first"):
        clients.update(other, other.client, Wish(roles=["reader"]))


def test_a_client_is_kept_out_and_let_in_again(
    actor: Actor, store: Store, clients: Clients, desk: Client, clock: StandingClock
) -> None:
    for _ in range(2):
        assert clients.disable(actor, desk.id).disabled_at == clock.now
    assert revocations(store) == [Revocation(Revoked.CLIENT, desk.id, 1, UNTIL_S)]
    for _ in range(2):
        assert clients.enable(actor, desk.id).disabled_at is None
    assert [action for _, action, _ in actions(store)] == ["client.create", "client.disable", "client.enable"]


def test_a_key_is_made_for_a_client(
    actor: Actor, store: Store, clients: Clients, desk: Client, clock: StandingClock
) -> None:
    new, key = clients.create_key(actor, desk.id, timedelta(days=30))
    assert (key.id, key.client, key.expires_at) == (new.id, desk, clock.now + timedelta(days=30))
    assert store.find_api_key(new.id) == key
    (*_, entry) = store.audit()
    assert (entry.event.action, entry.event.subject) == ("api_key.create", new.id)
    assert entry.event.details == {"client": desk.id, "expires": "2026-04-01T14:30:00+00:00"}


@pytest.mark.parametrize(
    ("before", "overlap", "ends_in"),
    [
        (None, None, timedelta(days=1)),
        (None, timedelta(hours=2), timedelta(hours=2)),
        (None, timedelta(), timedelta()),
        (timedelta(hours=1), timedelta(hours=2), timedelta(hours=1)),
    ],
)
def test_a_rotated_key_works_on_for_a_while(
    actor: Actor,
    store: Store,
    clients: Clients,
    desk: Client,
    before: timedelta | None,
    overlap: timedelta | None,
    ends_in: timedelta,
) -> None:
    _, first = clients.create_key(actor, desk.id, before)
    new, key, old = clients.rotate_key(actor, first.id, overlap, timedelta(days=9))
    assert (old.id, old.expires_at) == (first.id, NOW + ends_in)
    assert (key.id, key.client, key.expires_at) == (new.id, desk, NOW + timedelta(days=9))
    assert [store.find_api_key(each.id) for each in (old, key)] == [old, key]
    assert actions(store)[-1] == ("mdc_admin", "api_key.rotate", first.id)
    assert revocations(store) == []


def test_a_key_that_works_no_longer_is_not_rotated(
    actor: Actor, store: Store, clients: Clients, desk: Client, new_key: NewApiKey, clock: StandingClock
) -> None:
    _, short = clients.create_key(actor, desk.id, timedelta(hours=1))
    clients.revoke_key(actor, new_key.id)
    clock.now += timedelta(hours=1)
    before = api_keys_of(store)
    for key_id in (short.id, new_key.id):
        with pytest.raises(MarketDataError) as error:
            clients.rotate_key(actor, key_id, None, None)
        assert refused(error) == ("API_KEY_ENDED", "key_id")
    assert api_keys_of(store) == before


def test_a_key_is_revoked_once(
    actor: Actor, store: Store, clients: Clients, new_key: NewApiKey, clock: StandingClock
) -> None:
    at = clock.now
    for _ in range(2):
        assert clients.revoke_key(actor, new_key.id).revoked_at == at
        clock.now += timedelta(minutes=1)
    assert revocations(store) == [Revocation(Revoked.KEY, new_key.id, 0, UNTIL_S)]
    assert [action for _, action, _ in actions(store)].count("api_key.revoke") == 1


def test_what_is_not_there_is_told(actor: Actor, clients: Clients) -> None:
    for change in (
        lambda: clients.update(actor, "mdc_9", WISH),
        lambda: clients.disable(actor, "mdc_9"),
        lambda: clients.enable(actor, "mdc_9"),
        lambda: clients.create_key(actor, "mdc_9", None),
    ):
        with pytest.raises(MarketDataError) as error:
            change()
        assert refused(error) == ("UNKNOWN_CLIENT", "client_id")
    for change in (lambda: clients.revoke_key(actor, "mdk_9"), lambda: clients.rotate_key(actor, "mdk_9", None, None)):
        with pytest.raises(MarketDataError) as error:
            change()
        assert refused(error) == ("UNKNOWN_API_KEY", "key_id")


def test_a_change_that_fails_leaves_nothing(store: Store, clients: Clients, desk: Client) -> None:
    with pytest.raises(ZeroDivisionError), store.change() as change:
        change.save_client(Client(desk.id, "desk", Tier.FREE, (), (), NOW))
        change.revoke(Revocation(Revoked.CLIENT, desk.id, 1, UNTIL_S))
        raise ZeroDivisionError
    assert store.client(desk.id) == desk
    assert revocations(store) == []


def test_pages_go_by_age_and_miss_none(actor: Actor, store: Store, clients: Clients, clock: StandingClock) -> None:
    made: list[str] = []
    for number in range(7):
        made.append(clients.create(actor, f"c{9 - number}", WISH).id)
        clock.now += timedelta(milliseconds=number % 2)  # some are of the same age
    seen: list[str] = []
    place: Place | None = None
    while True:
        found = store.page_of_clients(place, 3)
        seen += [client.id for client in found[:3]]
        if len(found) <= 3:
            break
        place = decode_place(Place(found[2].created_at, found[2].id).encode())
    assert sorted(seen) == sorted([*made, actor.client])
    ages = [store.client(client_id).created_at for client_id in seen]
    assert ages == sorted(ages)


def test_keys_are_listed_of_one_client_or_of_all(actor: Actor, store: Store, clients: Clients, desk: Client) -> None:
    other = clients.create(actor, "other", WISH)
    mine = {clients.create_key(actor, desk.id, None)[0].id for _ in range(2)}
    theirs = {clients.create_key(actor, other.id, None)[0].id}
    assert {key.id for key in store.page_of_api_keys(desk.id, None, 10)} == mine
    assert {key.id for key in store.page_of_api_keys(None, None, 10)} == mine | theirs | {actor.key}
    with pytest.raises(MarketDataError, match="There is no client mdc_9"):
        store.page_of_api_keys("mdc_9", None, 10)


def test_many_changes_at_once_make_one_chain(actor: Actor, store: Store, clients: Clients) -> None:
    def work(number: int) -> None:
        clients.create(actor, f"c{number}", WISH)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verdict = verify(store.audit())
    assert (verdict.entries, verdict.problem) == (8, "")
    head = next(iter(store.page_of_audit(0, 1)))
    assert verify(store.audit(), Known(head.sequence, head.hash)) == verdict


def test_revocations_are_sent_and_forgotten(
    actor: Actor, store: Store, clients: Clients, desk: Client, clock: StandingClock
) -> None:
    clients.disable(actor, desk.id)
    ((number, _),) = store.unsent_revocations()
    store.forget_revocations(clock.now + timedelta(days=1))
    assert len(store.unsent_revocations()) == 1, "one that is yet to be sent was forgotten"
    store.revocations_sent([number])
    assert store.unsent_revocations() == []
    with store.change() as change:
        change.revoke(Revocation(Revoked.TOKEN, "t1", 0, NOW.timestamp()))
    assert store.is_revoked("t1")
    assert not store.is_revoked("t2")
    store.revocations_sent([number for number, _ in store.unsent_revocations()])
    store.forget_revocations(clock.now + timedelta(seconds=1))
    assert not store.is_revoked("t1")


@pytest.mark.parametrize("tier", Tier)
def test_the_gateway_lets_through_what_a_client_may_have_at_most(tier: Tier) -> None:
    most = 2 * (TIERS[tier].requests_per_second or 0)
    assert (GUARD[tier].per_second, GUARD[tier].burst) == (most, 2 * most)
