"""Which columns of a file are which of ours, as told by a mapping file or guessed from their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import pyarrow as pa
import yaml

from marketdata.columns import COLUMNS, FIELDS, Kind

TimeUnit = Literal["ns", "us", "ms", "s", "time", "utc"]
PriceUnit = Literal["whole", "nanos"]

_KINDS: Final = {name: kind for kind, name in FIELDS.items()}
_UNITS: Final = ("ns", "us", "ms", "s", "time", "utc")
_PRICES: Final = ("whole", "nanos")
_NAMES: Final[Mapping[str, str]] = {
    "ts_event": "ts_event event_time exchange_time timestamp datetime time date t ts sip_timestamp",
    "ts_recv": "ts_recv receive_time received recv_time local_timestamp",
    "sequence": "sequence seq sequence_number sequence_no",
    "bid_price": "bid_price bid bidprice bid_px best_bid bp b bid_px_00",
    "bid_size": "bid_size bidsize bid_qty bid_quantity bid_volume bs bid_sz_00 bid_amount",
    "ask_price": "ask_price ask askprice ask_px offer offer_price best_ask ap a ask_px_00",
    "ask_size": "ask_size asksize ask_qty ask_quantity ask_volume offer_size as ask_sz_00 ask_amount",
    "price": "price px last last_price trade_price p",
    "size": "size qty quantity volume amount trade_size s",
    "side": "side aggressor aggressor_side taker_side",
    "interval_ns": "interval_ns",
    "open": "open open_price o",
    "high": "high high_price h",
    "low": "low low_price l",
    "close": "close close_price c",
    "volume": "volume vol v size qty quantity",
    "trade_count": "trade_count trades count transactions n",
}
_SYMBOLS: Final = "symbol ticker instrument sym raw_symbol ric product_id"
# A number of today's, in each unit, is between these: it is some 1.7e9 seconds since the epoch.
_LEAST: Final = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"))


class MappingError(ValueError):
    """A mapping that does not fit. The message says why."""


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """How a file's columns become ours.

    Attributes
    ----------
    kind
        `quotes`, `trades` or `bars`.
    columns
        The file's column for each of ours.
    symbol
        The file's column of symbols; None where there is one instrument.
    only_symbol
        That one instrument's symbol.
    times
        What times are: numbers since the epoch in a unit; `time`, text or the file's own type
        with a time zone; or `utc`, the same without one.
    prices
        What prices and sizes are: `whole`, or whole numbers of 1e-9, `nanos`.
    interval_s
        How long bars are, in seconds; None where a column, `interval_ns`, tells it.
    """

    kind: str
    columns: dict[str, str] = field(default_factory=dict)
    symbol: str | None = None
    only_symbol: str | None = None
    times: TimeUnit = "time"
    prices: PriceUnit = "whole"
    interval_s: int | None = None

    @property
    def rows_kind(self) -> Kind:
        """The kind of the rows."""
        return _KINDS[self.kind]

    def check(self, schema: pa.Schema) -> None:
        """See that the mapping is whole, and that the file has its columns.

        Raises
        ------
        MappingError
            If not.
        """
        if self.kind not in _KINDS:
            raise MappingError(f"kind: {self.kind!r} is none of {', '.join(_KINDS)}.")
        if self.times not in _UNITS or self.prices not in _PRICES:
            raise MappingError(f"times are one of {', '.join(_UNITS)}; prices of {', '.join(_PRICES)}.")
        known = {column.name for column in COLUMNS[self.rows_kind]} - {"instrument_id", "verdicts"}
        needed = {column.name for column in COLUMNS[self.rows_kind] if column.required} - {"instrument_id"}
        if self.interval_s is not None:
            needed -= {"interval_ns"}
        if unknown := set(self.columns) - known:
            raise MappingError(
                f"{self.kind} have no {', '.join(sorted(unknown))}. There are {', '.join(sorted(known))}."
            )
        if missing := needed - set(self.columns):
            raise MappingError(f"nothing is {' or '.join(sorted(missing))}. The file has {', '.join(schema.names)}.")
        if self.symbol is None and self.only_symbol is None:
            raise MappingError("nothing says whose the rows are: symbol, a column, or only_symbol, the symbol of all.")
        if self.symbol is not None and self.only_symbol is not None:
            raise MappingError("symbol, a column, and only_symbol, the symbol of all, exclude each other.")
        there = set(schema.names)
        wanted = {*self.columns.values(), *([self.symbol] if self.symbol else [])}
        if absent := wanted - there:
            raise MappingError(f"the file has no {', '.join(sorted(absent))}. It has {', '.join(schema.names)}.")

    def to_yaml(self) -> str:
        """Return the mapping as a mapping file has it."""
        told = {name: value for name, value in asdict(self).items() if value is not None}
        return yaml.safe_dump(told, sort_keys=False)


def read_mapping(path: Path) -> ColumnMapping:
    """Return the mapping that stands in a file.

    Raises
    ------
    MappingError
        If there is none in it.
    """
    try:
        told: Any = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise MappingError(f"{path} is no mapping file: {error}") from error
    names = [part.name for part in fields(ColumnMapping)]
    if not isinstance(told, dict) or "kind" not in told:
        raise MappingError(f"{path} is no mapping file: it has no kind. It may have {', '.join(names)}.")
    if unknown := {str(name) for name in cast("dict[object, Any]", told)} - set(names):
        raise MappingError(
            f"{path} is no mapping file: there is no {', '.join(sorted(unknown))}. It may have {', '.join(names)}."
        )
    return ColumnMapping(**cast("dict[str, Any]", told))


def guess(schema: pa.Schema, sample: pa.RecordBatch, *, kind: str | None, only_symbol: str | None) -> ColumnMapping:
    """Guess a mapping from the names of columns, and from some rows.

    Parameters
    ----------
    schema, sample
        The columns, and the first rows.
    kind, only_symbol
        What is known already.

    Raises
    ------
    MappingError
        If too little is recognised.
    """
    names = {_plain(name): name for name in reversed(schema.names)}

    def found(aliases: str) -> str | None:
        return next((names[alias] for alias in map(_plain, aliases.split()) if alias in names), None)

    symbol = None if only_symbol else found(_SYMBOLS)
    every = {ours: theirs for ours, aliases in _NAMES.items() if (theirs := found(aliases)) is not None}
    chosen = kind or _kind_of(set(every))
    if chosen not in _KINDS:
        raise MappingError(f"kind: {chosen!r} is none of {', '.join(_KINDS)}.")
    ours = {column.name for column in COLUMNS[_KINDS[chosen]]}
    columns = {name: theirs for name, theirs in every.items() if name in ours}
    mapping = ColumnMapping(
        chosen,
        columns,
        symbol,
        only_symbol,
        _time_unit(sample, columns.get("ts_event")),
        _price_unit(schema, columns.get("price") or columns.get("bid_price") or columns.get("close")),
    )
    if mapping.rows_kind is Kind.BAR and "interval_ns" not in columns:
        mapping = replace(mapping, interval_s=_interval_s(sample, mapping))
    mapping.check(schema)
    return mapping


def _kind_of(ours: set[str]) -> str:
    if {"open", "high", "low", "close"} <= ours:
        return FIELDS[Kind.BAR]
    return FIELDS[Kind.QUOTE if {"bid_price", "ask_price"} & ours else Kind.TRADE]


def _interval_s(sample: pa.RecordBatch, mapping: ColumnMapping) -> int | None:
    """Return the least time from one bar to another, in seconds; None where there are no two."""
    times: Any = sample[mapping.columns["ts_event"]] if "ts_event" in mapping.columns else None
    if times is None or sample.num_rows < 2:
        return None
    per_s = {"ns": 10**9, "us": 10**6, "ms": 10**3, "s": 1}.get(mapping.times)
    if per_s is None:
        aware = mapping.times == "time"
        times, per_s = times.cast(pa.timestamp("ns", "UTC") if aware else pa.timestamp("ns")), 10**9
    steps = np.diff(np.unique(times.cast(pa.int64()).to_numpy(zero_copy_only=False)))
    return int(steps.min()) // per_s or None if len(steps) else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _time_unit(sample: pa.RecordBatch, column: str | None) -> TimeUnit:
    if column is None or sample.num_rows == 0 or not pa.types.is_integer(sample[column].type):
        naive = column is not None and getattr(sample[column].type, "tz", "") is None
        return "utc" if naive else "time"
    value = abs(int(sample[column][0].as_py() or 0))
    for least, unit in _LEAST:
        if value >= least:
            return unit  # pyright: ignore[reportReturnType]
    return "s"


def _price_unit(schema: pa.Schema, column: str | None) -> PriceUnit:
    """Whole numbers may be prices in whole units. Ours say that they are not, as `mda export` writes them."""
    told = (schema.metadata or {}).get(b"unit of prices and sizes")
    return "nanos" if told == b"1e-9" and column and pa.types.is_integer(schema.field(column).type) else "whole"
