"""`mda watch`: a live table in the terminal."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from marketdata.client import Client
from marketdata.columns import ABSENT, Batch, Kind
from marketdata.query.v1.query_service_pb2 import Watermark
from marketdata.subscriber import Start, Subscriber
from marketdata.v1.gap_pb2 import Gap
from mda.cli.folder import StackError
from mda.cli.options import DataOption, KeyOption, UrlOption, connection
from mda.cli.watch_plot import Plot
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

    @property
    def is_two_sided(self) -> bool:
        """Whether it has a bid and an ask."""
        return ABSENT not in {self.bid, self.ask}

    @property
    def middle(self) -> float:
        """The middle of bid and ask, in nanos of the price."""
        return (self.bid + self.ask) / 2


@dataclass(slots=True)
class Health:
    """How the subscription is."""

    lag_entries: int = 0
    lag_s: float = 0.0
    open_gaps: int = 0
    _rows: int = 0
    _rate: float = 0.0
    _since_s: float = field(default_factory=time.monotonic)

    def note_gap(self, gap: Gap) -> None:
        """Count a gap that opens, or closes."""
        self.open_gaps += 1 if gap.state == Gap.STATE_OPEN else -1 if self.open_gaps else 0

    def note_watermark(self, watermark: Watermark) -> None:
        """Note how far behind it is."""
        self.lag_entries = watermark.lag_entries
        self.lag_s = watermark.lag.ToTimedelta().total_seconds()

    def rate(self, rows: int) -> float:
        """Return how many rows come in a second, over a second or more."""
        seconds = time.monotonic() - self._since_s
        if seconds >= 1:
            self._rate = (rows - self._rows) / seconds
            self._rows, self._since_s = rows, time.monotonic()
        return self._rate

    def text(self, *, connected: bool) -> str:
        """Return the lag, and the gaps that opened since."""
        if not connected:
            return "not connected yet"
        lag = f"lags by {self.lag_entries:,} entries, {self.lag_s:.1f} s" if self.lag_entries else "up to date"
        return f"{lag}, open gaps: {self.open_gaps}"


@app.command()
def watch(
    symbols: Annotated[list[str] | None, typer.Argument(help="Symbols; all where none is named.")] = None,
    dataset: Annotated[str, typer.Option("--dataset", "-s", help="The dataset.")] = "SIM",
    plot: Annotated[bool, typer.Option("--plot", help="Draw the middle of bid and ask instead of the table.")] = False,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="Stop after so many seconds.")] = None,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Show quotes and trades as they come. Ctrl-C stops.

    With --plot: one symbol by its price, several by their moves since the start; the newest five minutes.

    Example: mda watch ALFA ECHO/USD

    Example: mda watch --plot ALFA
    """
    address, key = connection(data, url, key_file)
    asyncio.run(_watch(symbols or None, dataset, seconds, address, key, plot=plot))


async def _watch(
    symbols: list[str] | None, dataset: str, seconds: float | None, url: str, api_key: str, *, plot: bool
) -> None:
    health = Health()
    async with Client.connect(url, api_key) as client:
        subscriber = client.subscribe(
            dataset, symbols, Start(snapshot=True), on_gap=health.note_gap, on_watermark=health.note_watermark
        )
        with Live(console=Console(markup=False), refresh_per_second=_REFRESH_PER_S) as live:
            screen = Screen(live, subscriber, dataset, health, Plot() if plot else None)
            screen.draw()
            try:
                async with asyncio.timeout(seconds):
                    await _follow(subscriber, screen)
            except TimeoutError:
                screen.draw()


class Screen:
    """What is shown.

    Parameters
    ----------
    live
        Where.
    subscriber, dataset, health
        What of.
    plot
        The drawing; None where it is a table.
    """

    def __init__(self, live: Live, subscriber: Subscriber, dataset: str, health: Health, plot: Plot | None) -> None:
        self.dataset = dataset
        self.lines: dict[str, Line] = {}
        self._live = live
        self._subscriber = subscriber
        self._health = health
        self._plot = plot
        self._drawn_s = 0.0
        self._answered = False

    def draw_at_times(self) -> None:
        """Show what there is, unless that was done just now. The server has answered."""
        self._answered = True
        if time.monotonic() - self._drawn_s > 1 / _REFRESH_PER_S:
            self.draw()

    def draw(self) -> None:
        """Show what there is."""
        self._drawn_s = time.monotonic()
        caption = self._caption()
        if self._plot is None:
            table = _table(self.dataset, self.lines, wide=self._live.console.width >= _WIDE)
            self._live.update(Group(table, Text(caption, style="dim italic")))
            return
        self._plot.note(
            {symbol: line.middle for symbol, line in self.lines.items() if line.is_two_sided}, self._drawn_s
        )
        width, height = self._live.console.size
        drawing = self._plot.text(self.dataset, width, height)
        self._live.update(Group(Text.from_ansi(drawing), Text(caption, style="dim italic")))

    def _caption(self) -> str:
        rows = sum(line.rows for line in self.lines.values())
        connections = f"connections: {self._subscriber.connections}"
        health = self._health.text(connected=self._answered)
        return f"{self._health.rate(rows):,.0f} rows/s, {health}, {connections}; Ctrl-C stops"


async def _follow(subscriber: Subscriber, screen: Screen) -> None:
    async for update in subscriber:
        unknown = [s.symbol for s in update.status.symbols if not s.instrument_id] if update.status else []
        if unknown:
            raise StackError(f"{screen.dataset} has no {', '.join(unknown)}. Without a symbol, `mda watch` shows all.")
        for batch in (*update.snapshot, *update.batches):
            _take(batch, screen.lines, subscriber.symbols)
        screen.draw_at_times()


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
        elif batch.kind is Kind.TRADE:
            line.trade, line.trade_size = int(batch["price"][row]), int(batch["size"][row])


def _table(dataset: str, lines: dict[str, Line], *, wide: bool) -> Table:
    table = Table(title=dataset)
    table.add_column("symbol", no_wrap=True)
    sizes = ("bid size", "ask size", "last size")
    for name in ("bid size", "bid", "ask", "ask size", "spread", "last", "last size", "rows", "age"):
        if wide or name not in sizes:
            table.add_column(name, justify="right", no_wrap=True)
    for symbol, line in sorted(lines.items()):
        spread = _text(line.ask - line.bid) if line.is_two_sided else "-"
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
