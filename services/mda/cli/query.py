"""`mda query`: rows of the past, on the screen or for other programs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from google.protobuf.message import Message

from marketdata.client import Client
from marketdata.columns import NANOS
from marketdata.v1.bar_pb2 import BarFill, BarSource
from mda.cli.options import DataOption, KeyOption, Output, OutputOption, UrlOption, connection
from mda.cli.row_output import (
    BARS,
    DATASETS,
    QUOTES,
    TRADES,
    TRADES_WITH_QUOTES,
    Form,
    RowPrinter,
    print_rows,
)
from mda.cli.session_options import HoursOption, WeekdaysOption, ZoneOption, parse_session
from mda.cli.times import EndOption, SymbolOption, check_range, parse_interval, parse_time

app = typer.Typer(
    no_args_is_help=True,
    help="Show rows of the past: quotes, trades, bars, quotes as of a time; and what datasets there are.",
)

_HOUR_NS: Final = 3_600 * NANOS


class Source(StrEnum):
    """What bars are made of."""

    TRADES = "trades"
    QUOTE_MIDS = "quote-mids"
    VENUE = "venue"


class FillName(StrEnum):
    """What to tell of intervals without rows."""

    NONE = "none"
    NULL = "null"
    PREVIOUS = "previous"


_SOURCES: Final = {
    Source.TRADES: BarSource.BAR_SOURCE_TRADES,
    Source.QUOTE_MIDS: BarSource.BAR_SOURCE_QUOTE_MIDS,
    Source.VENUE: BarSource.BAR_SOURCE_VENUE,
}
_FILLS: Final = {
    FillName.NONE: BarFill.BAR_FILL_NONE,
    FillName.NULL: BarFill.BAR_FILL_NULL,
    FillName.PREVIOUS: BarFill.BAR_FILL_PREVIOUS,
}
DatasetArgument = Annotated[str, typer.Argument(help="The dataset.")]
StartOption = Annotated[
    int | None,
    typer.Option(
        "--start",
        parser=parse_time,
        metavar="TIME",
        help="From this event time on: RFC 3339 or a date. An hour before --end, or before now, where not set.",
    ),
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many rows at the most.")]
NewestOption = Annotated[bool, typer.Option("--newest-first", help="Begin with the newest.")]


@app.command()
def quotes(
    dataset: DatasetArgument,
    symbol: SymbolOption = None,
    start: StartOption = None,
    end: EndOption = None,
    limit: LimitOption = 100,
    newest_first: NewestOption = False,
    output: OutputOption = Output.TABLE,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Show quotes, by event time.

    Example: mda query quotes SIM --symbol ALFA --newest-first --limit 20

    Example: mda query quotes SIM --symbol ALFA --symbol ECHO/USD --start 2026-07-01T13:30:00Z --output csv
    """
    start_ns = _start(start, end)

    async def ask(client: Client, most: int) -> Sequence[Message]:
        return await client.quotes(
            dataset, symbol or None, start_ns=start_ns, end_ns=end, newest_first=newest_first, limit=most
        )

    _show(QUOTES, output, limit, ask, connection(data, url, key_file))


