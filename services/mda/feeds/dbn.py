"""Reads Databento Binary Encoding files (`.dbn`, `.dbn.zst`): definitions, mbp-1, trades and ohlcv."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import databento_dbn
import numpy as np
import zstandard
from numpy.typing import NDArray

from marketdata.columns import ABSENT, NANOS, Batch, Kind, make_batch
from marketdata.v1.batch_pb2 import Side
from marketdata.v1.instrument_pb2 import Instrument

ROWS_AT_ONCE: Final = 10_000
"""Rows of a batch. Part of a file's identity as a producer: the same file gives the same batches."""

_PRELUDE_BYTES: Final = 8
_LENGTH_UNIT: Final = 4
_CHUNK_BYTES: Final = 1 << 16
_UNDEFINED_TIME: Final = np.iinfo(np.uint64).max
_SPREADS: Final = frozenset("SMT")  # future spread, mixed spread, option spread

# The records as they lie in the file, little-endian without padding. The two layouts
# are the same in all versions of the encoding.
_HEADER: Final = [("length", "u1"), ("rtype", "u1"), ("publisher_id", "<u2"), ("instrument_id", "<u4")]
_TRADE: Final = [
    *_HEADER,
    ("ts_event", "<u8"),
    ("price", "<i8"),
    ("size", "<u4"),
    ("action", "S1"),
    ("side", "S1"),
    ("flags", "u1"),
    ("depth", "u1"),
    ("ts_recv", "<u8"),
    ("ts_in_delta", "<i4"),
    ("sequence", "<u4"),
]
_LEVEL: Final = [
    ("bid_price", "<i8"),
    ("ask_price", "<i8"),
    ("bid_size", "<u4"),
    ("ask_size", "<u4"),
    ("bid_count", "<u4"),
    ("ask_count", "<u4"),
]
_OHLCV: Final = [
    *_HEADER,
    ("ts_event", "<u8"),
    *((name, "<i8") for name in ("open", "high", "low", "close")),
    ("volume", "<u8"),
]
_INTERVALS_S: Final = {"ohlcv-1s": 1, "ohlcv-1m": 60, "ohlcv-1h": 3_600, "ohlcv-1d": 86_400}
DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "trades": np.dtype(_TRADE),
    "mbp-1": np.dtype([*_TRADE, *_LEVEL]),
    **dict.fromkeys(_INTERVALS_S, np.dtype(_OHLCV)),
}
"""The records of each schema that we have rows for."""
KINDS: Final[Mapping[str, Kind]] = {
    "mbp-1": Kind.QUOTE,
    "trades": Kind.TRADE,
    **dict.fromkeys(_INTERVALS_S, Kind.BAR),
}
"""What they are."""


class FileError(ValueError):
    """A file that cannot be read. The message says why."""


