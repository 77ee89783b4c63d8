"""Rows for people, as a table, JSON or CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
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

_TIME_WIDTH: Final = 20
"""Of what comes as it goes, which are bars: they start at whole seconds."""
_CELL_WIDTHS: Final = (12, 9)
"""Of its other columns, on a terminal that is wide enough, and on one that is not."""
_WIDE: Final = 200
"""How wide a table may be that goes to no terminal."""
_ENDLESS: Final = 10_000


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
    spare
        Those of them that are left out where the terminal is too narrow for all: the first first, those of one
        text together.
    """

    what: str
    columns: Sequence[str]
    shown: Sequence[str]
    spare: Sequence[str] = ()

    def fewer(self) -> Iterator[list[str]]:
        """Yield the columns of a table, then fewer and fewer of them."""
        names = list(self.shown)
        yield names
        for gone in self.spare:
            names = [name for name in names if name not in gone.split()]
            yield names


def _form(what: str, message: type[Message], shown: str, *spare: str) -> Form:
    return Form(what, [field.name for field in message.DESCRIPTOR.fields], shown.split(), spare)


_OF_DATASETS: Final = ("dataset", "instruments", "kind", "rows", "start_time", "end_time")
QUOTES: Final = _form(
    "quotes", Quote, "event_time symbol bid_size bid_price ask_price ask_size verdicts", "bid_size ask_size"
)
TRADES: Final = _form(
    "trades", Trade, "event_time symbol price size side action refers_to verdicts", "refers_to", "action"
)
TRADES_WITH_QUOTES: Final = Form(
    "trades",
    [*TRADES.columns, *(f"quote_{name}" for name in QUOTES.columns if name != "symbol")],
    ["event_time", "symbol", "price", "size", "side", "quote_event_time", "quote_bid_price", "quote_ask_price"],
    ["quote_event_time", "side", "size"],
)
BARS: Final = _form(
    "bars",
    Bar,
    "start_time symbol open high low close volume count vwap state empty in_gap",
    "vwap",
    "count",
    "state",
    "empty in_gap",
)
GAPS: Final = _form(
    "gaps",
    Gap,
    "state producer cause instrument_id first_sequence last_sequence open_time close_time",
    "instrument_id",
    "cause",
)
DATASETS: Final = Form("datasets", _OF_DATASETS, _OF_DATASETS, ["instruments"])

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
        self._output = output
        self._shown, self._width = _columns_of_lines(form)
        self._csv = csv.DictWriter(sys.stdout, form.columns, lineterminator="\n")
        if output is Output.CSV:
            self._csv.writeheader()
        elif output is Output.TABLE:
            typer.echo(self._aligned({name: name.replace("_", " ") for name in form.shown}))

    def print(self, messages: Sequence[Message]) -> None:
        """Print rows."""
        for message in messages:
            row = MessageToDict(message, preserving_proto_field_name=True)
            if self._output is Output.JSON:
                typer.echo(json.dumps(row))
            elif self._output is Output.CSV:
                self._csv.writerow(_texts(row))
            else:
                typer.echo(self._aligned(_texts(row)))
        sys.stdout.flush()

    def _aligned(self, line: dict[str, str]) -> str:
        widths = {name: _TIME_WIDTH if name.endswith("_time") else self._width for name in self._shown}
        return " ".join(line.get(name, "").rjust(width) for name, width in widths.items())


def _columns_of_lines(form: Form) -> tuple[list[str], int]:
    """Return the columns of lines that come one by one, and how wide each is: as many as the terminal has room for."""
    console = _console()
    roomy, narrow = _CELL_WIDTHS
    names = list(form.shown)
    if _TIME_WIDTH + (1 + roomy) * (len(names) - 1) <= console.width:
        return names, roomy
    for names in form.fewer():
        if _TIME_WIDTH + (1 + narrow) * (len(names) - 1) <= console.width:
            break
    return names, narrow


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
    console = _console()
    table, names = _fitting(form, lines, console.width)
    # What is wider still is wrapped by the terminal, and not cut.
    console.width = max(console.width, _width(table))
    console.print(table, markup=False)
    empty = {name for name in form.shown if not any(line.get(name) for line in lines)}
    if gone := [name.replace("_", " ") for name in form.shown if name not in {*names, *empty}]:
        typer.echo(f"too narrow for all: {', '.join(gone)} left out. --output csv has all.", err=True)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDE)


def _fitting(form: Form, lines: Sequence[dict[str, str]], width: int) -> tuple[Table, Sequence[str]]:
    """Return a table that is not wider than that, if there is one, and its columns."""
    names: Sequence[str] = form.shown
    table = _table(names, lines)
    if _width(table) <= width:
        return table, names
    for names in form.fewer():
        names = [name for name in names if not lines or any(line.get(name) for line in lines)]
        table = _table(names, lines, compact=True)
        if _width(table) <= width:
            return table, names
    in_two = [
        {name: text.replace("T", "\n") if name.endswith("_time") else text for name, text in line.items()}
        for line in lines
    ]
    return _table(names, in_two, compact=True), names


def _table(names: Sequence[str], lines: Sequence[dict[str, str]], *, compact: bool = False) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False) if compact else Table()
    for name in names:
        words = name in _PREFIXES or name in {"symbol", "dataset", "producer"}
        header = name.replace("_", "\n" if compact else " ")
        table.add_column(header, justify="left" if words else "right", no_wrap=True)
    for line in lines:
        table.add_row(*(line.get(name, "") for name in names))
    return table


def _width(table: Table) -> int:
    return Console(width=_ENDLESS).measure(table).maximum
