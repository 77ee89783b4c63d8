"""Opens the store that the settings name, with the newest schema."""

from __future__ import annotations

from mda.auth.engine import open_engine
from mda.auth.migrations import migrate
from mda.auth.settings import AuthSettings
from mda.auth.store import Store


def open_store(settings: AuthSettings) -> Store:
    """Bring the database to the newest schema and open it. Blocks.

    Errors are those of `migrate` and `open_engine`.
    """
    url = settings.database_url.get_secret_value()
    migrate(url)
    return Store(open_engine(url, pool_size=settings.database_pool_size, timeout_s=settings.database_timeout_s))
