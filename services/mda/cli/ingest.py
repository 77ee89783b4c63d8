"""`mda ingest`: puts files on the tape."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from marketdata.client import Client
from marketdata.columns import FIELDS, Kind
from marketdata.errors import ApiError
from marketdata.v1.instrument_pb2 import Instrument
from mda.cli.options import DataOption, KeyOption, UrlOption, connection
from mda.feeds.dbn import DbnFile, open_dbn

app = typer.Typer()


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
    """

    what: str
    records: int
    added: int
    flagged: int = 0


@app.command()
def ingest(
    files: Annotated[list[Path], typer.Argument(help="DBN files: definitions, mbp-1, trades.", exists=True)],
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Put the records of files on the tape, each once: a file that is there already adds nothing.

    Example: mda ingest es.definition.dbn.zst es.mbp-1.dbn.zst es.trades.dbn.zst
    """
    opened = [open_dbn(path) for path in files]
    address, key = connection(data, url, key_file)
    asyncio.run(_ingest(opened, address, key))


async def _ingest(files: list[DbnFile], url: str, api_key: str) -> None:
    console = Console()
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    async with Client.connect(url, api_key) as client:
        for file in files:
            with progress:
                result = await (
                    _definitions(client, file) if file.kind is None else _rows(client, file, file.kind, progress)
                )
            console.print(_sentence(file, result), highlight=False)


async def _definitions(client: Client, file: DbnFile) -> Ingested:
    wanted = file.instruments()
    known = {instrument.symbol: instrument for instrument in await _known(client, file.dataset)}
    put = await client.put_instruments(file.dataset, wanted)
    added = sum(known.get(instrument.symbol) != instrument for instrument in put)
    return Ingested("instruments", len(put), added)


async def _rows(client: Client, file: DbnFile, kind: Kind, progress: Progress) -> Ingested:
    ids = await _ids(client, file)
    task = progress.add_task(file.path.name, total=None)
    records = added = number = 0
    async with client.publisher(file.dataset, file.producer) as publisher:
        there = publisher.last_number
        for batch in file.batches(ids):
            number += 1
            records += batch.rows
            if number > there:
                await publisher.publish(batch)
                added += batch.rows
            progress.update(task, completed=records)
        await publisher.flush()
        progress.update(task, total=records)
        return Ingested(FIELDS[kind], records, added, publisher.flagged_rows)


async def _ids(client: Client, file: DbnFile) -> dict[str, int]:
    """Return the id of each symbol of a file; symbols without a definition are put as they are."""
    known = {instrument.symbol: instrument.instrument_id for instrument in await _known(client, file.dataset)}
    missing = [Instrument(symbol=symbol) for symbol in file.symbols.values() if symbol not in known]
    for instrument in await client.put_instruments(file.dataset, missing):
        known[instrument.symbol] = instrument.instrument_id
    return known


async def _known(client: Client, dataset: str) -> list[Instrument]:
    try:
        return await client.list_instruments(dataset)
    except ApiError as error:
        if error.reason != "UNKNOWN_DATASET":
            raise
        return []


def _sentence(file: DbnFile, result: Ingested) -> str:
    head = f"{file.path.name} → {file.dataset}: {result.records:,} {result.what}"
    if result.added == 0:
        return f"{head}, all there already: nothing added"
    tail = f", {result.flagged:,} of them flagged" if result.flagged else ""
    there = result.records - result.added
    return f"{head}, {result.added:,} added{f' ({there:,} were there)' if there else ''}{tail}"
