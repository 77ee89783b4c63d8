"""`python -m mda.ingestion`: wires the ingestion service and runs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from marketdata.ingestion.v1 import ingestion_service_pb2
from mda.ingestion.datasets import Datasets
from mda.ingestion.servicer import IngestionServicer
from mda.ingestion.settings import IngestionSettings
from mda.runtime.handlers import Endpoint
from mda.runtime.server import run_service
from mda.runtime.settings import ServiceSettings
from mda.runtime.tasks import background_tasks
from mda.tape.connection import connect

_SERVICE = ingestion_service_pb2.DESCRIPTOR.services_by_name["IngestionService"]


@asynccontextmanager
async def build(settings: ServiceSettings, draining: asyncio.Event) -> AsyncGenerator[Sequence[Endpoint]]:
    """Open what ingestion needs."""
    token = settings.nats_token.get_secret_value() if settings.nats_token else None
    async with connect(settings.nats_url, token, "mda-ingestion") as client, background_tasks() as tasks:
        datasets = Datasets(client, IngestionSettings(), time.time_ns)
        tasks.create_task(datasets.follow())
        servicer = IngestionServicer(datasets, draining, tasks)
        yield [Endpoint(_SERVICE, servicer, raw_requests=frozenset({"Publish"}))]


def main() -> None:
    """Run the service."""
    settings = ServiceSettings()
    run_service("ingestion", settings, partial(build, settings))


if __name__ == "__main__":
    main()
