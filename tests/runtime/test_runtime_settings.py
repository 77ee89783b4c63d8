"""Settings come from the environment, once, and do not change."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mda.runtime.settings import ServiceSettings

DEFAULTS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 0,
    "metrics_port": None,
    "nats_token": None,
    "reflection": True,
    "log_level": "info",
    "log_format": "json",
    "otlp_endpoint": None,
}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ServiceSettings.model_fields:
        monkeypatch.delenv(f"MDA_{name.upper()}", raising=False)


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_setting_has_a_default(name: str) -> None:
    assert getattr(ServiceSettings(), name) == DEFAULTS[name]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("host", "0.0.0.0", "0.0.0.0"),
        ("port", "50051", 50051),
        ("metrics_port", "9100", 9100),
        ("nats_url", "nats://nats:4222", "nats://nats:4222"),
        ("auth_target", "auth:1", "auth:1"),
        ("issuer", "https://a", "https://a"),
        ("audience", "b", "b"),
        ("reflection", "false", False),
        ("drain_s", "0.5", 0.5),
        ("drain_delay_s", "3", 3.0),
        ("log_level", "debug", "debug"),
        ("log_format", "console", "console"),
        ("otlp_endpoint", "collector:4317", "collector:4317"),
    ],
)
def test_a_setting_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    monkeypatch.setenv(f"MDA_{name.upper()}", text)
    assert getattr(ServiceSettings(), name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "65536"),
        ("port", "-1"),
        ("port", "http"),
        ("metrics_port", "x"),
        ("drain_s", "-1"),
        ("drain_s", "301"),
        ("drain_delay_s", "-1"),
        ("log_level", "loud"),
        ("log_format", "xml"),
        ("reflection", "perhaps"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(f"MDA_{name.upper()}", text)
    with pytest.raises(ValidationError, match=name):
        ServiceSettings()


@pytest.mark.parametrize("name", list(ServiceSettings.model_fields))
def test_settings_do_not_change(name: str) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(ServiceSettings(), name, "x")


def test_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDA_NATS_TOKEN", "hush-hush")
    settings = ServiceSettings()
    assert settings.nats_token is not None
    assert settings.nats_token.get_secret_value() == "hush-hush"
    assert "hush-hush" not in repr(settings)


def test_what_is_not_ours_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDA_NO_SUCH_SETTING", "1")
    monkeypatch.setenv("PORT", "1")
    assert ServiceSettings().port == 0
