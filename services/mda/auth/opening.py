"""Opens what the settings name: the store, with the newest schema, and what seals its secrets."""

from __future__ import annotations

from mda.auth.engine import open_engine
from mda.auth.migrations import migrate
from mda.auth.sealing import KekSealer, Sealer, TransitSealer
from mda.auth.settings import AuthSettings
from mda.auth.store import Store


def open_store(settings: AuthSettings) -> Store:
    """Bring the database to the newest schema and open it. Blocks.

    Errors are those of `migrate` and `open_engine`.
    """
    url = settings.database_url.get_secret_value()
    migrate(url)
    return Store(open_engine(url, pool_size=settings.database_pool_size, timeout_s=settings.database_timeout_s))


def open_sealers(settings: AuthSettings) -> list[Sealer]:
    """Return what seals signing keys: first what new ones are sealed with, then what opens older ones.

    Raises
    ------
    ValueError
        If there is none, or one is not set up rightly.
    """
    sealers: list[Sealer] = []
    if settings.transit_url is not None:
        if settings.transit_token_file is None:
            raise ValueError("MDA_AUTH_TRANSIT_URL needs MDA_AUTH_TRANSIT_TOKEN_FILE, too")
        sealers.append(TransitSealer(settings.transit_url, settings.transit_key, settings.transit_token_file))
    if settings.kek is not None:
        sealers.append(KekSealer(settings.kek.get_secret_value().split(",")))
    if not sealers:
        raise ValueError(
            "signing keys are kept sealed: set MDA_AUTH_KEK (32 bytes in base64url) or MDA_AUTH_TRANSIT_URL"
        )
    return sealers
