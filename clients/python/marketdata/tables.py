"""Tables: what can be given as an Arrow table, a Polars frame or a pandas frame.

The libraries are extras of this package, and are imported once they are needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Prices = Literal["float", "decimal", "units"]
"""How prices and sizes are given.

`float`
    float64, in whole units: 5529.25. Right to about 15 digits. NaN or null where there is none.
`decimal`
    Exact decimals with nine places.
`units`
    int64 in units of 1e-9, as on the wire: 5529250000000. Not copied.
"""

_EXTRAS: Final = {"pyarrow": "arrow", "polars": "polars", "pandas": "pandas"}
PLACES: Final = 9
"""Decimal places of prices and sizes."""


def library(name: str) -> Any:
    """Return an optional library.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = _EXTRAS[name]
        raise ImportError(f'{name} is not installed: pip install "marketdata-client[{extra}]"') from error


class Table:
    """What can be given as a table of any of the three libraries."""

    __slots__ = ()

    def to_arrow(self, *, prices: Prices = "float", symbols: Mapping[int, str] | None = None) -> pyarrow.Table:
        """Return the rows as an Arrow table. Columns are not copied but where it says so.

        Parameters
        ----------
        prices
            How prices and sizes are given: `float` in whole units, `decimal`, or `units` of
            1e-9 as int64, which alone are not copied.
        symbols
            The symbol of each instrument id, such as `Subscriber.symbols` or
            `Client.symbols()`: adds the column `symbol`, dictionary-encoded.

        Returns
        -------
        pyarrow.Table
            Times are `timestamp[ns, UTC]`. What is not there is null.

        Raises
        ------
        ImportError
            If pyarrow is not installed.
        """
        raise NotImplementedError

    def to_polars(self, *, prices: Prices = "float", symbols: Mapping[int, str] | None = None) -> polars.DataFrame:
        """Return the rows as a Polars frame; otherwise as `to_arrow`."""
        return polars_of(self.to_arrow(prices=prices, symbols=symbols))

    def to_pandas(self, *, prices: Prices = "float", symbols: Mapping[int, str] | None = None) -> pandas.DataFrame:
        """Return the rows as a pandas frame; otherwise as `to_arrow`.

        Integers that may not be there are of pandas' nullable types: a float64 would round them.
        """
        return pandas_of(self.to_arrow(prices=prices, symbols=symbols))


def polars_of(table: pyarrow.Table) -> polars.DataFrame:
    """Return an Arrow table as a Polars frame."""
    return library("polars").from_arrow(table)


def pandas_of(table: pyarrow.Table) -> pandas.DataFrame:
    """Return an Arrow table as a pandas frame, with nullable integers."""
    pd, pa = library("pandas"), library("pyarrow")
    nullable = {pa.int64(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype()}
    return table.to_pandas(types_mapper=nullable.get)


def array_of(values: NDArray[Any], kind: Any, absent: NDArray[np.bool_] | None = None) -> Any:
    """Return an array's own memory as an Arrow array; null where it says so."""
    pa = library("pyarrow")
    there = None if absent is None else pa.py_buffer(np.packbits(~absent, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [there, pa.py_buffer(np.ascontiguousarray(values))])
