"""The services' environment in the chart: each variable is one that they read, with a value that they take."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_settings import BaseSettings
from rendering import component, of_kind

from mda.archive.settings import ArchiveSettings
from mda.auth.settings import AuthSettings
from mda.ingestion.settings import IngestionSettings
from mda.lake.settings import LakeSettings
from mda.query.settings import QuerySettings
from mda.runtime.settings import ServiceSettings

SETTINGS: dict[str, tuple[type[BaseSettings], ...]] = {
    "auth": (ServiceSettings, AuthSettings),
    "ingestion": (ServiceSettings, IngestionSettings),
    "query": (ServiceSettings, QuerySettings, LakeSettings),
    "query-history": (ServiceSettings, QuerySettings, LakeSettings),
    "archive": (ServiceSettings, ArchiveSettings, LakeSettings),
}
SECRETS = {
    "MDA_AUTH_DATABASE_URL": "postgresql://user:password@database/auth",
    "MDA_AUTH_KEK": "A" * 43,
    "MDA_LAKE_OPTIONS": '{"AWS_REGION": "x"}',
}


@pytest.mark.parametrize("variant", ["trial", "production", "ci", "everything"])
def test_what_the_chart_sets_is_read(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    for deployment in of_kind(variant, "Deployment"):
        name = component(deployment)
        if name == "gateway":
            continue
        seen.add(name)
        env: list[Any] = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        given = {e["name"]: e.get("value", SECRETS.get(e["name"], "x")) for e in env}
        read: set[str] = set()
        with monkeypatch.context() as patch:
            for key, value in given.items():
                patch.setenv(key, value)
            for settings in SETTINGS[name]:
                settings()
                prefix = settings.model_config.get("env_prefix", "")
                read |= {f"{prefix}{field}".upper() for field in settings.model_fields}
        assert given.keys() <= read, name
    assert {"auth", "ingestion", "query", "archive"} <= seen


def test_nats_syncs_before_it_acknowledges() -> None:
    for variant, replicas in (("trial", 1), ("production", 3)):
        (config,) = [m for m in of_kind(variant, "ConfigMap") if component(m) == "nats"]
        text = config["data"]["nats.conf"]
        assert "sync_interval: always" in text
        assert ("routes:" in text) == (replicas > 1)
        (nats,) = of_kind(variant, "StatefulSet")
        assert nats["spec"]["replicas"] == replicas
        for deployment in of_kind(variant, "Deployment"):
            env = {
                e["name"]: e.get("value")
                for e in deployment["spec"]["template"]["spec"]["containers"][0].get("env", [])
            }
            for name in ("MDA_INGESTION_TAPE_REPLICAS", "MDA_AUTH_REVOCATION_REPLICAS"):
                assert env.get(name, str(replicas)) == str(replicas)
