"""Alembic's entry: runs migrations on the connection, and in the transaction, of the caller."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from mda.auth.models import Base

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
