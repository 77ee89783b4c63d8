"""What the tape has dropped, or lost, as the lake has it: the same rows in the same order."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import MAX_ROWS, Batch, Kind
from mda.lake.errors import LakeError
from mda.lake.files import LakeFile
from mda.lake.lake import Lake, View, in_tape_order, tape_keys
from mda.lake.layout import TABLES, Placed
from mda.market.errors import archive_unavailable
from mda.query.ring import ReadEntry
from mda.tape.payload import encode_payload, split_payload

_CHUNK_ROWS: Final = 8_192
"""Entries of the tape are given as one, up to so many rows: readers get them joined in any case."""

_PAGE_CHUNKS: Final = 8
_PAGE_ENTRIES: Final = 65_536
_KEPT_BYTES: Final = 256 << 20


class FileCache:
    """Files of the lake in memory, in the order of the tape, for readers that follow one another.

    Parameters
    ----------
    max_bytes
        The most bytes of rows to keep; the newest file is always kept.
    """

    def __init__(self, max_bytes: int = _KEPT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._files: OrderedDict[str, Future[Placed | None]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="lake-ahead")

    def get(self, lake: Lake, view: View, kind: Kind, file: LakeFile) -> Placed | None:
        """Return the rows of a file; None if it has none. Blocks.

        Raises
        ------
        LakeError
        """
        key = f"{view.tables[TABLES[kind]].location.uri}/{file.path}"
        mine = Future[Placed | None]()
        with self._lock:
            found = self._files.setdefault(key, mine)
            self._files.move_to_end(key)
        if found is not mine:
            return found.result()
        try:
            made = in_tape_order([lake.read(view, kind, file)])
        except BaseException as error:
            with self._lock:
                self._files.pop(key, None)
            mine.set_exception(error)
            raise
        mine.set_result(made)
        self._keep(made)
        return made

    def read_ahead(self, lake: Lake, view: View, kind: Kind, file: LakeFile) -> None:
        """Begin to read the file that comes after one on the tape."""
        following = view.tables[TABLES[kind]].index.after(file)
        if following is not None:
            self._ahead.submit(self.get, lake, view, kind, following)

    def _keep(self, made: Placed | None) -> None:
        with self._lock:
            self._bytes += _size(made)
            while self._bytes > self._max_bytes and len(self._files) > 1:
                key = next((key for key, future in self._files.items() if future.done()), None)
                if key is None:
                    return
                self._bytes -= _size(self._files.pop(key).result())


class Past:
    """The entries of one tape in the lake.

    Parameters
    ----------
    lake
        The lake of the dataset.
    cache
        Where files are kept.
    dataset
        The dataset, for errors.
    """

    def __init__(self, lake: Lake, cache: FileCache, dataset: str) -> None:
        self._lake = lake
        self._cache = cache
        self._dataset = dataset

    async def bounds(self) -> tuple[int, int]:
        """Return the sequence numbers of the oldest and the newest entry; the oldest is above where there are none.

        Raises
        ------
        MarketDataError
            ARCHIVE_UNAVAILABLE, as all methods may.
        """
        return await self._run(self._bounds)

    async def after(self, sequence: int, until: int) -> list[ReadEntry]:
        """Return the next entries after a place, up to another, joined; none if the lake has them not."""
        return await self._run(self._after, sequence, until)

    async def mark(self, sequence: int) -> int:
        """Return the mark of an entry; 0 where it is not there."""
        return await self._run(self._mark, sequence)

    async def place_at(self, time_ns: int) -> int | None:
        """Return the place before the first entry that the tape took at or after a time; None if none is there."""
        return await self._run(self._place_at, time_ns)

    async def _run(self, work: Any, *args: object) -> Any:
        try:
            return await asyncio.to_thread(work, *args)
        except LakeError as error:
            raise archive_unavailable(self._dataset, str(error)) from error

    def _bounds(self) -> tuple[int, int]:
        view = self._lake.view()
        return view.first, view.archived

    def _mark(self, sequence: int) -> int:
        found = self._lake.entries(self._lake.view(), sequence, sequence)
        return int(found.column("mark")[0].as_py()) if found.num_rows else 0

    def _place_at(self, time_ns: int) -> int | None:
        found = self._lake.first_since(self._lake.view(), time_ns)
        return None if found is None else found - 1

    def _after(self, sequence: int, until: int) -> list[ReadEntry]:
        view = self._lake.view()
        if view.archived <= sequence:
            view = self._lake.view(fresh=True)
        until = min(until, view.archived, sequence + _PAGE_ENTRIES)
        entries = self._lake.entries(view, sequence + 1, until)
        if not entries.num_rows:
            return []
        cuts = _cuts(entries.column("rows").to_numpy(), [gaps.is_valid for gaps in entries.column("gaps")])
        last = int(entries.column("tape_sequence")[cuts[-1] - 1].as_py())
        rows = {kind: self._stretch(view, kind, sequence + 1, last) for kind in Kind}
        facts = entries.slice(0, cuts[-1]).to_pylist()
        return [_joined(facts[start:end], rows) for start, end in zip([0, *cuts], cuts, strict=False)]

    def _stretch(self, view: View, kind: Kind, first: int, last: int) -> Placed | None:
        files = view.files(TABLES[kind], view.of_epoch(first, last))
        if files:
            self._cache.read_ahead(self._lake, view, kind, files[-1])
        found = [self._cache.get(self._lake, view, kind, file) for file in files]
        return in_tape_order([_between(placed, first, last) for placed in found if placed is not None])


def _cuts(rows: NDArray[np.int32], gaps: Sequence[bool]) -> list[int]:
    """Return where chunks of entries end: a page of them, each of few rows; one with gaps begins a chunk."""
    cuts: list[int] = []
    total = 0
    for place, count in enumerate(rows.tolist()):
        begun = place > (cuts[-1] if cuts else 0)
        if begun and (gaps[place] or total + count > _CHUNK_ROWS):
            cuts.append(place)
            total = 0
            if len(cuts) == _PAGE_CHUNKS:
                return cuts
        total += count
    return [*cuts, len(rows)]


def _joined(entries: Sequence[dict[str, Any]], rows: dict[Kind, Placed | None]) -> ReadEntry:
    first, last = entries[0]["tape_sequence"], entries[-1]["tape_sequence"]
    parts = [_between(placed, first, last) for placed in rows.values() if placed is not None]
    payload = encode_payload(_interleaved([part for part in parts if part.batch.rows]))
    gaps, _ = split_payload(entries[0]["gaps"] or b"")
    return ReadEntry(last, payload, entries[-1]["time_ns"], entries[-1]["mark"], gaps)


def _interleaved(parts: Sequence[Placed]) -> Iterator[Batch]:
    """Yield the rows of several kinds in the order of the tape."""
    if len(parts) < 2:
        yield from (piece for part in parts for piece in _pieces(part.batch, 0, part.batch.rows))
        return
    base = min(int(part.sequence[0]) for part in parts)
    keys = [tape_keys(part, base) for part in parts]
    owner = np.repeat(np.arange(len(parts)), [len(key) for key in keys])
    owner = owner[np.argsort(np.concatenate(keys), kind="stable")]
    ends = np.append(np.flatnonzero(owner[1:] != owner[:-1]) + 1, len(owner)).tolist()
    taken = [0] * len(parts)
    start = 0
    for end in ends:
        part = int(owner[start])
        yield from _pieces(parts[part].batch, taken[part], taken[part] + end - start)
        taken[part] += end - start
        start = end


def _pieces(batch: Batch, start: int, end: int) -> Iterator[Batch]:
    for at in range(start, end, MAX_ROWS):
        yield batch.slice(at, min(at + MAX_ROWS, end))


def _between(placed: Placed, first: int, last: int) -> Placed:
    """Return the rows of a stretch, of rows in the order of the tape, without a copy."""
    start, stop = np.searchsorted(placed.sequence, [first, last + 1]).tolist()
    batch = placed.batch.slice(start, stop)
    return Placed(batch, placed.epoch, placed.sequence[start:stop], placed.row[start:stop])


def _size(placed: Placed | None) -> int:
    if placed is None:
        return 0
    columns = sum(values.nbytes for values in placed.batch.columns.values())
    return columns + placed.sequence.nbytes + placed.row.nbytes
