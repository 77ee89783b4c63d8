"""Rows for people (`Quote`, `Trade`) to columns, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from google.protobuf.timestamp_pb2 import Timestamp

from marketdata.columns import ABSENT, NANOS, Batch, Kind, make_batch
from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1.bar_pb2 import Bar
from marketdata.v1.batch_pb2 import Side, TradeAction
from marketdata.v1.quote_pb2 import Quote
from marketdata.v1.trade_pb2 import Trade
from marketdata.v1.verdict_pb2 import Verdict
from mda.market.decimals import format_decimal, parse_decimal
from mda.market.errors import MarketDataError, invalid_field, unknown_symbol
from mda.market.instruments import Directory

_DECIMALS: Final = {
    Kind.QUOTE: ("bid_price", "bid_size", "ask_price", "ask_size"),
    Kind.TRADE: ("price", "size"),
}
_OF_TRADES: Final = ("side", "action", "refers_to")
_VERDICTS: Final = [cast("Verdict", value) for value in Verdict.values() if value]


def batch_of_quotes(dataset: str, quotes: Sequence[Quote], directory: Directory) -> Batch:
    """Return quotes as columns.

    Raises
    ------
    MarketDataError
        For the first symbol that the dataset does not have, decimal that is none, or
        time that does not fit; `field` is its path, such as `quotes[3].bid_price`.
    """
    return _batch(Kind.QUOTE, dataset, quotes, directory, "quotes")


def batch_of_trades(dataset: str, trades: Sequence[Trade], directory: Directory) -> Batch:
    """Return trades as columns; otherwise as `batch_of_quotes`."""
    return _batch(Kind.TRADE, dataset, trades, directory, "trades")


def quotes_of_batch(batch: Batch, directory: Directory) -> list[Quote]:
    """Return columns as quotes. Every id must be known."""
    return _rows(batch, directory, Quote)


def trades_of_batch(batch: Batch, directory: Directory) -> list[Trade]:
    """Return columns as trades. Every id must be known."""
    return _rows(batch, directory, Trade)


def bars_of_batch(batch: Batch, directory: Directory) -> list[Bar]:
    """Return a venue's bars as messages. Every id must be known, or 0."""
    columns = {name: batch[name].tolist() for name in batch}
    bars: list[Bar] = []
    for position in range(batch.rows):
        bar = Bar(symbol=directory.symbol(columns["instrument_id"][position]), state=Bar.STATE_FINAL, count=1)
        start_ns = columns["ts_event"][position]
        _set_time(bar.start_time, start_ns)
        _set_time(bar.end_time, start_ns + columns["interval_ns"][position])
        for name in ("open", "high", "low", "close", "volume"):
            if columns[name][position] != ABSENT:
                setattr(bar, name, format_decimal(columns[name][position]))
        bar.verdicts.extend(verdicts_of_bits(columns["verdicts"][position]))
        bars.append(bar)
    return bars


def _batch(kind: Kind, dataset: str, rows: Sequence[Any], directory: Directory, field: str) -> Batch:
    columns: dict[str, list[int]] = {name: [] for name in ("instrument_id", "ts_event", "ts_recv", "sequence")}
    columns |= {name: [] for name in _DECIMALS[kind]}
    if kind is Kind.TRADE:
        columns |= {name: [] for name in _OF_TRADES}
    for position, row in enumerate(rows):
        path = f"{field}[{position}]"
        instrument = directory.find(row.symbol)
        if instrument is None:
            raise unknown_symbol(dataset, row.symbol, f"{path}.symbol")
        columns["instrument_id"].append(instrument.instrument_id)
        columns["ts_event"].append(_nanos(row.event_time, f"{path}.event_time", position))
        receive = row.HasField("receive_time")
        columns["ts_recv"].append(_nanos(row.receive_time, f"{path}.receive_time", position) if receive else ABSENT)
        columns["sequence"].append(row.sequence if row.HasField("sequence") else ABSENT)
        for name in _DECIMALS[kind]:
            columns[name].append(_decimal(row, name, path))
        if kind is Kind.TRADE:
            _add_trade(columns, row, path)
    return make_batch(kind, columns)


def _add_trade(columns: dict[str, list[int]], trade: Trade, path: str) -> None:
    if not trade.price and trade.action != TradeAction.TRADE_ACTION_CANCEL:
        raise invalid_field(f"{path}.price", "required", f"{path}.price: send one; only a cancel goes without.")
    columns["side"].append(trade.side)
    columns["action"].append(trade.action)
    columns["refers_to"].append(trade.refers_to if trade.HasField("refers_to") else ABSENT)


def _decimal(row: Any, name: str, path: str) -> int:
    text: str = getattr(row, name)
    if not text and not (row.DESCRIPTOR.fields_by_name[name].has_presence and row.HasField(name)):
        return ABSENT
    return parse_decimal(text, f"{path}.{name}")


def _nanos(time: Timestamp, field: str, position: int) -> int:
    nanos = time.seconds * NANOS + time.nanos
    if not 0 <= nanos < ABSENT:
        raise MarketDataError(
            reasons.ERROR_REASON_TIME_OUT_OF_RANGE,
            f"{field}: {nanos} ns after 1970-01-01T00:00:00Z is not a time between 1970 and 2262.",
            field=field,
            row=position,
            value=nanos,
        )
    return nanos


def _rows(batch: Batch, directory: Directory, make: Callable[..., Any]) -> list[Any]:
    # tolist() gives Python ints at once; rows are for people, and few.
    columns = {name: batch[name].tolist() for name in batch}
    result: list[Any] = []
    for position in range(batch.rows):
        row = make(symbol=directory.symbol(columns["instrument_id"][position]))
        _set_time(row.event_time, columns["ts_event"][position])
        if columns["ts_recv"][position] != ABSENT:
            _set_time(row.receive_time, columns["ts_recv"][position])
        if columns["sequence"][position] != ABSENT:
            row.sequence = columns["sequence"][position]
        for name in _DECIMALS[batch.kind]:
            if columns[name][position] != ABSENT:
                setattr(row, name, format_decimal(columns[name][position]))
        if batch.kind is Kind.TRADE:
            row.side = _value(Side, columns["side"][position])
            row.action = _value(TradeAction, columns["action"][position])
            if columns["refers_to"][position] != ABSENT:
                row.refers_to = columns["refers_to"][position]
        if columns["verdicts"][position]:
            row.verdicts.extend(verdicts_of_bits(columns["verdicts"][position]))
        result.append(row)
    return result


def _value(enum: Any, value: int) -> Any:
    """Return a column's value as one of an enum; its zero where it is none."""
    return value if value in enum.values() else 0


def verdicts_of_bits(bits: int) -> list[Verdict]:
    """Return the verdicts of a value of the `verdicts` column."""
    return [verdict for verdict in _VERDICTS if bits >> (verdict - 1) & 1]


def _set_time(time: Timestamp, nanos: int) -> None:
    time.seconds, time.nanos = divmod(nanos, NANOS)


def timestamp(nanos: int) -> Timestamp:
    """Return nanoseconds since the epoch as a `Timestamp`."""
    time = Timestamp()
    _set_time(time, nanos)
    return time
