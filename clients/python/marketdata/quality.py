"""The part of the client that asks what is missing, and what was set aside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from marketdata.ingestion.v1.ingestion_service_pb2 import (
    ListQuarantinedRequest,
    ReleaseQuarantinedRequest,
    ReleaseQuarantinedResponse,
)
from marketdata.instruments import Instruments
from marketdata.query.v1.query_service_pb2 import ListGapsRequest
from marketdata.query.v1.query_service_pb2_grpc import QueryServiceStub
from marketdata.rows import Rows
from marketdata.v1.gap_pb2 import Gap
from marketdata.v1.quarantine_pb2 import QuarantinedRows

_ITEMS: Final = 100


class Quality(Instruments):
    """Gaps and quarantine of datasets."""

    async def gaps(self, dataset: str, *, open_only: bool = False, limit: int | None = None) -> Rows[Gap]:
        """Return the gaps of a dataset, newest first.

        Parameters
        ----------
        dataset
            Whose.
        open_only
            Only those that are open still. Otherwise a gap that has closed is there twice:
            as it opened, and as it closed.
        limit
            How many at the most; None for all that are known.

        Raises
        ------
        ApiError
            If the server refuses.
        """
        stub: Any = QueryServiceStub(self._channel)
        request = ListGapsRequest(dataset=dataset, open_only=open_only)
        return Rows(Gap, await self._pages(stub.ListGaps, request, "gaps", limit))

    async def quarantined(self, dataset: str, *, limit: int | None = None) -> list[QuarantinedRows]:
        """Return the rows that were set aside, in that order, those of a batch together. Released ones stay.

        Parameters
        ----------
        limit
            How many items at the most; None for all.

        Raises
        ------
        ApiError
            If the server refuses.
        """
        request = ListQuarantinedRequest(dataset=dataset)
        return await self._pages(self._ingestion.ListQuarantined, request, "items", limit, _ITEMS)

    async def release(self, dataset: str, ids: Sequence[str]) -> list[ReleaseQuarantinedResponse.Released]:
        """Put rows that were set aside on the tape, each once however often it is called.

        Parameters
        ----------
        ids
            Of the items that `quarantined` gives.

        Raises
        ------
        ApiError
            If the server refuses: rows that no reader could use stay where they are.
        """
        released: list[ReleaseQuarantinedResponse.Released] = []
        for start in range(0, len(ids), _ITEMS):
            request = ReleaseQuarantinedRequest(dataset=dataset, ids=ids[start : start + _ITEMS])
            released += (await self._call(self._ingestion.ReleaseQuarantined, request)).released
        return released
