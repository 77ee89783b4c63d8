"""The tables of auth. They use nothing that SQLite and PostgreSQL do not both have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

from mda.auth.tiers import Tier

# Without names of its own, a constraint cannot be dropped by a later migration.
NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# SQLite numbers rows by itself in a column of the type INTEGER only.
BIG_NUMBER: Final = BigInteger().with_variant(Integer(), "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, kept in UTC; SQLite has no column type that keeps the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time to store.

        Raises
        ------
        ValueError
            If it has no zone.
        """
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without a zone")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the stored time, aware and in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _values(tiers: type[Tier]) -> list[str]:
    return [tier.value for tier in tiers]


class Base(DeclarativeBase):
    """The parent of all tables of auth."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar = {datetime: UtcDateTime}


class ClientRow(Base):
    """A row of `clients`; see `mda.auth.records.Client`."""

    __tablename__ = "clients"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    tier: Mapped[Tier] = mapped_column(
        Enum(
            Tier,
            name="tier",
            native_enum=False,
            create_constraint=True,
            length=16,
            values_callable=_values,
        )
    )
    scopes: Mapped[list[str]] = mapped_column(JSON)
    datasets: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column()
    disabled_at: Mapped[datetime | None] = mapped_column()
    roles: Mapped[list[str]] = mapped_column(JSON, server_default=text("'[]'"))
    quotas: Mapped[dict[str, int]] = mapped_column(JSON, server_default=text("'{}'"))
    version: Mapped[int] = mapped_column(Integer, server_default=text("0"))


class ApiKeyRow(Base):
    """A row of `api_keys`; see `mda.auth.records.ApiKey`."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), index=True)
    secret_hash: Mapped[str] = mapped_column(String(64))
    hint: Mapped[str] = mapped_column(String(4))
    created_at: Mapped[datetime] = mapped_column()
    expires_at: Mapped[datetime | None] = mapped_column()
    revoked_at: Mapped[datetime | None] = mapped_column()
    last_used_at: Mapped[datetime | None] = mapped_column()

    client: Mapped[ClientRow] = relationship(lazy="joined", innerjoin=True)


class AuditRow(Base):
    """A row of `audit`; see `mda.auth.audit.Entry`."""

    __tablename__ = "audit"

    sequence: Mapped[int] = mapped_column(BIG_NUMBER, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column()
    actor: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(128))
    refused: Mapped[bool] = mapped_column(Boolean)
    details: Mapped[dict[str, str]] = mapped_column(JSON)
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class RevocationRow(Base):
    """A row of `revocations`; see `mda.runtime.revocation.Revocation`. Sent or yet to be sent to the services."""

    __tablename__ = "revocations"

    number: Mapped[int] = mapped_column(BIG_NUMBER, primary_key=True)
    what: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(Integer)
    until: Mapped[datetime] = mapped_column()
    sent: Mapped[bool] = mapped_column(Boolean)

    __table_args__ = (Index("ix_revocations_what_subject", "what", "subject"),)


class SigningKeyRow(Base):
    """A row of `signing_keys`; see `mda.auth.records.SigningKey`."""

    __tablename__ = "signing_keys"

    # Of many processes that make the next key at once, one does.
    generation: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kid: Mapped[str] = mapped_column(String(64), unique=True)
    sealed: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column()
    signs_from: Mapped[datetime] = mapped_column()