@app.command()
def trades(
    dataset: DatasetArgument,
    symbol: SymbolOption = None,
    start: StartOption = None,
    end: EndOption = None,
    limit: LimitOption = 100,
    newest_first: NewestOption = False,
    corrected: Annotated[
        bool, typer.Option("--corrected", help="Trades as they stand, not as they came: cancels and corrections done.")
    ] = False,
    with_quotes: Annotated[bool, typer.Option("--with-quotes", help="Show the quote before each trade, too.")] = False,
    output: OutputOption = Output.TABLE,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Show trades, by event time.

    Example: mda query trades SIM --symbol ALFA --start 2026-07-01 --end 2026-07-02 --corrected

    Example: mda query trades SIM --symbol ALFA --with-quotes --output csv
    """
    start_ns = _start(start, end)
    if with_quotes and newest_first:
        raise typer.BadParameter("trades with quotes come oldest first.", param_hint="--newest-first")

    async def ask_joined(client: Client, most: int) -> Sequence[Message]:
        return await client.trades_with_quotes(
            dataset, symbol or None, start_ns=start_ns, end_ns=end, corrected=corrected, limit=most
        )

    async def ask(client: Client, most: int) -> Sequence[Message]:
        return await client.trades(
            dataset,
            symbol or None,
            start_ns=start_ns,
            end_ns=end,
            newest_first=newest_first,
            corrected=corrected,
            limit=most,
        )

    form, method = (TRADES_WITH_QUOTES, ask_joined) if with_quotes else (TRADES, ask)
    _show(form, output, limit, method, connection(data, url, key_file))


@app.command()
def bars(
    dataset: DatasetArgument,
    symbol: SymbolOption = None,
    start: StartOption = None,
    end: EndOption = None,
    interval: Annotated[str, typer.Option("--interval", "-i", metavar="LENGTH", help="Such as 1s, 5m, 4h, 1d.")] = "1m",
    source: Annotated[Source, typer.Option("--source", help="What the bars are made of.")] = Source.TRADES,
    fill: Annotated[FillName, typer.Option("--fill", help="What to show of intervals without rows.")] = FillName.NONE,
    time_zone: ZoneOption = "",
    hours: HoursOption = "",
    weekdays: WeekdaysOption = "",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show bars as they come, from now on; again where they change.")
    ] = False,
    limit: LimitOption = 100,
    output: OutputOption = Output.TABLE,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Show bars, by symbol and time.

    Example: mda query bars SIM --symbol ALFA --interval 5m --start 2026-07-01 --end 2026-07-02

    Example: mda query bars SIM --interval 1d --time-zone America/Chicago --hours 17:00-16:00 --weekdays 1-5

    Example: mda query bars SIM --symbol ALFA --interval 10s --follow
    """
    interval_s, session = parse_interval(interval), parse_session(time_zone, hours, weekdays)
    if follow:
        _refuse_range(start, end)
        printer = RowPrinter(BARS, output)

        async def show(client: Client) -> None:
            bars = client.stream_bars(
                dataset, symbol or None, interval_s=interval_s, source=_SOURCES[source], session=session
            )
            async for update in bars:
                printer.print(update.bars)

        asyncio.run(_show_as_they_come(show, *connection(data, url, key_file)))
        return
    start_ns = _start(start, end)

    async def ask(client: Client, most: int) -> Sequence[Message]:
        return await client.bars(
            dataset,
            symbol or None,
            start_ns=start_ns,
            end_ns=end,
            interval_s=interval_s,
            source=_SOURCES[source],
            fill=_FILLS[fill],
            session=session,
            limit=most,
        )

    _show(BARS, output, limit, ask, connection(data, url, key_file))


@app.command()
def as_of(
    dataset: DatasetArgument,
    symbol: SymbolOption = None,
    at: Annotated[
        int | None,
        typer.Option("--at", parser=parse_time, metavar="TIME", help="RFC 3339 or a date; now where not set."),
    ] = None,
    output: OutputOption = Output.TABLE,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Show each symbol's quote as of a time: the last one whose event was not after it.

    Example: mda query as-of SIM --symbol ALFA --at 2026-07-01T13:30:00Z
    """
    time_ns = time.time_ns() if at is None else at

    async def ask(client: Client, _most: int) -> Sequence[Message]:
        return await client.quotes_as_of(dataset, symbol or None, time_ns=time_ns)

    _show(QUOTES, output, None, ask, connection(data, url, key_file))


@app.command()
def datasets(
    output: OutputOption = Output.TABLE,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Show the datasets, and what they hold of each kind.

    Example: mda query datasets
    """

    async def ask(client: Client, _most: int) -> Sequence[Message]:
        return await client.list_datasets()

    _show(DATASETS, output, None, ask, connection(data, url, key_file))


def _start(start_ns: int | None, end_ns: int | None) -> int:
    check_range(start_ns, end_ns)
    if start_ns is not None:
        return start_ns
    return max(0, (time.time_ns() if end_ns is None else end_ns) - _HOUR_NS)


def _refuse_range(start_ns: int | None, end_ns: int | None) -> None:
    if start_ns is not None or end_ns is not None:
        raise typer.BadParameter("it shows what comes from now on. Leave --start and --end out.", param_hint="--follow")


async def _show_as_they_come(show: Callable[[Client], Awaitable[None]], url: str, api_key: str) -> None:
    async with Client.connect(url, api_key) as client:
        await show(client)


def _show(
    form: Form,
    output: Output,
    limit: int | None,
    ask: Callable[[Client, int], Awaitable[Sequence[Message]]],
    address: tuple[str, str],
) -> None:
    found = asyncio.run(_ask(ask, (limit or 0) + 1, *address))
    print_rows(form, found[:limit], output)
    if not found and form is not DATASETS:
        typer.echo(f"no {form.what} there; `mda query datasets` tells what there is", err=True)
    if limit is not None and len(found) > limit:
        typer.echo(f"there are more: these are {limit:,}. Raise --limit, or see `mda export --help`.", err=True)


async def _ask(
    ask: Callable[[Client, int], Awaitable[Sequence[Message]]], most: int, url: str, api_key: str
) -> Sequence[Message]:
    async with Client.connect(url, api_key) as client:
        return await ask(client, most)
