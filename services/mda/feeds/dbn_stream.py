"""Reads a stream of DBN records, in whatever pieces it comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import databento_dbn
import numpy as np
from numpy.typing import NDArray

from mda.feeds.dbn import DTYPES
from mda.feeds.source import SourceError

_PRELUDE_BYTES: Final = 8
_HEADER_BYTES: Final = 16
_LENGTH_UNIT: Final = 4
_MOST_METADATA: Final = 1 << 24
_SCHEMAS: Final = {0: "trades", 1: "mbp-1"}
"""By record type: `mbp-0`, which trades are, and `mbp-1`."""

Records = tuple[str, NDArray[Any]]
"""A schema, and records of its type in `DTYPES`."""


class DbnStream:
    """Takes bytes, and gives records: rows as arrays, others as objects of `databento_dbn`."""

    def __init__(self) -> None:
        self._buffer = b""
        self._decoder = databento_dbn.DBNDecoder()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[Records | Any]:
        """Yield what has become whole: first of all the metadata, then records in their order.

        Neighbours of one type are one array. Types of no interest here are left out.

        Raises
        ------
        SourceError
            If the bytes are no DBN.
        """
        self._buffer += data
        if not self._begun:
            end = self._metadata_end()
            if end is None:
                return
            yield from self._decoded(self._buffer[:end])
            self._buffer = self._buffer[end:]
            self._begun = True
        at = 0
        while (size := self._size_at(at)) and at + size <= len(self._buffer):
            kind = self._buffer[at + 1]
            schema = _SCHEMAS.get(kind)
            if schema is None:
                yield from self._decoded(self._buffer[at : at + size])
                at += size
                continue
            dtype = DTYPES[schema]
            if size != dtype.itemsize:
                raise SourceError(f"a record of type {kind} has {size} bytes, not {dtype.itemsize}")
            records = np.frombuffer(self._buffer, dtype, (len(self._buffer) - at) // size, at)
            others = np.flatnonzero((records["rtype"] != kind) | (records["length"] != size // _LENGTH_UNIT))
            run = records[: others[0]] if len(others) else records
            yield schema, run
            at += run.nbytes
        self._buffer = self._buffer[at:]

    def _metadata_end(self) -> int | None:
        """Return where the metadata ends; None where it is not whole yet."""
        if len(self._buffer) < _PRELUDE_BYTES:
            return None
        size = int.from_bytes(self._buffer[4:_PRELUDE_BYTES], "little")
        if not self._buffer.startswith(b"DBN") or size > _MOST_METADATA:
            raise SourceError(f"the stream does not begin as DBN: {self._buffer[:_PRELUDE_BYTES]!r}")
        return _PRELUDE_BYTES + size if len(self._buffer) >= _PRELUDE_BYTES + size else None

    def _size_at(self, at: int) -> int:
        """Return the size of the record at a place; 0 where there is none."""
        if at >= len(self._buffer):
            return 0
        size = self._buffer[at] * _LENGTH_UNIT
        if size < _HEADER_BYTES:
            raise SourceError(f"a record of {size} bytes is none")
        return size

    def _decoded(self, data: bytes) -> Iterator[Any]:
        try:
            self._decoder.write(data)
            yield from self._decoder.decode()
        except databento_dbn.DBNError as error:
            raise SourceError(f"a record cannot be read: {error}") from error
