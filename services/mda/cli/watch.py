"""`mda watch`: a live table in the terminal."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from marketdata.client import Client
from marketdata.columns import ABSENT, Batch, Kind
from marketdata.subscriber import Start, Subscriber
from mda.cli.folder import StackError
from mda.cli.options import DataOption, KeyOption, UrlOption, connection
from mda.market.decimals import format_decimal
from mda.market.latest import latest_rows

app = typer.Typer()

_REFRESH_PER_S = 8
_WIDE = 110
"""From how many columns of the terminal on sizes are shown, too."""


@dataclass(slots=True)
class Line:
    """What the table shows of one instrument."""

    bid: int = ABSENT
    bid_size: int = ABSENT
    ask: int = ABSENT
    ask_size: int = ABSENT
    trade: int = ABSENT
    trade_size: int = ABSENT
    rows: int = 0
    time_ns: int = 0


@app.command()
def watch(
    symbols: Annotated[list[str] | None, typer.Argument(help="Symbols; all where none is named.")] = None,
    dataset: Annotated[str, typer.Option("--dataset", "-s", help="The dataset.")] = "SIM",
    seconds: Annotated[float | None, typer.Option(help="Stop after so many seconds.")] = None,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Show quotes and trades as they come. Ctrl-C stops.

    Example: mda watch ALFA ECHO/USD
    """
    address, key = connection(data, url, key_file)
    asyncio.run(_watch(symbols or None, dataset, seconds, address, key))


async def _watch(symbols: list[str] | None, dataset: str, seconds: float | None, url: str, api_key: str) -> None:
    console = Console()
    lines: dict[str, Line] = {}
    async with Client.connect(url, api_key) as client:
        subscriber = client.subscribe(dataset, symbols, Start(snapshot=True))
        with Live(console=console, refresh_per_second=_REFRESH_PER_S) as live:
            try:
                async with asyncio.timeout(seconds):
                    await _follow(subscriber, dataset, lines, live)
            except TimeoutError:
                live.update(_table(dataset, lines, subscriber, wide=live.console.width >= _WIDE))


async def _follow(subscriber: Subscriber, dataset: str, lines: dict[str, Line], live: Live) -> None:
    drawn_s = 0.0
    async for update in subscriber:
        unknown = [s.symbol for s in update.status.symbols if not s.instrument_id] if update.status else []
        if unknown:
            raise StackError(f"{dataset} has no {', '.join(unknown)}. Without a symbol, `mda watch` shows all.")
        for batch in (*update.snapshot, *update.batches):
            _take(batch, lines, subscriber.symbols)
        if time.monotonic() - drawn_s > 1 / _REFRESH_PER_S:
            drawn_s = time.monotonic()
            live.update(_table(dataset, lines, subscriber, wide=live.console.width >= _WIDE))


def _take(batch: Batch, lines: dict[str, Line], symbols: dict[int, str]) -> None:
    ids = batch["instrument_id"]
    for row in latest_rows(batch):
        symbol = symbols.get(int(ids[row]), f"#{ids[row]}")
        line = lines.setdefault(symbol, Line())
        line.rows += int((ids == ids[row]).sum())
        line.time_ns = max(line.time_ns, int(batch["ts_event"][row]))
        if batch.kind is Kind.QUOTE:
            line.bid, line.bid_size = int(batch["bid_price"][row]), int(batch["bid_size"][row])
            line.ask, line.ask_size = int(batch["ask_price"][row]), int(batch["ask_size"][row])
        else:
            line.trade, line.trade_size = int(batch["price"][row]), int(batch["size"][row])


def _table(dataset: str, lines: dict[str, Line], subscriber: Subscriber, *, wide: bool) -> Table:
    table = Table(title=dataset, caption=f"connections: {subscriber.connections}; Ctrl-C stops")
    table.add_column("symbol", no_wrap=True)
    sizes = ("bid size", "ask size", "last size")
    for name in ("bid size", "bid", "ask", "ask size", "spread", "last", "last size", "rows", "age"):
        if wide or name not in sizes:
            table.add_column(name, justify="right", no_wrap=True)
    for symbol, line in sorted(lines.items()):
        spread = _text(line.ask - line.bid) if ABSENT not in {line.ask, line.bid} else "-"
        bid, ask, last = ([_text(line.bid)], [_text(line.ask)], [_text(line.trade)])
        if wide:
            bid, ask = [_text(line.bid_size), *bid], [*ask, _text(line.ask_size)]
            last = [*last, _text(line.trade_size)]
        table.add_row(symbol, *bid, *ask, spread, *last, f"{line.rows:,}", _age(line.time_ns))
    return table


def _text(value: int) -> str:
    return "-" if value == ABSENT else format_decimal(value)


def _age(time_ns: int) -> str:
    seconds = (time.time_ns() - time_ns) / 1e9
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:,.0f} s"
