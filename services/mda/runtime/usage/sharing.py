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
from dataclasses import asdict, dataclass
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
_COUNT_S: Final = 2.0
"""How often a process adds up rows, in seconds."""
_ADDED_AT_ONCE: Final = 64
_NEWS: Final = "usage.news"
_STREAM: Final = "USAGE"
_ROWS: Final = "usage.rows"
_KEPT_S: Final = 40 * 86_400.0
"""How long a day's rows are kept, in seconds."""
_LOOK_UP_S: Final = 0.5
_LOG: Final = structlog.stdlib.get_logger("mda.usage")


@dataclass(frozen=True, slots=True)
class _Addition:
    id: str
    rows: int


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
        self._additions: dict[tuple[str, str], _Addition] = {}

    async def run(self, settings: ServiceSettings) -> None:
        """Tell, hear and count, for ever. While NATS is away, limits are each process's own."""
        token = settings.nats_token.get_secret_value() if settings.nats_token else None
        async with connect(settings.nats_url, token, "mda-usage") as client:
            news = News(client, _NEWS)
            await news.listen(self._hear)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tell_for_ever(news))
                tasks.create_task(self._count_for_ever(Counters(client, _STREAM, f"{_ROWS}.>"), settings))

    async def look_up(self, client: str) -> None:
        """Look up a client's rows of today; go on without where NATS is away."""
        if self._counters is None:
            return
        day, total = self._meter.day, 0
        with contextlib.suppress(MarketDataError, TimeoutError):
            async with asyncio.timeout(_LOOK_UP_S):
                total = await self._counters.value(_subject(client, day))
        self._meter.note_total(client, day, total)  # where it is not known, it is not asked for at each call, either

    async def _tell_for_ever(self, news: News) -> None:
        for turn in itertools.count():
            whole = turn % _WHOLE_EVERY == 0
            used = self._meter.news(whole=whole)
            if used or whole:
                clients = {client: asdict(one) for client, one in used.items()}
                told = {"process": self._process, "whole": whole, "clients": clients}
                try:
                    await news.tell(json.dumps(told).encode())
                except MarketDataError as error:
                    _LOG.warning("usage is not told", problem=error.message)
            await asyncio.sleep(_TELL_S)

    async def _count_for_ever(self, counters: Counters, settings: ServiceSettings) -> None:
        while self._counters is None:
            try:
                await counters.create(replicas=settings.usage_replicas, keep_s=_KEPT_S)
                self._counters = counters
            except MarketDataError as error:
                _LOG.warning("rows are not counted yet", problem=error.message)
                await asyncio.sleep(_COUNT_S)
        try:
            while True:
                await self._count(counters)
                await asyncio.sleep(_COUNT_S)
        finally:
            await self._count(counters)

    async def _count(self, counters: Counters) -> None:
        """Add up the rows that are in no total yet; what cannot be added now will be."""
        rest = list(self._meter.uncounted().items())
        try:
            while rest:
                some, rest = rest[:_ADDED_AT_ONCE], rest[_ADDED_AT_ONCE:]
                async with asyncio.TaskGroup() as tasks:
                    for (client, day), rows in some:
                        tasks.create_task(self._add(counters, client, day, rows))
        except* MarketDataError as errors:
            _LOG.warning("rows are not counted yet", problem=str(errors.exceptions[0]))

    async def _add(self, counters: Counters, client: str, day: str, rows: int) -> None:
        """Add what a client used on a day: what was tried before, unchanged, until it is known to be there."""
        addition = self._additions.setdefault((client, day), _Addition(uuid.uuid4().hex, rows))
        total = await counters.add(_subject(client, day), addition.rows, addition.id)
        del self._additions[client, day]
        self._meter.note_total(client, day, total, counted=addition.rows)

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
