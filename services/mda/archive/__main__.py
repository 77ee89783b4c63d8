"""`python -m mda.archive`: wires the archive service and runs it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from marketdata.archive.v1 import archive_service_pb2
from mda.archive.archives import Archives
from mda.archive.servicer import ArchiveServicer
from mda.archive.settings import ArchiveSettings
from mda.lake.location import Location
from mda.lake.settings import LakeSettings
from mda.runtime.handlers import Endpoint
from mda.runtime.server import run_service
from mda.runtime.settings import ServiceSettings
from mda.runtime.tasks import background_tasks
from mda.tape.connection import connect

_SERVICE = archive_service_pb2.DESCRIPTOR.services_by_name["ArchiveService"]


@asynccontextmanager
async def build(
    settings: ServiceSettings, location: Location, draining: asyncio.Event
) -> AsyncGenerator[Sequence[Endpoint]]:
    """Open what the archive needs."""
    token = settings.nats_token.get_secret_value() if settings.nats_token else None
    async with connect(settings.nats_url, token, "mda-archive") as client, background_tasks() as tasks:
        archives = Archives(client, location, ArchiveSettings(), tasks)
        tasks.create_task(archives.discover())
        yield [Endpoint(_SERVICE, ArchiveServicer(archives))]


def main() -> None:
    """Run the service."""
    settings = ServiceSettings()
    location = LakeSettings().location()
    if location is None:
        sys.exit("MDA_LAKE_URI: set it to a folder's absolute path, or such as s3://bucket/prefix.")
    run_service("archive", settings, partial(build, settings, location))


if __name__ == "__main__":
    main()
