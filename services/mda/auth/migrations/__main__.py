"""`python -m mda.auth.migrations`: brings auth's database to the newest schema, before those that need it start."""

from __future__ import annotations

import sys

from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from mda.auth.migrations import migrate
from mda.auth.settings import AuthSettings


def main() -> None:
    """Migrate; end with 1 and say why where that cannot be."""
    try:
        migrate(AuthSettings().database_url.get_secret_value())
    except (CommandError, OSError, SQLAlchemyError, ValueError) as error:
        sys.exit(f"error: the database was not migrated: {error}")


if __name__ == "__main__":
    main()
