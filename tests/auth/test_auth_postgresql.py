"""What is PostgreSQL's alone: its URLs, TLS, and how its driver's errors are named."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from mda.auth.engine import checked_url, open_engine
from mda.auth.errors import StoreUnavailableError
from mda.auth.records import ApiKey, Client
from mda.auth.store import Store
from mda.cli.certificates import ensure_certificates
from tests.auth.conftest import add_api_key, add_client, clients_of
from tests.auth.postgres import PASSWORD, PostgresServer
from tests.auth.tls_front import TlsFront, tls_front
from tests.tape.nats_server import free_port


@pytest.fixture
def database_url(postgres_url: str) -> str:
    return postgres_url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    opened = open_engine(database_url, timeout_s=0.5)
    yield opened
    opened.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://u:hush@db/auth",
        "mysql://u:hush@db/auth",
        "postgresql://u:hush@db/auth?sslmode=allow",
    ],
)
def test_urls_that_are_refused_are_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"sslmode must be|begins with") as caught:
        checked_url(url)
    assert "hush" not in str(caught.value)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    ensure_certificates(folder)
    return folder


@pytest.fixture
def front(certificates: Path, postgres: PostgresServer) -> Iterator[TlsFront]:
    with tls_front(certificates, postgres.port, free_port()) as front:
        yield front


def _answers(url: str) -> bool:
    engine = open_engine(url, timeout_s=2)
    try:
        with engine.connect() as connection:
            return connection.scalar(text("SELECT 1")) == 1
    finally:
        engine.dispose()


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_connections_are_encrypted(front: TlsFront, postgres_url: str, certificates: Path, mode: str) -> None:
    url = _through(front, postgres_url)
    assert _answers(f"{url}?sslmode={mode}&sslrootcert={certificates / 'ca.crt'}")
    assert front.encrypted == 1


def test_by_default_they_are_encrypted_where_the_server_can(front: TlsFront, postgres_url: str) -> None:
    assert _answers(postgres_url)
    assert front.encrypted == 0
    assert _answers(_through(front, postgres_url))
    assert front.encrypted == 1


def test_what_is_wanted_and_cannot_be_had_is_refused(front: TlsFront, postgres_url: str) -> None:
    with pytest.raises(OperationalError, match="refuses SSL"):
        _answers(f"{postgres_url}?sslmode=require")
    with pytest.raises(OperationalError):  # the front takes nothing else
        _answers(f"{_through(front, postgres_url)}?sslmode=disable")


def test_a_server_of_an_authority_that_nobody_knows_is_refused(front: TlsFront, postgres_url: str) -> None:
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        _answers(f"{_through(front, postgres_url)}?sslmode=verify-full")


def test_a_server_of_another_name_is_refused_by_verify_full_alone(
    front: TlsFront, postgres_url: str, certificates: Path
) -> None:
    url = _through(front, postgres_url, "127.0.0.2")
    known = f"sslrootcert={certificates / 'ca.crt'}"
    assert _answers(f"{url}?sslmode=verify-ca&{known}")
    with pytest.raises(OSError, match="IP address mismatch"):
        _answers(f"{url}?sslmode=verify-full&{known}")


def _through(front: TlsFront, url: str, address: str = "127.0.0.1") -> str:
    parsed = make_url(url).set(host=address, port=front.port)
    return parsed.render_as_string(hide_password=False)


def test_an_authority_that_is_not_there_is_told(postgres_url: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_engine(f"{postgres_url}?sslmode=verify-full&sslrootcert={tmp_path / 'none.crt'}")


def test_a_wrong_statement_is_no_outage(engine: Engine) -> None:
    with engine.connect() as connection, pytest.raises(ProgrammingError):
        connection.execute(text("SELECT * FROM nothing"))


def test_a_statement_that_takes_too_long_ends(engine: Engine) -> None:
    began = time.monotonic()
    with engine.connect() as connection, pytest.raises(OperationalError):
        connection.execute(text("SELECT pg_sleep(30)"))
    assert time.monotonic() - began < 10


def test_a_transaction_in_which_nothing_happens_ends(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        time.sleep(1.5)
        with pytest.raises(OperationalError):
            connection.execute(text("SELECT 1"))


def test_errors_do_not_tell_what_was_to_be_written(engine: Engine) -> None:
    with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(text("SELECT CAST(:secret AS integer)"), {"secret": "hush"})
    assert "[SQL parameters hidden" in str(caught.value)


def test_a_lock_is_not_waited_for_for_ever(engine: Engine, store: Store, client: Client, key: ApiKey) -> None:
    add_client(store, client)
    with engine.connect() as connection:
        connection.execute(text("LOCK TABLE clients IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(StoreUnavailableError):
            clients_of(store)
    add_api_key(store, key)


def test_a_server_that_ends_our_connections_is_connected_to_again(
    postgres: PostgresServer, store: Store, client: Client
) -> None:
    add_client(store, client)
    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mda' AND pid <> pg_backend_pid()"
    )
    assert clients_of(store) == [client]


def test_a_server_that_is_not_there_is_unavailable() -> None:
    store = Store(open_engine(f"postgresql://mda:{PASSWORD}@127.0.0.1:{free_port()}/auth", timeout_s=0.5))
    with pytest.raises(StoreUnavailableError):
        clients_of(store)


def test_a_server_that_says_nothing_is_unavailable_in_time() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        silent = threading.Thread(target=server.accept)
        silent.start()
        store = Store(open_engine(f"postgresql://mda:x@127.0.0.1:{server.getsockname()[1]}/auth", timeout_s=0.3))
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            clients_of(store)
        silent.join(10)
    assert time.monotonic() - began < 5
