"""`python -m mda.feeds`: the synthetic feed, dataset `SIM`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import Annotated, Final

import structlog
import uvloop
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from marketdata.client import Client
from mda.feeds.market import Market, instruments
from mda.runtime.logs import configure_logs
from mda.runtime.settings import ServiceSettings

_LOG: Final = structlog.stdlib.get_logger("mda.feeds")


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
    """Publish the synthetic market as time goes by, until cancelled."""
    async with Client.connect(settings.url, settings.api_key.get_secret_value()) as client:
        known = await client.put_instruments(settings.dataset, instruments())
        market = Market([instrument.instrument_id for instrument in known], settings.seed)
        length_ns = settings.interval_ms * 1_000_000
        async with client.publisher(settings.dataset, "sim") as publisher:
            _LOG.info("publishing", dataset=settings.dataset, last_number=publisher.last_number)
            start_ns = time.time_ns()
            while True:
                await asyncio.sleep(max(0.0, (start_ns + length_ns - time.time_ns()) / 1e9))
                for batch in market.interval(start_ns, length_ns):
                    await publisher.publish(batch)
                # After a pause of ours the market goes on from now.
                start_ns = max(start_ns + length_ns, time.time_ns() - 10 * length_ns)


async def _until_stopped(settings: SimSettings) -> None:
    task = asyncio.create_task(run(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main() -> None:
    """Run the feed until SIGTERM or SIGINT."""
    configure_logs("sim", ServiceSettings())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_stopped(SimSettings.model_validate({})))


if __name__ == "__main__":
    main()
