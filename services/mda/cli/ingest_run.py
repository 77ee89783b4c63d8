"""What `mda ingest` does with files that are open."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from marketdata.client import Client
from marketdata.columns import FIELDS, Batch, Kind
from marketdata.errors import ApiError
from marketdata.v1.instrument_pb2 import Instrument
from mda.cli.backfill import Filling, fill, gather, open_gaps, told
from mda.cli.folder import StackError
from mda.cli.progress import RowProgress
from mda.feeds.columnar import ColumnFile
from mda.feeds.dbn import DbnFile
from mda.feeds.mapping import ColumnMapping


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A file of rows in columns, with what they are and where they go."""

    file: ColumnFile
    mapping: ColumnMapping
    dataset: str


Source = DbnFile | MappedFile


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a file.

    Attributes
    ----------
    what
        The kind of its records.
    records
        How many it has.
    added
        How many of them were not there before.
    flagged
        How many of the added ones have a verdict.
    seconds
        How long it took.
    """

    what: str
    records: int
    added: int
    flagged: int = 0
    seconds: float = 0.0


class Ingestion:
    """Puts files on the tape, one after the other.

    Parameters
    ----------
    console
        Where progress is shown.
    """

    def __init__(self, console: Console) -> None:
        self._progress = RowProgress(console)
        self._out = Console(highlight=False, soft_wrap=True, markup=False)
        self._name = "nothing"

    @property
    def so_far(self) -> str:
        """What is done, in words."""
        return f"{self._name}: {self._progress.rows:,} rows were sent"

    async def run(self, sources: list[Source], url: str, api_key: str) -> None:
        """Put the files on the tape, and tell what became of each."""
        async with Client.connect(url, api_key) as client:
            for source in sources:
                path = source.path if isinstance(source, DbnFile) else source.file.path
                self._name = path.name
                with self._progress:
                    self._progress.begin(path.name, path.stat().st_size)
                    result = await self._one(client, source)
                self._out.print(_sentence(path.name, source.dataset, result))

    async def fill_gaps(self, sources: list[Source], url: str, api_key: str) -> None:
        """Fill the gaps of datasets with rows of the files, and tell what became of each gap.

        Raises
        ------
        StackError
            If gaps are left open although the files have all of their rows.
        """
        stuck = 0
        async with Client.connect(url, api_key) as client:
            for dataset in dict.fromkeys(source.dataset for source in sources):
                fillings = await open_gaps(client, dataset)
                for source in sources:
                    if source.dataset == dataset and (rows := _rows(client, source, self._progress)) is not None:
                        await self._gather(fillings, source, rows)
                await fill(client, dataset, fillings)
                self._tell_filled(dataset, fillings)
                stuck += sum(filling.is_stuck for filling in fillings)
        if stuck:
            raise StackError(f"{stuck:,} {'gap is' if stuck == 1 else 'gaps are'} left open; why stands above.")

    async def _gather(self, fillings: list[Filling], source: Source, rows: AsyncGenerator[Batch]) -> None:
        path = source.path if isinstance(source, DbnFile) else source.file.path
        self._name = path.name
        with self._progress:
            self._progress.begin(path.name, path.stat().st_size)
            async with aclosing(rows):
                await gather(fillings, rows)

    def _tell_filled(self, dataset: str, fillings: list[Filling]) -> None:
        closed, added = (sum(filling.closed for filling in fillings), sum(filling.added for filling in fillings))
        self._out.print(
            f"{dataset}: {closed:,} of {len(fillings):,} open gaps in sequence numbers are filled and closed, "
            f"{added:,} rows added"
        )
        for filling in fillings:
            for line in told(dataset, filling):
                self._out.print(f"  {line}")

    async def _one(self, client: Client, source: Source) -> Ingested:
        if isinstance(source, MappedFile):
            rows = _mapped_rows(client, source, self._progress)
            producer = source.file.producer(source.mapping)
            return await self._publish(client, source.dataset, producer, source.mapping.rows_kind, rows)
        if source.kind is None:
            return await _definitions(client, source)
        rows = _dbn_rows(client, source, self._progress)
        return await self._publish(client, source.dataset, source.producer, source.kind, rows)

    async def _publish(
        self, client: Client, dataset: str, producer: str, kind: Kind, batches: AsyncGenerator[Batch]
    ) -> Ingested:
        records = added = number = 0
        # The first batches make the dataset, where there is none yet.
        async with aclosing(batches):
            first = await anext(batches, None)
            async with client.publisher(dataset, producer) as publisher:
                there = publisher.last_number
                while first is not None:
                    number += 1
                    records += first.rows
                    if number > there:
                        await publisher.publish(first)
                        added += first.rows
                    first = await anext(batches, None)
                await publisher.flush()
                return Ingested(FIELDS[kind], records, added, publisher.flagged_rows, self._progress.seconds)


def _rows(client: Client, source: Source, progress: RowProgress) -> AsyncGenerator[Batch] | None:
    """Return the rows of a file; None where it has definitions."""
    if isinstance(source, MappedFile):
        return _mapped_rows(client, source, progress)
    return _dbn_rows(client, source, progress) if source.kind is not None else None


async def _dbn_rows(client: Client, file: DbnFile, progress: RowProgress) -> AsyncGenerator[Batch]:
    ids = await _ids(client, file.dataset, [*file.symbols.values()])
    read = 0

    def note(position: int) -> None:
        nonlocal read
        read = position

    for batch in file.batches(ids, note):
        progress.advance(batch.rows, read)
        yield batch


async def _mapped_rows(client: Client, source: MappedFile, progress: RowProgress) -> AsyncGenerator[Batch]:
    ids = np.empty(0, np.uint32)
    for piece in source.file.pieces(source.mapping):
        if len(piece.symbols) > len(ids):
            known = await _ids(client, source.dataset, piece.symbols)
            ids = np.array([known[symbol] for symbol in piece.symbols], np.uint32)
        batch = piece.batch
        progress.advance(batch.rows, source.file.read_bytes)
        yield Batch(batch.kind, batch.rows, {**batch.columns, "instrument_id": ids[batch["instrument_id"]]})


async def _definitions(client: Client, file: DbnFile) -> Ingested:
    wanted = file.instruments()
    known = {instrument.symbol: instrument for instrument in await _known(client, file.dataset)}
    put = await client.put_instruments(file.dataset, wanted)
    added = sum(known.get(instrument.symbol) != instrument for instrument in put)
    return Ingested("instruments", len(put), added)


async def _ids(client: Client, dataset: str, symbols: list[str]) -> dict[str, int]:
    """Return the id of each symbol; those without a definition are put as they are."""
    known = {instrument.symbol: instrument.instrument_id for instrument in await _known(client, dataset)}
    missing = [Instrument(symbol=symbol) for symbol in dict.fromkeys(symbols) if symbol not in known]
    for instrument in await client.put_instruments(dataset, missing):
        known[instrument.symbol] = instrument.instrument_id
    return known


async def _known(client: Client, dataset: str) -> list[Instrument]:
    try:
        return await client.list_instruments(dataset)
    except ApiError as error:
        if error.reason != "UNKNOWN_DATASET":
            raise
        return []


def _sentence(name: str, dataset: str, result: Ingested) -> str:
    head = f"{name} → {dataset}: {result.records:,} {result.what}"
    if result.added == 0:
        return f"{head}, all there already: nothing added"
    tail = f", {result.flagged:,} of them flagged" if result.flagged else ""
    there = result.records - result.added
    rate = f", in {result.seconds:.1f} s: {result.added / result.seconds:,.0f} rows/s" if result.seconds > 1 else ""
    return f"{head}, {result.added:,} added{f' ({there:,} were there)' if there else ''}{tail}{rate}"
