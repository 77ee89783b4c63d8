"""`python -m mda.feeds`: the synthetic feed, dataset `SIM`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Annotated

import uvloop
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from marketdata.client import Client
from mda.feeds.feed import Feed
from mda.feeds.synthetic import Synthetic
from mda.runtime.logs import configure_logs
from mda.runtime.settings import ServiceSettings


class SimSettings(BaseSettings):
    """What the synthetic feed does, from environment variables with the prefix `MDA_SIM_`."""

    model_config = SettingsConfigDict(env_prefix="MDA_SIM_", frozen=True, extra="ignore")

    url: str = "http://127.0.0.1:8080"
    """The gateway."""
    api_key: SecretStr
    """The feed's API key."""
    dataset: str = "SIM"
    seed: int = 1
    """The same seed makes the same moves."""
    interval_ms: Annotated[int, Field(ge=10, le=10_000)] = 100
    """How often to publish, in milliseconds."""


async def run(settings: SimSettings) -> None:
    """Publish the synthetic market as time goes by, until it is told to stop by SIGTERM or SIGINT."""
    async with Client.connect(settings.url, settings.api_key.get_secret_value()) as client:
        feed = Feed(client, Synthetic(settings.seed, settings.interval_ms), settings.dataset)
        task = asyncio.create_task(feed.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task


def main() -> None:
    """Run the feed until SIGTERM or SIGINT."""
    configure_logs("sim", ServiceSettings())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(SimSettings.model_validate({})))


if __name__ == "__main__":
    main()
