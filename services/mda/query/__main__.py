"""`python -m mda.query`: wires the query service and runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from marketdata.query.v1 import query_service_pb2
from mda.lake.settings import LakeSettings
from mda.query.history.workers import Workers
from mda.query.hubs import Hubs
from mda.query.servicer import QueryServicer
from mda.query.settings import QuerySettings
from mda.runtime.handlers import Endpoint
from mda.runtime.server import run_service
from mda.runtime.settings import ServiceSettings
from mda.runtime.tasks import background_tasks
from mda.tape.connection import connect

_SERVICE = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"]
_STREAMS = frozenset({"Scan", "StreamBars", "StreamQuotes", "StreamTrades", "Subscribe"})


@asynccontextmanager
async def build(settings: ServiceSettings, draining: asyncio.Event) -> AsyncGenerator[Sequence[Endpoint]]:
    """Open what query needs."""
    token = settings.nats_token.get_secret_value() if settings.nats_token else None
    async with connect(settings.nats_url, token, "mda-query") as client, background_tasks() as tasks:
        own = QuerySettings()
        hubs = Hubs(
            client, own.ring_bytes, tasks, own.cursor_key.get_secret_value().encode(), LakeSettings().location()
        )
        if own.follow_all:
            tasks.create_task(hubs.discover())
        workers = Workers()
        servicer = QueryServicer(hubs, draining, workers)
        try:
            yield [Endpoint(_SERVICE, servicer, raw_responses=_STREAMS)]
        finally:
            workers.close()


def main() -> None:
    """Run the service."""
    settings = ServiceSettings()
    run_service("query", settings, partial(build, settings))


if __name__ == "__main__":
    main()
