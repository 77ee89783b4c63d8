"""Translates between the wire and the archive. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import grpc

from marketdata.archive.v1.archive_service_pb2 import (
    CompactRequest,
    CompactResponse,
    GetStatusRequest,
    GetStatusResponse,
    Table,
    VerifyRequest,
    VerifyResponse,
)
from marketdata.columns import NANOS
from mda.archive.archives import Archives
from mda.archive.verifying import verify
from mda.lake.errors import ConflictError, LakeError
from mda.lake.table import Snapshot
from mda.market.errors import archive_unavailable
from mda.market.rows import timestamp

Context = grpc.aio.ServicerContext[Any, Any]


class ArchiveServicer:
    """Serves `marketdata.archive.v1.ArchiveService`.

    Parameters
    ----------
    archives
        The archives of all datasets.
    """

    def __init__(self, archives: Archives) -> None:
        self._archives = archives

    async def GetStatus(self, request: GetStatusRequest, context: Context) -> GetStatusResponse:
        """Tell how far an archive is."""
        archive = await self._archives.get(request.dataset)
        archiver = archive.archiver
        bounds = await archiver.tape.bounds()
        with _told(request.dataset):
            view = await asyncio.to_thread(archive.lake().view)
        response = GetStatusResponse(
            archived_sequence=view.archived,
            tape_sequence=bounds.last if bounds is not None else 0,
            tape_first_sequence=bounds.first if bounds is not None else 0,
            tables=[_table(name, snapshot) for name, snapshot in view.tables.items()],
            problem=archiver.problem,
        )
        response.lag.FromNanoseconds(max(0, archiver.newest_ns - archiver.archived_ns) if archiver.archived_ns else 0)
        if archiver.committed_s:
            response.commit_time.CopyFrom(timestamp(int(archiver.committed_s * NANOS)))
        return response

    async def Compact(self, request: CompactRequest, context: Context) -> CompactResponse:
        """Write small files together."""
        archiver = (await self._archives.get(request.dataset)).archiver
        with _told(request.dataset):
            done = await archiver.compact(whole=True)
        return CompactResponse(files_before=done.before, files_after=done.after, rows=done.rows)

    async def Verify(self, request: VerifyRequest, context: Context) -> VerifyResponse:
        """Compare tape and lake."""
        archive = await self._archives.get(request.dataset)
        with _told(request.dataset):
            found = await verify(archive.archiver, archive.lake(), request.first_sequence, request.last_sequence)
        return VerifyResponse(
            equal=found.tape == found.lake,
            tape_digest=found.tape.hex,
            lake_digest=found.lake.hex,
            tape_rows=found.tape.rows,
            lake_rows=found.lake.rows,
            first_sequence=found.first,
            last_sequence=found.last,
            complete=found.complete,
            next_sequence=0 if found.complete else found.last + 1,
        )


def _table(name: str, snapshot: Snapshot) -> Table:
    return Table(
        name=name,
        uri=snapshot.location.uri,
        version=max(snapshot.version, 0),
        rows=snapshot.rows,
        files=len(snapshot.files),
        bytes=sum(file.size for file in snapshot.files),
    )


@contextmanager
def _told(dataset: str) -> Generator[None]:
    try:
        yield
    except (LakeError, ConflictError) as error:
        raise archive_unavailable(dataset, str(error)) from error
