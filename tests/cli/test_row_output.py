"""Tables of rows, on terminals of any width."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from marketdata.query.v1.query_service_pb2 import Dataset, TradeWithQuote
from marketdata.v1.bar_pb2 import Bar
from marketdata.v1.batch_pb2 import Kind
from marketdata.v1.gap_pb2 import Gap
from marketdata.v1.quote_pb2 import Quote
from marketdata.v1.trade_pb2 import Trade
from marketdata.v1.verdict_pb2 import Verdict
from mda.cli import row_output
from mda.cli.options import Output
from mda.cli.row_output import BARS, DATASETS, GAPS, QUOTES, TRADES, TRADES_WITH_QUOTES, Form, RowPrinter, print_rows

AT: Final = Timestamp(seconds=1_782_912_600, nanos=123_456_789)
QUOTE: Final = Quote(
    symbol="ECHO/USD", event_time=AT, bid_price="64088.95", bid_size="0.207", ask_price="64089.25", ask_size="1.112"
)
TRADE: Final = Trade(symbol="ECHO/USD", event_time=AT, price="64088.95", size="0.207", side="SIDE_SELL")
ODD_TRADE: Final = Trade(
    symbol="ECHO/USD", event_time=AT, price="64088.95", action="TRADE_ACTION_CANCEL", refers_to=1 << 60, side="SIDE_BUY"
)
BAR: Final = Bar(
    symbol="ECHO/USD",
    start_time=Timestamp(seconds=AT.seconds),
    **dict.fromkeys(("open", "high", "low", "close"), "64088.95"),
    volume="1234.5",
    count=250,
    vwap="64088.123456789",
    state=Bar.STATE_FINAL,
)
GAP: Final = Gap(producer="sim", first_sequence=10_000_000, last_sequence=10_000_009, open_time=AT, close_time=AT)
DATASET: Final = Dataset(
    name="CRYPTO.X", instruments=6, kinds=[Dataset.KindRange(kind=Kind.KIND_QUOTE, rows=9, start_time=AT, end_time=AT)]
)
ROWS: Final[list[tuple[Form, Message, list[str]]]] = [
    (QUOTES, QUOTE, ["ECHO/USD", "64088.95", "0.207", "64089.25", "1.112", "2026-07-01T13:30:00.123456789Z"]),
    (TRADES, TRADE, ["ECHO/USD", "64088.95", "0.207", "sell", "2026-07-01T13:30:00.123456789Z"]),
    (TRADES, ODD_TRADE, ["64088.95", "cancel", "2026-07-01T13:30:00.123456789Z"]),
    (TRADES_WITH_QUOTES, TradeWithQuote(trade=TRADE, quote=QUOTE), ["64088.95", "64089.25", "0.207"]),
    (BARS, BAR, ["ECHO/USD", "64088.95", "1234.5", "2026-07-01T13:30:00Z"]),
    (GAPS, GAP, ["sim", "10000000", "10000009", "2026-07-01", "13:30:00.123456789Z"]),
    (DATASETS, DATASET, ["CRYPTO.X", "quote", "2026-07-01", "13:30:00.123456789Z"]),
]


def _on_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(row_output, "_console", lambda: Console(highlight=False, width=width))


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize(("form", "row", "cells"), ROWS)
def test_no_cell_is_cut_and_no_line_is_too_wide(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: Form,
    row: Message,
    cells: list[str],
    width: int,
) -> None:
    _on_terminal(monkeypatch, width)
    print_rows(form, [row], Output.TABLE)
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    assert [cell for cell in cells if cell not in shown] == []


def test_what_is_left_out_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _on_terminal(monkeypatch, 80)
    print_rows(BARS, [BAR], Output.TABLE)
    assert capsys.readouterr().err == "too narrow for all: count, vwap, state left out. --output csv has all.\n"
    print_rows(TRADES, [TRADE], Output.TABLE)  # what is empty is not missed
    assert capsys.readouterr().err == ""


def test_what_nothing_can_make_narrow_is_left_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _on_terminal(monkeypatch, 40)
    flagged = Quote(verdicts=[Verdict.VERDICT_OUTLIER, Verdict.VERDICT_STALE])
    flagged.MergeFrom(QUOTE)
    print_rows(QUOTES, [flagged], Output.TABLE)
    shown = capsys.readouterr().out
    assert "64089.25" in shown
    assert "outlier|stale" in shown
    assert "…" not in shown


@pytest.mark.parametrize(("width", "names"), [(80, 7), (120, 11), (200, 12)])
def test_bars_that_come_one_by_one_fit_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, names: int
) -> None:
    _on_terminal(monkeypatch, width)
    RowPrinter(BARS, Output.TABLE).print([BAR])
    header, line = capsys.readouterr().out.splitlines()
    assert max(len(header), len(line)) <= width
    assert len(header.replace("start time", "start").replace("in gap", "gap").split()) == names
    assert line.split()[:2] == ["2026-07-01T13:30:00Z", "ECHO/USD"]


def test_bars_that_come_one_by_one_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    RowPrinter(BARS, Output.JSON).print([BAR, BAR])
    told: list[Any] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [bar["volume"] for bar in told] == ["1234.5", "1234.5"]
