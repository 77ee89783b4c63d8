"""Signing keys that come and go: what verifiers with a cache see of it, and processes that do it at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

import jwt
import pytest
from structlog.testing import capture_logs

from mda.auth import rotation as module
from mda.auth.engine import WRITES, open_engine
from mda.auth.keys import new_key_pair, to_pem
from mda.auth.records import ApiKey, SigningKey
from mda.auth.rotation import KeyRotation, Schedule
from mda.auth.sealing import KekSealer, SealError
from mda.auth.settings import AuthSettings
from mda.auth.store import Store
from mda.auth.tokens import TokenIssuer
from tests.auth.conftest import AUDIENCE, ISSUER, NOW, StandingClock
from tests.auth.test_auth_telling import until

KEK, OTHER_KEK = "A" * 43, "B" * 42 + "A"
HOUR = timedelta(hours=1)
SCHEDULE = Schedule(life=6 * HOUR, lead=HOUR, tail=timedelta(minutes=16))


@pytest.fixture
def sealer() -> KekSealer:
    return KekSealer([KEK])


@pytest.fixture
def rotation(store: Store, sealer: KekSealer, clock: StandingClock) -> KeyRotation:
    return KeyRotation(store, [sealer], SCHEDULE, clock)


def kids(rotation: KeyRotation) -> list[str]:
    return [key["kid"] for key in json.loads(rotation.keys.jwks)["keys"]]


def test_the_first_key_signs_at_once(rotation: KeyRotation, store: Store, clock: StandingClock) -> None:
    keys = rotation.refresh()
    (stored,) = store.list_signing_keys()
    assert (stored.generation, stored.signs_from) == (1, clock.now)
    assert keys.signing_key(clock.now).kid == stored.kid
    assert "PRIVATE" not in stored.sealed
    assert "PRIVATE" not in repr(stored)
    assert rotation.refresh() is keys
    assert store.list_signing_keys() == [stored]


def test_the_next_key_is_published_its_lead_before_it_signs(rotation: KeyRotation, clock: StandingClock) -> None:
    rotation.refresh()
    (first,) = kids(rotation)
    clock.now = NOW + 5 * HOUR - timedelta(seconds=1)
    rotation.refresh()
    assert kids(rotation) == [first]
    clock.now = NOW + 5 * HOUR
    rotation.refresh()
    _, second = kids(rotation)
    assert rotation.keys.signing_key(NOW + 6 * HOUR - timedelta(seconds=1)).kid == first
    assert rotation.keys.signing_key(NOW + 6 * HOUR).kid == second


def test_a_key_goes_when_its_last_token_has_ended(rotation: KeyRotation, store: Store, clock: StandingClock) -> None:
    rotation.refresh()
    (first,) = kids(rotation)
    clock.now = NOW + 5 * HOUR
    rotation.refresh()
    clock.now = NOW + 6 * HOUR + SCHEDULE.tail - timedelta(seconds=1)
    rotation.refresh()
    assert first in kids(rotation)
    clock.now += timedelta(seconds=1)
    rotation.refresh()
    assert first not in kids(rotation)
    assert len(kids(rotation)) == 1
    said = [(entry.event.actor, entry.event.action, entry.event.subject) for entry in store.audit()]
    assert said[0] == ("system", "signing_key.add", first)
    assert said[-1] == ("system", "signing_key.remove", first)


def test_after_a_long_sleep_the_old_key_signs_until_the_new_one_is_known(
    rotation: KeyRotation, clock: StandingClock
) -> None:
    rotation.refresh()
    (first,) = kids(rotation)
    clock.now = NOW + 1000 * HOUR
    rotation.refresh()
    assert rotation.keys.signing_key(clock.now).kid == first
    assert rotation.keys.signing_key(clock.now + SCHEDULE.lead).kid == kids(rotation)[1]


def test_every_token_verifies_all_its_life_with_keys_that_are_as_old_as_a_cache_may_be(
    rotation: KeyRotation, clock: StandingClock, key: ApiKey
) -> None:
    """A verifier looks at the keys each `lead` and no sooner; tokens live 15 minutes."""
    ttl = timedelta(minutes=15)
    issuer = TokenIssuer(rotation.refresh(), issuer=ISSUER, audience=AUDIENCE, ttl=ttl)
    cached, fetched_at = jwt.PyJWKSet.from_json(rotation.keys.jwks.decode()), clock.now
    alive: list[tuple[datetime, str]] = []
    signers: set[str] = set()
    for _ in range(400):  # 33 hours, in steps of 5 minutes
        rotation.refresh()
        alive = [(end, token) for end, token in alive if end > clock.now]
        alive.append((clock.now + ttl, issuer.issue(key, (), clock.now).token))
        if clock.now - fetched_at >= SCHEDULE.lead:
            cached, fetched_at = jwt.PyJWKSet.from_json(rotation.keys.jwks.decode()), clock.now
        for _, token in alive:
            kid = jwt.get_unverified_header(token)["kid"]
            options = {"verify_exp": False, "verify_iat": False}
            jwt.decode(token, cached[kid], ["ES256"], options, audience=AUDIENCE)
            signers.add(kid)
        clock.now += timedelta(minutes=5)
    assert len(signers) == 6


def test_the_settings_leave_time_for_every_cache() -> None:
    schedule = AuthSettings(jwks_max_age_s=300, token_ttl_s=900, signing_key_life_s=86400).schedule
    assert schedule.life == timedelta(days=1)
    assert schedule.lead >= timedelta(seconds=300 + 60)
    assert schedule.tail >= timedelta(seconds=900 + 10)


def test_a_key_of_before_they_were_sealed_is_sealed(store: Store, sealer: KekSealer, clock: StandingClock) -> None:
    pair = new_key_pair(NOW - HOUR)
    plain = SigningKey(1, pair.kid, to_pem(pair).decode(), NOW - HOUR, NOW - HOUR)
    store.add_signing_key(plain, module.Event("t", "t", "t", NOW))
    keys = KeyRotation(store, [sealer], SCHEDULE, clock).refresh()
    assert keys.signing_key(NOW).kid == pair.kid
    (stored,) = store.list_signing_keys()
    assert sealer.open(stored.sealed, pair.kid) == to_pem(pair)


def test_a_new_key_encryption_key_seals_anew_what_the_old_one_sealed(
    rotation: KeyRotation, store: Store, clock: StandingClock
) -> None:
    kid = rotation.refresh().signing_key(NOW).kid
    new = KekSealer([OTHER_KEK])
    with pytest.raises(SealError, match="that is not there"):
        KeyRotation(store, [new], SCHEDULE, clock).refresh()
    KeyRotation(store, [KekSealer([OTHER_KEK, KEK])], SCHEDULE, clock).refresh()
    assert KeyRotation(store, [new], SCHEDULE, clock).refresh().signing_key(NOW).kid == kid


def test_what_sealed_a_key_must_be_set_up(store: Store, rotation: KeyRotation, clock: StandingClock) -> None:
    rotation.refresh()
    (stored,) = store.list_signing_keys()
    store.seal_signing_key(stored.kid, "transit:vault:v1:x")
    with pytest.raises(SealError, match="is sealed by 'transit', which is not set up"):
        KeyRotation(store, [KekSealer([KEK])], SCHEDULE, clock).refresh()


@pytest.mark.parametrize("sealed", ["transit:vault:v1:x", "-----BEGIN PRIVATE KEY-----", "no key at all"])
def test_a_key_that_cannot_be_opened_stops_no_other(
    store: Store, rotation: KeyRotation, sealer: KekSealer, clock: StandingClock, sealed: str
) -> None:
    rotation.refresh()
    (first,) = kids(rotation)
    clock.now = NOW + 5 * HOUR
    rotation.refresh()
    second = kids(rotation)[1]
    store.seal_signing_key(second, sealer.seal(b"hush", second) if sealed == "no key at all" else sealed)
    late = KeyRotation(store, [sealer], SCHEDULE, clock)
    for clock.now in (NOW + 6 * HOUR, NOW + 9 * HOUR):
        with capture_logs() as logs:
            keys = late.refresh()
        assert keys.signing_key(clock.now).kid == first, "what signs in its place was removed"
        assert [(log["event"], log["log_level"], log["kid"]) for log in logs] == [
            ("a signing key cannot be opened", "error", second)
        ]
        assert "hush" not in str(logs)
    clock.now = NOW + 11 * HOUR
    late.refresh()
    _, third = kids(late)
    clock.now = NOW + 12 * HOUR + SCHEDULE.tail
    late.refresh()
    assert kids(late) == [third]
    assert [key.kid for key in store.list_signing_keys()] == [third]


def test_where_no_key_can_be_opened_that_signs_it_is_told(
    store: Store, rotation: KeyRotation, sealer: KekSealer, clock: StandingClock
) -> None:
    kid = rotation.refresh().signing_key(NOW).kid
    store.seal_signing_key(kid, sealer.seal(b"hush", kid))
    clock.now = NOW + 5 * HOUR  # the next one is there, and does not sign yet
    rotation.refresh()
    with pytest.raises(SealError, match=f"what is sealed as {kid} is no signing key"):
        KeyRotation(store, [sealer], SCHEDULE, clock).refresh()
    clock.now = NOW + 6 * HOUR
    KeyRotation(store, [sealer], SCHEDULE, clock).refresh()


def test_a_key_that_cannot_be_sealed_anew_is_used(
    store: Store, rotation: KeyRotation, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kid = rotation.refresh().signing_key(NOW).kid
    both = KekSealer([OTHER_KEK, KEK])

    def fail(*_: object) -> str:
        raise SealError("away")

    monkeypatch.setattr(both, "seal", fail)
    with capture_logs() as logs:
        assert KeyRotation(store, [both], SCHEDULE, clock).refresh().signing_key(NOW).kid == kid
    assert [log["event"] for log in logs] == ["a signing key is not sealed anew"]


def test_of_a_generation_there_is_one_key(store: Store) -> None:
    event = module.Event("t", "t", "t", NOW)
    first = SigningKey(1, "a", "s", NOW, NOW)
    assert store.add_signing_key(first, event)
    assert not store.add_signing_key(replace(first, kid="b"), event)
    assert store.list_signing_keys() == [first]
    assert len(list(store.audit())) == 1
    for _ in range(2):
        store.remove_signing_key("a", event)
    assert (store.list_signing_keys(), len(list(store.audit()))) == ([], 2)


BREAK = {"sqlite": "ALTER TABLE signing_keys RENAME TO gone", "postgresql": "LOCK TABLE signing_keys"}
MEND = {"sqlite": "ALTER TABLE gone RENAME TO signing_keys", "postgresql": "SELECT 1"}


async def test_another_processs_key_is_found(
    store: Store, sealer: KekSealer, clock: StandingClock, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setattr(module, "_LOOK_S", 0.05)
    mine, theirs = (KeyRotation(store, [sealer], SCHEDULE, clock) for _ in range(2))
    mine.refresh()
    async with module.asyncio.TaskGroup() as tasks:
        task = tasks.create_task(mine.run())
        clock.now = NOW + 5 * HOUR
        theirs.refresh()
        await until(lambda: len(kids(mine)) == 2)
        # A database that fails is waited out.
        engine = open_engine(database_url).execution_options(**{WRITES: True})
        with engine.begin() as connection:
            connection.exec_driver_sql(BREAK[connection.dialect.name])
            if connection.dialect.name == "sqlite":
                connection.commit()
            with capture_logs() as logs:
                await until(lambda: "signing keys are not refreshed" in {log["event"] for log in logs})
        with engine.begin() as connection:
            connection.exec_driver_sql(MEND[connection.dialect.name])
        clock.now = NOW + 7 * HOUR
        await until(lambda: len(kids(mine)) == 1)
        engine.dispose()
        task.cancel()


def start(url: str, barrier: Barrier) -> tuple[str, int]:
    store = Store(open_engine(url))
    barrier.wait(30)
    kid = KeyRotation(store, [KekSealer([KEK])], SCHEDULE, lambda: NOW).refresh().signing_key(NOW).kid
    return kid, len(store.list_signing_keys())


def _work(url: str, barrier: Barrier, answers: Callable[[tuple[str, int]], None]) -> None:
    answers(start(url, barrier))


def test_processes_that_start_at_once_end_with_the_same_key(database_url: str) -> None:
    spawn = get_context("spawn")
    barrier, queue = spawn.Barrier(3), spawn.Queue()
    processes = [spawn.Process(target=_work, args=(database_url, barrier, queue.put)) for _ in range(3)]
    for process in processes:
        process.start()
    answers = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len({kid for kid, _ in answers}) == 1
    assert {count for _, count in answers} == {1}
