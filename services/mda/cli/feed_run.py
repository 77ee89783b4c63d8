"""What `mda feed` does with a source: publish it, and tell how it is doing."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from marketdata.client import Client
from marketdata.spool import Spool
from mda.cli.folder import StackError
from mda.feeds.feed import Feed
from mda.feeds.source import RefusedError, Source
from mda.feeds.status import sentence
from mda.runtime.logs import configure_logs
from mda.runtime.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class Plan:
    """What to publish.

    Attributes
    ----------
    source, dataset, producer
        As in `Feed`.
    seconds
        How long; until it is stopped, where None.
    every_s
        How often the status is told, in seconds.
    as_json
        Whether that is JSON, an object a line.
    spool
        A file for what is not acknowledged yet.
    """

    source: Source
    dataset: str
    producer: str | None
    seconds: float | None
    every_s: float
    as_json: bool = False
    spool: Path | None = None


def publish(plan: Plan, url: str, api_key: str) -> None:
    """Publish a source until it ends, its time is over, or SIGINT or SIGTERM comes; a second one does not wait."""
    configure_logs("feed", ServiceSettings.model_validate({"log_format": "console", "log_level": "warning"}))
    try:
        stopped = asyncio.run(_publish(plan, url, api_key))
    except RefusedError as error:
        raise StackError(str(error)) from error
    if stopped:
        raise typer.Exit(130)


async def _publish(plan: Plan, url: str, api_key: str) -> bool:
    """Publish; return whether a second signal cut it short."""
    async with Client.connect(url, api_key) as client:
        spool = None if plan.spool is None else Spool(plan.spool)
        feed = Feed(client, plan.source, plan.dataset, plan.producer, spool=spool)
        task = asyncio.create_task(feed.run())
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if feed.status.state == "stopping":
                task.cancel()
            else:
                feed.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        telling = asyncio.create_task(_tell(feed, plan))
        timer = None if plan.seconds is None else loop.call_later(plan.seconds, feed.stop)
        try:
            await task
        except asyncio.CancelledError:
            return True
        finally:
            telling.cancel()
            if timer is not None:
                timer.cancel()
            _print(feed, plan)
        return False


async def _tell(feed: Feed, plan: Plan) -> None:
    while True:
        await asyncio.sleep(plan.every_s)
        _print(feed, plan)


def _print(feed: Feed, plan: Plan) -> None:
    facts: dict[str, Any] = {"dataset": plan.dataset, **feed.status.facts()}
    typer.echo(json.dumps(facts) if plan.as_json else f"{plan.dataset} {sentence(facts)}")
