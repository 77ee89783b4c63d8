"""The part of the client that names instruments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import grpc

from marketdata.calls import Calls
from marketdata.ingestion.v1.ingestion_service_pb2 import ListInstrumentsRequest, PutInstrumentsRequest
from marketdata.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from marketdata.tokens import TokenSource
from marketdata.v1.instrument_pb2 import Instrument

_AT_ONCE: Final = 1000


class Instruments(Calls):
    """Instruments of datasets: symbols and the ids that columns have for them."""

    def __init__(self, channel: grpc.aio.Channel, tokens: TokenSource) -> None:
        super().__init__(channel, tokens)
        self._ingestion = IngestionServiceStub(channel)

    async def put_instruments(self, dataset: str, instruments: Iterable[Instrument]) -> list[Instrument]:
        """Add or change instruments; return them with their ids. The dataset is made if it is not there.

        Raises
        ------
        ApiError
            If the server refuses.
        """
        wanted = list(instruments)
        result: list[Instrument] = []
        for start in range(0, len(wanted), _AT_ONCE):
            request = PutInstrumentsRequest(dataset=dataset, instruments=wanted[start : start + _AT_ONCE])
            result += (await self._call(self._ingestion.PutInstruments, request)).instruments
        return result

    async def list_instruments(self, dataset: str) -> list[Instrument]:
        """Return all instruments of a dataset, by id.

        Raises
        ------
        ApiError
            If the server refuses.
        """
        request = ListInstrumentsRequest(dataset=dataset)
        return await self._pages(self._ingestion.ListInstruments, request, "instruments", None)

    async def symbols(self, dataset: str) -> dict[int, str]:
        """Return the symbol of each instrument id of a dataset, as `to_polars(symbols=…)` takes them.

        Raises
        ------
        ApiError
            If the server refuses.
        """
        return {found.instrument_id: found.symbol for found in await self.list_instruments(dataset)}
