"""The versions of the schema."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text
from sqlalchemy.engine.interfaces import ReflectedIndex
from sqlalchemy.exc import DatabaseError

from mda.auth.engine import WRITES, open_engine
from mda.auth.migrations import alembic_config, migrate
from mda.auth.models import Base
from mda.auth.store import Store

TABLES = {"alembic_version", "api_keys", "audit", "clients", "revocations", "signing_keys"}


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    opened = open_engine(database_url).execution_options(**{WRITES: True})
    yield opened
    opened.dispose()


def tables_of(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def test_models_and_migrations_agree(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_names_of_models_and_migrations_agree(engine: Engine, empty_url: str) -> None:
    """`compare_metadata` looks at no checks, no defaults of JSON in PostgreSQL, and no conditions of indexes."""
    made = open_engine(empty_url)
    with made.begin() as connection:
        Base.metadata.create_all(connection)
    assert _rules_of(made) == _rules_of(engine)


def test_up_down_up(engine: Engine) -> None:
    assert tables_of(engine) == TABLES
    with engine.begin() as connection:
        command.downgrade(alembic_config(connection), "base")
    assert tables_of(engine) == {"alembic_version"}
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), "head")
    assert tables_of(engine) == TABLES


def test_migrating_again_changes_nothing(engine: Engine, database_url: str) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO signing_keys "
                "VALUES (1, 'k', 's', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000')"
            )
        )
    migrate(database_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT kid FROM signing_keys")).scalars().all() == ["k"]


def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    engine = open_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE signing_keys (kid TEXT)"))
    with pytest.raises(DatabaseError, match=r'signing_keys"? already exists'):
        migrate(empty_url)
    assert tables_of(engine) == {"signing_keys"}


def test_many_may_migrate_at_once(empty_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(migrate, empty_url) for _ in range(4)]:
            done.result()
    assert tables_of(open_engine(empty_url)) == TABLES


def test_signing_keys_of_before_they_were_sealed_stay(engine: Engine) -> None:
    with engine.begin() as connection:
        command.downgrade(alembic_config(connection), "0002")
        for kid, active in (("new", "true"), ("old", "false")):
            row = f"VALUES ('{kid}', 'pem of {kid}', '2026-01-02 00:00:00.000000', {active})"
            connection.execute(text(f"INSERT INTO signing_keys {row}"))
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), "head")
    keys = Store(engine).list_signing_keys()
    assert [(key.generation, key.kid, key.sealed) for key in keys] == [
        (1, "old", "pem of old"),
        (2, "new", "pem of new"),
    ]
    assert keys[0].signs_from == datetime(2026, 1, 2, tzinfo=UTC)


def test_a_process_of_its_own_migrates(empty_url: str) -> None:
    def run(url: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mda.auth.migrations"]
        env = os.environ | {"MDA_AUTH_DATABASE_URL": url}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert run(empty_url).returncode == 0
    made = open_engine(empty_url)
    assert tables_of(made) == TABLES
    assert run(empty_url).returncode == 0
    with made.execution_options(**{WRITES: True}).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'of the future'"))
    made.dispose()
    refused = run(empty_url)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: the database was not migrated: ")


def test_versions_form_one_line(engine: Engine) -> None:
    with engine.connect() as connection:
        assert len(ScriptDirectory.from_config(alembic_config(connection)).get_heads()) == 1


def _rules_of(engine: Engine) -> dict[str, object]:
    inspector = inspect(engine)
    return {
        table: (
            inspector.get_pk_constraint(table),
            inspector.get_foreign_keys(table),
            inspector.get_unique_constraints(table),
            [(check["name"], check["sqltext"].replace("\n", "")) for check in inspector.get_check_constraints(table)],
            {column["name"]: (column["nullable"], column["default"]) for column in inspector.get_columns(table)},
            [(index["name"], index["unique"], _condition(index)) for index in inspector.get_indexes(table)],
        )
        for table in TABLES - {"alembic_version"}
    }


def _condition(index: ReflectedIndex) -> str:
    options = index.get("dialect_options", {})
    return str(options.get("sqlite_where", options.get("postgresql_where")))
