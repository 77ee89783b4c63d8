"""The settings of auth, and its default clock."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from mda.auth.clock import utc_now
from mda.auth.settings import AuthSettings


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MDA_"):
            monkeypatch.delenv(name)


def test_defaults() -> None:
    settings = AuthSettings()
    assert settings.database_url.get_secret_value() == "sqlite:///.mda/auth.db"
    assert settings.token_ttl == timedelta(seconds=900)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDA_AUTH_DATABASE_URL", "postgresql://u:hush@db/auth")
    monkeypatch.setenv("MDA_AUTH_TOKEN_TTL_S", "60")
    monkeypatch.setenv("MDA_AUTH_TARGET", "127.0.0.1:1")  # another setting's name
    settings = AuthSettings()
    assert settings.database_url.get_secret_value() == "postgresql://u:hush@db/auth"
    assert settings.token_ttl == timedelta(minutes=1)
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKEN_TTL_S", "59"),
        ("TOKEN_TTL_S", "3601"),
        ("DATABASE_POOL_SIZE", "0"),
        ("DATABASE_TIMEOUT_S", "0"),
        ("JWKS_MAX_AGE_S", "0"),
        ("DATABASE_URL", "hush"),
        ("DATABASE_URL", "sqlite://"),
    ],
)
def test_out_of_bounds(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"MDA_AUTH_{name}", value)
    with pytest.raises(ValidationError) as caught:
        AuthSettings()
    assert [error["loc"] for error in caught.value.errors()] == [(name.lower(),)]
    assert "hush" not in str(caught.value)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        AuthSettings().__setattr__("token_ttl_s", 60)


def test_the_clock_is_aware_and_in_utc() -> None:
    now = utc_now()
    assert now.tzinfo is UTC
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)
