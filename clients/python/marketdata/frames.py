"""Batches as tables: Arrow, Polars, pandas.

>>> from marketdata.columns import Kind, make_batch
>>> batch = make_batch(Kind.TRADE, {"instrument_id": [1], "ts_event": [0], "price": [5_529_250_000_000]})
>>> batch.to_polars(symbols={1: "ESU4"}).select("symbol", "price").rows()
[('ESU4', 5529.25)]
>>> batch.to_arrow(prices="units")["price"].to_pylist()
[5529250000000]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import ABSENT, COLUMNS, NANOS, PRICES, SIZES, Batch, Column, Kind, concatenate
from marketdata.tables import PLACES, Prices, array_of, library, pandas_of, polars_of

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

_SCALED: Final = PRICES | SIZES
_TIMES: Final = frozenset({"ts_event", "ts_recv"})
_WORDS: Final = {"side": ("unknown", "buy", "sell"), "action": ("trade", "cancel", "correct")}
"""Columns whose values have names: those of `Side` and `TradeAction`."""
_FORMS: Final = ("float", "decimal", "units")
_DIGITS: Final = 19
"""Decimal digits of an int64."""
_CHUNK_ROWS: Final = 8192
"""Smaller batches are joined, by a copy: a chunk costs as much as that by itself."""


def to_arrow(
    batches: Sequence[Batch],
    *,
    kind: Kind | None = None,
    prices: Prices = "float",
    symbols: Mapping[int, str] | None = None,
) -> pyarrow.Table:
    """Return batches of one kind as an Arrow table.

    Parameters
    ----------
    batches
        The batches.
    kind
        Their kind; None where there is at least one, which tells it.
    prices, symbols
        As in `Batch.to_arrow`.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    ValueError
        If they are of several kinds, or there is none and no kind is given.
    """
    kinds = {batch.kind for batch in batches} | (set() if kind is None else {kind})
    if len(kinds) != 1:
        told = " and ".join(sorted(found.name for found in kinds)) or "no kind"
        raise ValueError(f"a table has rows of one kind, and these are of {told}: choose one with kinds=[…]")
    one = kinds.pop()
    pa = library("pyarrow")
    names = None if symbols is None else _symbols_of(symbols)
    chunks = [_chunk(batch, prices, names) for batch in _joined(batches)]
    schema = _chunk(_empty(one), prices, names).schema
    return pa.Table.from_batches(chunks, schema=schema)


def to_polars(
    batches: Sequence[Batch],
    *,
    kind: Kind | None = None,
    prices: Prices = "float",
    symbols: Mapping[int, str] | None = None,
) -> polars.DataFrame:
    """Return batches of one kind as a Polars frame; otherwise as `to_arrow`."""
    return polars_of(to_arrow(batches, kind=kind, prices=prices, symbols=symbols))


def to_pandas(
    batches: Sequence[Batch],
    *,
    kind: Kind | None = None,
    prices: Prices = "float",
    symbols: Mapping[int, str] | None = None,
) -> pandas.DataFrame:
    """Return batches of one kind as a pandas frame; otherwise as `to_arrow`."""
    return pandas_of(to_arrow(batches, kind=kind, prices=prices, symbols=symbols))


def _joined(batches: Sequence[Batch]) -> Iterator[Batch]:
    waiting: list[Batch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.rows
        if rows >= _CHUNK_ROWS:
            yield concatenate(waiting)
            waiting, rows = [], 0
    if waiting:
        yield concatenate(waiting)


def _empty(kind: Kind) -> Batch:
    return Batch(kind, 0, {column.name: np.empty(0, column.dtype) for column in COLUMNS[kind]})


@dataclass(frozen=True, slots=True)
class _Symbols:
    """Symbols in such an order that an id is its symbol's place: ids are the indices, and are not copied."""

    names: Any
    known: NDArray[np.bool_]


def _symbols_of(symbols: Mapping[int, str]) -> _Symbols:
    numbers = range(max(symbols, default=0) + 1)
    names = library("pyarrow").array([symbols.get(number, "") for number in numbers])
    return _Symbols(names, np.array([number in symbols for number in numbers]))


def _chunk(batch: Batch, prices: Prices, symbols: _Symbols | None) -> Any:
    pa = library("pyarrow")
    arrays = {column.name: _array(batch, column, prices) for column in COLUMNS[batch.kind]}
    if symbols is not None:
        arrays = {"symbol": _symbols(batch["instrument_id"], symbols), **arrays}
    return pa.RecordBatch.from_arrays([*arrays.values()], names=[*arrays])


def _symbols(ids: NDArray[np.uint32], symbols: _Symbols) -> Any:
    pa = library("pyarrow")
    unknown = ~symbols.known.take(ids, mode="clip") | (ids >= len(symbols.names))
    return pa.DictionaryArray.from_arrays(array_of(ids, pa.uint32(), unknown if unknown.any() else None), symbols.names)


def _array(batch: Batch, column: Column, prices: Prices) -> Any:
    pa = library("pyarrow")
    values = batch[column.name]
    if column.name in _WORDS:
        return _words(values, _WORDS[column.name])
    absent = None
    if column.dtype.itemsize == np.dtype(np.int64).itemsize:
        absent = values == ABSENT
        absent = absent if absent.any() else None
    if column.name in _SCALED:
        return _units(values, prices, absent)
    kind = pa.timestamp("ns", "UTC") if column.name in _TIMES else pa.from_numpy_dtype(column.dtype)
    return array_of(values, kind, absent)


def _words(values: NDArray[np.uint32], words: tuple[str, ...]) -> Any:
    pa = library("pyarrow")
    unknown = values >= len(words)
    indices = array_of(values, pa.uint32(), unknown if unknown.any() else None)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words))


def _units(values: NDArray[np.int64], prices: Prices, absent: NDArray[np.bool_] | None) -> Any:
    """Return int64 in units of 1e-9 as an Arrow array.

    Parameters
    ----------
    values
        The units.
    prices
        The form to give them in.
    absent
        Which are not there; None if all are.

    Raises
    ------
    ValueError
        If there is no such form.
    """
    pa = library("pyarrow")
    if prices not in _FORMS:
        raise ValueError(f"prices={prices!r} is none of {', '.join(_FORMS)}")
    if prices == "float":
        return array_of(values / NANOS, pa.float64(), absent)
    if prices == "units":
        return array_of(values, pa.int64(), absent)
    wide = np.empty((len(values), 2), np.int64)
    wide[:, 0] = values
    np.right_shift(values, 63, out=wide[:, 1])  # the sign
    return array_of(wide, pa.decimal128(_DIGITS, PLACES), absent)
