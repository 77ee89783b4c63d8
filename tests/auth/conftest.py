"""What the tests of auth share: a clock that stands, a client with a key, a real SQLite file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mda.auth import api_key
from mda.auth.actor import Actor
from mda.auth.engine import open_engine
from mda.auth.errors import StoreUnavailableError
from mda.auth.keys import KeySet, new_key_pair
from mda.auth.migrations import migrate
from mda.auth.oauth import TokenEndpoint
from mda.auth.records import ApiKey, Client, Event
from mda.auth.store import Store
from mda.auth.tiers import Tier
from mda.auth.tokens import TokenIssuer
from tests.auth.postgres import PostgresServer

NOW = datetime(2026, 3, 2, 14, 30, 0, 250_000, tzinfo=UTC)
ISSUER = "https://auth.test"
AUDIENCE = "marketdata-test"
SECRET = "Zm9vYmFyYmF6cXV4cXV1eGNvcmdlZ3JhdWx0Z2FycGx5"


@dataclass
class StandingClock:
    """A clock that stands until it is set."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass
class MemoryCredentials:
    """API keys in memory, the uses and refusals noted, and the keys read whole."""

    keys: dict[str, ApiKey] = field(default_factory=dict)
    uses: list[tuple[str, datetime]] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    broken: bool = False

    def put(self, key: ApiKey) -> None:
        self.keys[key.id] = key

    def find_secret_hash(self, key_id: str) -> str | None:
        key = self.keys.get(key_id)
        return None if key is None else key.secret_hash

    def find_api_key(self, key_id: str) -> ApiKey | None:
        self.read.append(key_id)
        return self.keys.get(key_id)

    def record_use(self, key_id: str, at: datetime) -> None:
        self._fail_if_broken()
        self.uses.append((key_id, at))

    def note(self, event: Event) -> None:
        self._fail_if_broken()
        self.events.append(event)

    def _fail_if_broken(self) -> None:
        if self.broken:
            raise StoreUnavailableError


def add_client(store: Store, client: Client) -> None:
    with store.change() as change:
        change.add_client(client)


def clients_of(store: Store) -> list[Client]:
    return store.page_of_clients(None, 1000)


def api_keys_of(store: Store) -> list[ApiKey]:
    return store.page_of_api_keys(None, None, 1000)


def add_api_key(store: Store, key: ApiKey) -> None:
    with store.change() as change:
        change.add_api_key(key)


@pytest.fixture
def actor(store: Store) -> Actor:
    """Give an admin that may change clients, of whom the audit log says nothing."""
    client = Client("mdc_admin", "an-admin", Tier.INTERNAL, (), (), NOW - timedelta(days=9), roles=("admin",))
    key = ApiKey("mdk_admin", client, secret_hash="", hint="", created_at=NOW - timedelta(days=9))
    with store.change() as change:
        change.add_client(client)
        change.add_api_key(key)
    return Actor(client.id, key.id, "t_admin", 0)


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def client() -> Client:
    return Client(
        id="mdc_1",
        name="desk",
        tier=Tier.PRO,
        scopes=("quotes:publish", "quotes:read", "trades:read"),
        datasets=("GLBX.MDP3", "SIM"),
        created_at=NOW - timedelta(days=9),
    )


@pytest.fixture
def key(client: Client) -> ApiKey:
    return ApiKey(
        id="mdk_1",
        client=client,
        secret_hash=api_key.hash_secret(SECRET),
        hint=SECRET[-4:],
        created_at=NOW - timedelta(days=8),
    )


@pytest.fixture
def secret() -> str:
    return SECRET


@pytest.fixture
def credentials(key: ApiKey) -> MemoryCredentials:
    store = MemoryCredentials()
    store.put(key)
    return store


@pytest.fixture
def change_key(credentials: MemoryCredentials, key: ApiKey) -> Callable[..., None]:
    """Give the stored key, or its client, other values."""

    def change(*, client: dict[str, Any] | None = None, **values: Any) -> None:
        credentials.put(replace(key, client=replace(key.client, **(client or {})), **values))

    return change


@pytest.fixture(scope="session")
def key_set() -> KeySet:
    return KeySet([new_key_pair(NOW - timedelta(days=1))])


@pytest.fixture
def issuer(key_set: KeySet) -> TokenIssuer:
    return TokenIssuer(key_set, issuer=ISSUER, audience=AUDIENCE, ttl=timedelta(seconds=900))


@pytest.fixture
def endpoint(credentials: MemoryCredentials, issuer: TokenIssuer, clock: StandingClock) -> TokenEndpoint:
    return TokenEndpoint(credentials, issuer, clock)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """Give the name of a database with the newest schema."""
    name = postgres.new_database()
    migrate(postgres.url(name))
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a database file with the newest schema."""
    path = tmp_path_factory.mktemp("template") / "auth.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_template: Path) -> str:
    folder = tmp_path / "state"
    folder.mkdir()
    return f"sqlite:///{shutil.copy(sqlite_template, folder)}"


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_template: str) -> str:
    return postgres.url(postgres.new_database(postgres_template))


@pytest.fixture
def empty_url(database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Give a database without a schema, of the same kind as the one with it."""
    if database_url.startswith("sqlite"):
        return f"sqlite:///{tmp_path / 'empty.db'}"
    postgres: PostgresServer = request.getfixturevalue("postgres")
    return postgres.url(postgres.new_database())


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Give a fresh database with the newest schema: each test that asks runs on both."""
    return request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param])


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(open_engine(database_url, timeout_s=0.5))
    yield opened
    opened.close()
