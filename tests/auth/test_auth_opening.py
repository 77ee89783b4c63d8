"""Opening the store that the settings name."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from mda.auth.admin import ensure_client
from mda.auth.opening import open_store
from mda.auth.settings import AuthSettings
from mda.auth.tiers import Tier
from tests.auth.conftest import clients_of


def test_a_store_is_made_and_found_again(tmp_path: Path) -> None:
    settings = AuthSettings(database_url=SecretStr(f"sqlite:///{tmp_path / 'new' / 'auth.db'}"))
    store = open_store(settings)
    client = ensure_client(store, "desk", Tier.PRO, ["a"])
    store.close()
    again = open_store(settings)
    assert clients_of(again) == [client]
    again.close()
