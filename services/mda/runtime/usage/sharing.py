"""Shares what clients use among all processes, by NATS.

Calls and open streams are told by messages that nobody keeps; rows of a day are counters of
JetStream (NATS ADR-49), which add up whatever process counts, and outlive all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Final

import structlog

from mda.market.errors import MarketDataError
from mda.runtime.settings import ServiceSettings
from mda.runtime.tasks import background_tasks
from mda.runtime.usage.account import Usage
from mda.runtime.usage.meter import Meter, Used
from mda.tape.connection import connect
from mda.tape.counters import Counters
from mda.tape.news import News

_TELL_S: Final = 0.25
"""How often a process tells what is new, in seconds."""
_WHOLE_EVERY: Final = 8
"""Each so many times it tells everything, for who has missed something."""
_COUNT_EVERY: Final = 8
"""Each so many times it adds up rows."""
_ADDED_AT_ONCE: Final = 64
_NEWS: Final = "usage.news"
_STREAM: Final = "USAGE"
_ROWS: Final = "usage.rows"
_KEPT_S: Final = 40 * 86_400.0
"""How long a day's rows are kept, in seconds."""
_LOOK_UP_S: Final = 0.5
_RETRY_S: Final = 1.0
_LOG: Final = structlog.stdlib.get_logger("mda.usage")


class Sharing:
    """One process's part of it.

    Parameters
    ----------
    meter
        What this process uses, and hears of the others.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._process = uuid.uuid4().hex
        self._counters: Counters | None = None

    async def run(self, settings: ServiceSettings) -> None:
        """Tell, hear and count, for ever. While NATS is away, limits are each process's own."""
        token = settings.nats_token.get_secret_value() if settings.nats_token else None
        async with connect(settings.nats_url, token, "mda-usage") as client:
            news = News(client, _NEWS)
            await news.listen(self._hear)
            self._counters = await self._created(Counters(client, _STREAM, f"{_ROWS}.>"), settings.usage_replicas)
            try:
                for turn in itertools.count():
                    await self._turn(news, turn)
                    await asyncio.sleep(_TELL_S)
            finally:
                await self._count()

    async def look_up(self, client: str) -> None:
        """Look up a client's rows of today; go on without where NATS is away."""
        if self._counters is None:
            return
        day = self._meter.day
        with contextlib.suppress(MarketDataError, TimeoutError):
            async with asyncio.timeout(_LOOK_UP_S):
                self._meter.note_total(client, day, await self._counters.value(_subject(client, day)))

    async def _created(self, counters: Counters, replicas: int) -> Counters:
        while True:
            try:
                await counters.create(replicas=replicas, keep_s=_KEPT_S)
            except MarketDataError as error:
                _LOG.warning("usage is not shared yet", problem=error.message)
                await asyncio.sleep(_RETRY_S)
            else:
                return counters

    async def _turn(self, news: News, turn: int) -> None:
        whole = turn % _WHOLE_EVERY == 0
        used = self._meter.news(whole=whole)
        if used or whole:
            clients = {client: asdict(one) for client, one in used.items()}
            await news.tell(json.dumps({"process": self._process, "whole": whole, "clients": clients}).encode())
        if turn % _COUNT_EVERY == 0:
            await self._count()

    async def _count(self) -> None:
        """Add up the rows that are in no total yet; what cannot be added now will be."""
        rest = list(self._meter.uncounted().items())
        while rest:
            some, rest = rest[:_ADDED_AT_ONCE], rest[_ADDED_AT_ONCE:]
            done = await asyncio.gather(
                *(self._add(client, day, rows) for (client, day), rows in some), return_exceptions=True
            )
            for error in done:
                if isinstance(error, MarketDataError):
                    _LOG.warning("rows are not counted yet", problem=error.message)
                    return
                if error is not None:
                    raise error

    async def _add(self, client: str, day: str, rows: int) -> None:
        if self._counters is not None:
            total = await self._counters.add(_subject(client, day), rows)
            self._meter.note_total(client, day, total, counted=rows)

    async def _hear(self, data: bytes) -> None:
        try:
            told = json.loads(data)
            if told["process"] != self._process:
                used = {client: Used(**one) for client, one in told["clients"].items()}
                self._meter.hear(told["process"], used, whole=told["whole"])
        except (ValueError, KeyError, TypeError, AttributeError):  # of another release
            _LOG.warning("news of usage that are not understood")


def _subject(client: str, day: str) -> str:
    return f"{_ROWS}.{day}.{client}"


@asynccontextmanager
async def shared_usage(settings: ServiceSettings) -> AsyncGenerator[Usage]:
    """Give what clients use, shared with the other processes, while the body runs."""
    meter = Meter()
    sharing = Sharing(meter)
    async with background_tasks() as tasks:
        tasks.create_task(sharing.run(settings))
        yield Usage(meter, sharing.look_up)
