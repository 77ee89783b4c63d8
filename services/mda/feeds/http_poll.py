"""Any HTTP resource that is asked for again and again: CSV, JSON, Parquet or Arrow, with a mapping of its columns."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
import pyarrow as pa

from marketdata.columns import Batch, Kind, concatenate
from marketdata.v1.instrument_pb2 import Instrument
from mda.feeds.columnar import Names, open_columnar, to_batch
from mda.feeds.dbn import FileError
from mda.feeds.mapping import ColumnMapping, MappingError
from mda.feeds.rest import Answer, get
from mda.feeds.source import Alive, Connected, Listed, Rule, Source, SourceError, Standings, Update

BodyFormat = Literal["json", "csv", "parquet", "arrow"]

MOST_BYTES: Final = 16 << 20
"""The most bytes of a body, where nobody says."""
_TYPES: Final[Mapping[str, BodyFormat]] = {
    "text/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.arrow.file": "arrow",
}


class HttpPoll(Source):
    """Asks for a resource every so often, and gives the rows in it that are new.

    It asks only for what has changed (ETag, Last-Modified), and a body that it has had is not
    looked at. Of one that has changed, rows are known by their `sequence`, where the mapping
    has it; otherwise by the time of their event, and by their count at that time. Bars
    change until they are over: without a `sequence` they are given again whenever they differ
    from those of the answer before.

    Parameters
    ----------
    url
        What to ask for.
    mapping
        Which of its columns are what.
    interval_s
        How long from one question to the next, in seconds.
    form
        What it is; as the answer says, where None.
    records
        Where in JSON the list of rows stands: names, separated by dots; empty where it is
        all there is.
    contiguous
        Whether numbers go up by one, so that a hole is a gap.
    headers
        Sent with each question.
    most_bytes
        The most bytes of a body.
    """

    name: ClassVar[str] = "http"

    def __init__(
        self,
        url: str,
        mapping: ColumnMapping,
        *,
        interval_s: float = 10.0,
        form: BodyFormat | None = None,
        records: str = "",
        contiguous: bool = False,
        headers: Mapping[str, str] | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        numbered = Rule.CONTIGUOUS if contiguous else Rule.RISING
        others = Rule.NONE if mapping.rows_kind is Kind.BAR else Rule.TIMED
        self.rules = {mapping.rows_kind: numbered if "sequence" in mapping.columns else others}
        self.silence_s = max(60.0, 3 * interval_s)
        self._url = url
        self._mapping = mapping
        self._interval_s = interval_s
        self._form: BodyFormat | None = form
        self._records = records
        self._headers = dict(headers or {})
        self._most_bytes = most_bytes
        self._first: Answer | None = None  # what has been asked for already
        self._unchanged: dict[str, str] = {}
        self._digest = b""
        self._known: frozenset[tuple[int, ...]] = frozenset()  # the rows of the newest answer, where no rule knows them

    async def instruments(self) -> list[Instrument]:
        """Return those of the first answer; others are listed as they come."""
        names = Names(self._mapping)
        self._first = await get(self._url, headers=self._headers, most_bytes=self._most_bytes)
        await asyncio.to_thread(self._batch, self._first, names)
        return [Instrument(symbol=symbol) for symbol in names.all]

    async def updates(self, ids: Mapping[str, int], standings: Standings) -> AsyncGenerator[Update]:
        """Yield what is new, question by question."""
        del standings
        while True:
            headers = self._headers | self._unchanged
            answer = self._first or await get(self._url, headers=headers, most_bytes=self._most_bytes)
            self._first = None
            yield Connected()  # each answer may have rows that there were before
            digest = hashlib.sha256(answer.body).digest()
            if answer.status == 304 or digest == self._digest:
                yield Alive()
            else:
                names = Names(self._mapping)
                batch = await asyncio.to_thread(self._batch, answer, names)
                if new := [Instrument(symbol=symbol) for symbol in names.all if symbol not in ids]:
                    yield Listed(new)
                if batch is not None:
                    numbers = np.array([ids[symbol] for symbol in names.all], np.uint32)
                    columns = {**batch.columns, "instrument_id": numbers[batch["instrument_id"]]}
                    batch = await asyncio.to_thread(self._changed, Batch(batch.kind, batch.rows, columns))
                    if batch.rows:
                        yield batch
                self._digest = digest
            self._unchanged = _conditions(answer) or self._unchanged
            await asyncio.sleep(self._interval_s)

    def _changed(self, batch: Batch) -> Batch:
        """Return the rows that are not in the answer before as they are in this one, where no rule knows them."""
        if self.rules[batch.kind] is not Rule.NONE:
            return batch
        rows = [*zip(*(batch[name].tolist() for name in sorted(batch.columns)), strict=True)]
        fresh = [row not in self._known for row in rows]
        self._known = frozenset(rows)
        return batch.take(np.array(fresh))

    def _batch(self, answer: Answer, names: Names) -> Batch | None:
        """Return the rows of an answer, the oldest first; None if there are none.

        Raises
        ------
        SourceError
            If it has none that the mapping can read.
        """
        form = self._form or _form_of(answer)
        try:
            parts = [part for part in self._parts(answer.body, form) if part.num_rows]
            batches = [to_batch(part, self._mapping, names, self._url) for part in parts]
        except (FileError, MappingError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
            raise SourceError(f"the answer cannot be read as {form}: {error}") from error
        return _oldest_first(concatenate(batches)) if batches else None

    def _parts(self, body: bytes, form: BodyFormat) -> Iterator[pa.RecordBatch]:
        if form == "json":
            table = pa.Table.from_pylist(_list_in(json.loads(body, parse_float=Decimal), self._records))
            if table.num_rows:
                self._mapping.check(table.schema)
            yield from table.combine_chunks().to_batches()
            return
        with tempfile.NamedTemporaryFile(suffix=f".{form}") as copy:
            copy.write(body)
            copy.flush()
            file = open_columnar(Path(copy.name), form)
            self._mapping.check(file.schema())
            yield from file.records(self._mapping)


def _form_of(answer: Answer) -> BodyFormat:
    """Return what an answer says that it is; JSON, where it says nothing that we know."""
    told = answer.headers.get("content-type", "").partition(";")[0].strip()
    return _TYPES.get(told, "json")


def _conditions(answer: Answer) -> dict[str, str]:
    """Return the headers that ask for what has changed since an answer (RFC 9110, section 13.1)."""
    told = {"if-none-match": answer.headers.get("etag"), "if-modified-since": answer.headers.get("last-modified")}
    return {name: value for name, value in told.items() if value}


def _list_in(found: Any, path: str) -> list[dict[str, Any]]:
    for name in filter(None, path.split(".")):
        found = found[name]
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise TypeError("there is no list of objects" + (f" at {path}" if path else ""))
    return found


def _oldest_first(batch: Batch) -> Batch:
    """Return rows in order of time; those of one time as they came, or the other way round where all are."""
    times = batch["ts_event"]
    if times[0] > times[-1]:
        batch = batch.take(np.arange(batch.rows)[::-1])
    keys = [batch[name] for name in ("sequence", "ts_event") if name in batch.columns]
    return batch.take(np.lexsort(keys))
