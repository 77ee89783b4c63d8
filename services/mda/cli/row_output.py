"""Rows for people, as a table, JSON or CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

from marketdata.v1.bar_pb2 import Bar
from marketdata.v1.gap_pb2 import Gap
from marketdata.v1.quote_pb2 import Quote
from marketdata.v1.trade_pb2 import Trade
from mda.cli.options import Output

_TIME_WIDTH: Final = 30
_CELL_WIDTH: Final = 12
_WIDE: Final = 200
"""How wide a table may be that goes to no terminal."""


@dataclass(frozen=True, slots=True)
class Form:
    """How rows of a sort are printed.

    Attributes
    ----------
    what
        What they are called.
    columns
        All columns: what CSV has.
    shown
        Those of a table.
    """

    what: str
    columns: Sequence[str]
    shown: Sequence[str]


def _form(what: str, message: type[Message], shown: str) -> Form:
    return Form(what, [field.name for field in message.DESCRIPTOR.fields], shown.split())


_OF_DATASETS: Final = ("dataset", "instruments", "kind", "rows", "start_time", "end_time")
QUOTES: Final = _form("quotes", Quote, "event_time symbol bid_size bid_price ask_price ask_size verdicts")
TRADES: Final = _form("trades", Trade, "event_time symbol price size side action refers_to verdicts")
TRADES_WITH_QUOTES: Final = Form(
    "trades",
    [*TRADES.columns, *(f"quote_{name}" for name in QUOTES.columns if name != "symbol")],
    ["event_time", "symbol", "price", "size", "side", "quote_event_time", "quote_bid_price", "quote_ask_price"],
)
BARS: Final = _form("bars", Bar, "start_time symbol open high low close volume count vwap state empty in_gap")
GAPS: Final = _form("gaps", Gap, "state producer cause instrument_id first_sequence last_sequence open_time close_time")
DATASETS: Final = Form("datasets", _OF_DATASETS, _OF_DATASETS)

_PREFIXES: Final = {
    "verdicts": "VERDICT_",
    "side": "SIDE_",
    "action": "TRADE_ACTION_",
    "state": "STATE_",
    "empty": "EMPTY_",
    "kind": "KIND_",
    "cause": "CAUSE_",
}
"""What the names of an enum's values begin with, by field."""


def print_rows(form: Form, messages: Sequence[Message], output: Output) -> None:
    """Print rows on standard output.

    JSON is as over REST. In CSV and tables several verdicts of a row are separated by `|`.
    """
    rows = [MessageToDict(message, preserving_proto_field_name=True) for message in messages]
    if output is Output.JSON:
        typer.echo(json.dumps(rows, indent=2))
        return
    lines = [line for row in rows for line in _lines(form, row)]
    if output is Output.CSV:
        writer = csv.DictWriter(sys.stdout, form.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    else:
        _print_table(form, lines)


class RowPrinter:
    """Prints rows as they come: a line each, JSON as an object a line.

    Parameters
    ----------
    form, output
        As in `print_rows`.
    """

    def __init__(self, form: Form, output: Output) -> None:
        self._form = form
        self._output = output
        self._csv = csv.DictWriter(sys.stdout, form.columns, lineterminator="\n")
        if output is Output.CSV:
            self._csv.writeheader()
        elif output is Output.TABLE:
            typer.echo(_aligned(form, {name: name.replace("_", " ") for name in form.shown}))

    def print(self, messages: Sequence[Message]) -> None:
        """Print rows."""
        for message in messages:
            row = MessageToDict(message, preserving_proto_field_name=True)
            if self._output is Output.JSON:
                typer.echo(json.dumps(row))
            elif self._output is Output.CSV:
                self._csv.writerow(_texts(row))
            else:
                typer.echo(_aligned(self._form, _texts(row)))
        sys.stdout.flush()


def _aligned(form: Form, line: dict[str, str]) -> str:
    cells = (line.get(name, "").rjust(_TIME_WIDTH if name.endswith("_time") else _CELL_WIDTH) for name in form.shown)
    return " ".join(cells)


def _lines(form: Form, row: dict[str, Any]) -> list[dict[str, str]]:
    """Return the lines of a row, each column as text: one, or one for each kind of a dataset."""
    if form is DATASETS:
        common = {"dataset": row["name"], "instruments": row.get("instruments", 0)}
        return [_texts(common | kind) for kind in row.get("kinds", [{}])]
    if form is TRADES_WITH_QUOTES:
        quote = _texts(row.get("quote", {}))
        beside = {f"quote_{name}": text for name, text in quote.items() if name != "symbol"}
        return [_texts(row["trade"]) | beside]
    return [_texts(row)]


def _texts(row: dict[str, Any]) -> dict[str, str]:
    return {name: _text(name, value) for name, value in row.items()}


def _text(name: str, value: Any) -> str:
    values: list[Any] = value if isinstance(value, list) else [value]
    if name in _PREFIXES:
        values = [str(word).removeprefix(_PREFIXES[name]).lower() for word in values]
    return "|".join(map(str, values))


def _print_table(form: Form, lines: Sequence[dict[str, str]]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDE)
    table = Table()
    for name in form.shown:
        words = name in _PREFIXES or name in {"symbol", "dataset", "producer"}
        table.add_column(name.replace("_", " "), justify="left" if words else "right", no_wrap=True)
    for line in lines:
        table.add_row(*(line.get(name, "") for name in form.shown))
    console.print(table, markup=False)