@dataclass(frozen=True, slots=True)
class DbnFile:
    """A file, with its metadata read.

    Attributes
    ----------
    path
        Where it is.
    dataset, schema
        What it holds.
    symbols
        The symbol of each of its instrument ids.
    """

    path: Path
    dataset: str
    schema: str
    symbols: Mapping[int, str]

    @property
    def producer(self) -> str:
        """The producer's name for the file: the same content gives the same name."""
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"dbn-{digest[:32]}"

    @property
    def kind(self) -> Kind | None:
        """The kind of its rows; None where it holds definitions."""
        return KINDS.get(self.schema)

    def instruments(self) -> list[Instrument]:
        """Return the definitions in the file; later ones of a symbol win."""
        decoder = databento_dbn.DBNDecoder()
        with _reading(self.path) as file:
            decoder.write(file.read())
            records = decoder.decode()
        if decoder.buffer():
            raise FileError(f"{self.path} ends in the middle of a record. Is it whole?")
        definitions = (record for record in records if isinstance(record, databento_dbn.InstrumentDefMsg))
        found = {definition.raw_symbol: instrument_of(definition) for definition in definitions}
        return list(found.values())

    def batches(self, ids: Mapping[str, int], on_read: Callable[[int], object] = int) -> Iterator[Batch]:
        """Yield the rows of the file, in its order.

        Parameters
        ----------
        ids
            The dataset's id of each symbol of the file.
        on_read
            Called with how many bytes of the file have been read.
        """
        dtype = DTYPES[self.schema]
        lookup = make_lookup(self.symbols, ids)
        with _reading(self.path) as file:
            _read_metadata(file)
            while data := _read_exactly(file, ROWS_AT_ONCE * dtype.itemsize):
                if len(data) % dtype.itemsize:
                    raise FileError(f"{self.path} ends in the middle of a record. Is it whole?")
                records = np.frombuffer(data, dtype)
                if (records["length"] != dtype.itemsize // _LENGTH_UNIT).any():
                    raise FileError(f"{self.path} has records that are not of its schema, {self.schema}.")
                on_read(_position(file))
                ids_of_rows = find_ids(records, lookup)
                if not ids_of_rows.all():
                    raise FileError(f"{self.path} has rows of an instrument that its metadata does not name.")
                yield batch_of(records, self.schema, ids_of_rows)


def batch_of(records: NDArray[Any], schema: str, ids: NDArray[np.uint32]) -> Batch:
    """Return records as a batch.

    Parameters
    ----------
    records
        Of the schema's type in `DTYPES`.
    schema
        What they are: one of `KINDS`.
    ids
        The dataset's instrument id of each.
    """
    columns: dict[str, Any] = {"instrument_id": ids, "ts_event": records["ts_event"].astype(np.int64)}
    if schema in _INTERVALS_S:
        columns |= {name: records[name] for name in ("open", "high", "low", "close")}
        columns["volume"] = _sizes(records["volume"])
        columns["interval_ns"] = np.full(len(records), _INTERVALS_S[schema] * NANOS)
        return make_batch(Kind.BAR, columns)
    columns |= {
        "ts_recv": np.where(records["ts_recv"] == _UNDEFINED_TIME, ABSENT, records["ts_recv"]).astype(np.int64),
        "sequence": records["sequence"],
    }
    if schema == "trades":
        sides = records["side"]
        columns |= {
            "price": records["price"],
            "size": _sizes(records["size"]),
            "side": np.where(sides == b"B", Side.SIDE_BUY, np.where(sides == b"A", Side.SIDE_SELL, 0)),
        }
        return make_batch(Kind.TRADE, columns)
    columns |= {name: records[name] for name in ("bid_price", "ask_price")}
    columns |= {name: _sizes(records[name]) for name in ("bid_size", "ask_size")}
    return make_batch(Kind.QUOTE, columns)


Lookup = tuple[NDArray[np.uint32], NDArray[np.uint32]]
"""A source's instrument ids, sorted, and the dataset's id of each."""


def find_ids(records: NDArray[Any], lookup: Lookup) -> NDArray[np.uint32]:
    """Return the dataset's id of each record's instrument; 0 where the lookup has none."""
    known, ids = lookup
    if not len(known):
        return np.zeros(len(records), np.uint32)
    places = np.minimum(np.searchsorted(known, records["instrument_id"]), len(known) - 1)
    return np.where(known[places] == records["instrument_id"], ids[places], 0).astype(np.uint32)


def make_lookup(symbols: Mapping[int, str], ids: Mapping[str, int]) -> Lookup:
    """Return the lookup of a source's instrument ids by their symbols."""
    known = np.array(sorted(symbols), dtype=np.uint32)
    return known, np.array([ids[symbols[int(number)]] for number in known], dtype=np.uint32)


def open_dbn(path: Path) -> DbnFile:
    """Read a file's metadata.

    Raises
    ------
    FileError
        If it is no such file, or of a schema that we have no rows for.
    """
    try:
        with _open(path) as file:
            metadata = databento_dbn.Metadata.decode(_read_metadata(file))
    except (OSError, databento_dbn.DBNError, zstandard.ZstdError) as error:
        raise FileError(f"{path} is not a DBN file: {error}") from error
    schema = str(metadata.schema)
    if schema != "definition" and schema not in DTYPES:
        raise FileError(f"{path} has the schema {schema}. There are rows for definition, mbp-1 and trades.")
    if str(metadata.stype_out) != "instrument_id":
        raise FileError(f"{path} maps its symbols to {metadata.stype_out}, not to instrument ids.")
    return DbnFile(path, metadata.dataset, schema, _symbols(metadata))


def _symbols(metadata: databento_dbn.Metadata) -> dict[int, str]:
    return {
        int(interval["symbol"]): symbol
        for symbol, intervals in metadata.mappings.items()
        for interval in intervals
        if interval["symbol"]
    }


def instrument_of(definition: databento_dbn.InstrumentDefMsg) -> Instrument:
    """Return what a definition says."""
    tick = definition.min_price_increment
    return Instrument(
        symbol=definition.raw_symbol,
        tick_size_nanos=tick if 0 < tick < ABSENT else 0,
        negative_prices=str(definition.instrument_class) in _SPREADS,
        description=f"{definition.exchange} {definition.security_type} {definition.asset}".strip(),
    )


def _sizes(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return whole sizes as ours; those that are not there, or too large for units of 1e-9, are absent."""
    most = min(np.iinfo(values.dtype).max - 1, ABSENT // NANOS)
    return np.where(values > most, ABSENT, values.astype(np.int64) * NANOS)


def _open(path: Path) -> IO[bytes]:
    file = path.open("rb")
    if path.suffix == ".zst":
        return io.BufferedReader(_Frames(file), _CHUNK_BYTES)
    return file


@contextmanager
def _reading(path: Path) -> Generator[IO[bytes]]:
    try:
        with _open(path) as file:
            yield file
    except (OSError, databento_dbn.DBNError, zstandard.ZstdError) as error:
        raise FileError(f"{path} cannot be read: {error}. Is it whole?") from error


class _Frames(io.RawIOBase):
    """What a file's zstd frames hold. A frame that breaks off is an error, where the library's reader just ends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame: Any = None
        self._packed = b""
        self._plain = b""

    @property
    def position(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._plain:
            packed = self._packed or self._file.read(_CHUNK_BYTES)
            if not packed:
                if self._frame is not None:
                    raise OSError("it ends in the middle of a zstd frame")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._plain = self._frame.decompress(packed)
            self._packed = self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        size = min(len(buffer), len(self._plain))
        buffer[:size] = self._plain[:size]
        self._plain = self._plain[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


def _position(file: Any) -> int:
    """Return how much of a file has been read, in its own bytes."""
    frames = getattr(file, "raw", None)
    return frames.position if isinstance(frames, _Frames) else file.tell()


def _read_metadata(file: IO[bytes]) -> bytes:
    prelude = file.read(_PRELUDE_BYTES)
    if len(prelude) < _PRELUDE_BYTES or not prelude.startswith(b"DBN"):
        raise OSError("it does not begin as one")
    return prelude + file.read(int.from_bytes(prelude[4:], "little"))


def _read_exactly(file: IO[bytes], size: int) -> bytes:
    parts: list[bytes] = []
    while size and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
