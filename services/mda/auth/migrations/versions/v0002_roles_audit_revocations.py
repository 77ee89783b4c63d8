"""Roles, quotas and versions of clients; the audit log; revocations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_BIG_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the columns, and make the tables."""
    op.add_column("clients", sa.Column("roles", sa.JSON(), nullable=False, server_default=sa.text("'[]'")))
    op.add_column("clients", sa.Column("quotas", sa.JSON(), nullable=False, server_default=sa.text("'{}'")))
    op.add_column("clients", sa.Column("version", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.create_table(
        "audit",
        sa.Column("sequence", _BIG_NUMBER, autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("refused", sa.Boolean(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_audit")),
    )
    op.create_table(
        "revocations",
        sa.Column("number", _BIG_NUMBER, nullable=False),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_revocations")),
    )
    op.create_index("ix_revocations_what_subject", "revocations", ["what", "subject"])


def downgrade() -> None:
    """Drop the tables and columns, with all that is in them."""
    op.drop_table("revocations")
    op.drop_table("audit")
    for column in ("version", "quotas", "roles"):
        op.drop_column("clients", column)
