"""Signing keys are sealed, and sign by schedule."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_OLD = sa.table(
    "signing_keys",
    sa.column("kid", sa.String),
    sa.column("private_pem", sa.Text),
    sa.column("created_at", sa.DateTime(timezone=True)),
    sa.column("active", sa.Boolean),
)


def upgrade() -> None:
    """Make the table anew; the keys stay as they are, and auth seals them when it opens them."""
    # The one that signs comes last.
    keys = op.get_bind().execute(sa.select(_OLD).order_by(_OLD.c.active, _OLD.c.created_at)).all()
    op.drop_table("signing_keys")
    table = op.create_table(
        "signing_keys",
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kid", sa.String(64), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("signs_from", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("generation", name=op.f("pk_signing_keys")),
        sa.UniqueConstraint("kid", name=op.f("uq_signing_keys_kid")),
    )
    rows = [
        {
            "generation": number,
            "kid": key.kid,
            "sealed": key.private_pem,
            "created_at": key.created_at,
            "signs_from": key.created_at,
        }
        for number, key in enumerate(keys, 1)
    ]
    op.bulk_insert(table, rows)


def downgrade() -> None:
    """Make the table of before, empty: sealed keys mean nothing to it. Auth then makes a new key."""
    op.drop_table("signing_keys")
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.String(64), nullable=False),
        sa.Column("private_pem", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_signing_keys")),
    )
    op.create_index(
        "uq_signing_keys_active",
        "signing_keys",
        ["active"],
        unique=True,
        sqlite_where=sa.text("active"),
        postgresql_where=sa.text("active"),
    )
