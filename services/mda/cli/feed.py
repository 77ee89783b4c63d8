"""`mda feed`: publishes live sources."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from marketdata.columns import Kind
from mda.cli.folder import StackError
from mda.cli.options import DataOption, KeyOption, UrlOption, connection
from mda.feeds.mapping import read_mapping

if TYPE_CHECKING:  # sources are imported where they are used: they take long, and other commands do not need them
    from mda.feeds.source import Source

app = typer.Typer(help="Publish a live source: a venue, a resource of HTTP, a made-up market.", no_args_is_help=True)

_MOST_SYMBOLS: Final = 200
"""Of so many symbols the place in the source goes on the tape with each batch."""
_KEY: Final = "DATABENTO_API_KEY"


class FeedOutput(StrEnum):
    """How the status is printed."""

    TABLE = "table"
    JSON = "json"


class FeedKind(StrEnum):
    """Which rows."""

    QUOTES = "quotes"
    TRADES = "trades"
    ALL = "all"


class Schema(StrEnum):
    """Which of Databento's schemas."""

    TRADES = "trades"
    MBP_1 = "mbp-1"


class BodyFormat(StrEnum):
    """What a resource of HTTP is."""

    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


SymbolsOption = Annotated[str, typer.Option("--symbols", help="As the venue spells them, separated by commas.")]
KindOption = Annotated[FeedKind, typer.Option("--kind", "-k", help="Which rows.")]
DatasetOption = Annotated[str, typer.Option("--dataset", "-s", help="The dataset to publish to.")]
ProducerOption = Annotated[
    str | None, typer.Option("--producer", help="The producer's name, one for each feed of a dataset.")
]
SecondsOption = Annotated[float | None, typer.Option("--seconds", min=0, help="Stop after so many seconds.")]
EveryOption = Annotated[float, typer.Option("--every", min=0.1, help="How often the status is told, in seconds.")]
StatusOption = Annotated[FeedOutput, typer.Option("--output", "-o", help="How the status is printed.")]
SpoolOption = Annotated[
    Path | None,
    typer.Option("--spool", help="Keep what is not acknowledged in this file, too: it is sent at the next start."),
]
VenueOption = Annotated[str | None, typer.Option("--venue-url", help="Another address of the venue's websocket.")]
RestOption = Annotated[str | None, typer.Option("--venue-rest-url", help="Another address of the venue's REST API.")]


@app.command()
def binance(
    symbols: SymbolsOption,
    dataset: DatasetOption = "CRYPTO.BINANCE",
    kind: KindOption = FeedKind.ALL,
    producer: ProducerOption = None,
    venue_url: VenueOption = None,
    venue_rest_url: RestOption = None,
    spool: SpoolOption = None,
    seconds: SecondsOption = None,
    every: EveryOption = 5.0,
    output: StatusOption = FeedOutput.TABLE,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Publish trades and best bids and offers of Binance Spot. Ctrl-C stops, with all acknowledged.

    Example: mda feed binance --symbols BTCUSDT,ETHUSDT
    """
    from mda.feeds.binance import REST_URL, URL, Binance

    source = Binance(
        _symbols(symbols),
        _kinds(kind),
        url=venue_url or URL,
        rest_url=venue_rest_url or REST_URL,
    )
    _publish(source, dataset, producer, spool, seconds, every, output, data, url, key_file)


@app.command()
def coinbase(
    symbols: SymbolsOption,
    dataset: DatasetOption = "CRYPTO.COINBASE",
    kind: KindOption = FeedKind.ALL,
    producer: ProducerOption = None,
    venue_url: VenueOption = None,
    venue_rest_url: RestOption = None,
    spool: SpoolOption = None,
    seconds: SecondsOption = None,
    every: EveryOption = 5.0,
    output: StatusOption = FeedOutput.TABLE,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Publish trades and best bids and offers of Coinbase Exchange. Ctrl-C stops, with all acknowledged.

    Example: mda feed coinbase --symbols BTC-USD,ETH-USD
    """
    from mda.feeds.coinbase import REST_URL, URL, Coinbase

    source = Coinbase(
        _symbols(symbols),
        _kinds(kind),
        url=venue_url or URL,
        rest_url=venue_rest_url or REST_URL,
    )
    _publish(source, dataset, producer, spool, seconds, every, output, data, url, key_file)


@app.command()
def databento(
    dataset: Annotated[str, typer.Option("--dataset", "-s", help="Databento's dataset; ours has its name, too.")],
    symbols: SymbolsOption,
    schema: Annotated[list[Schema] | None, typer.Option("--schema", help="Which; both where not set.")] = None,
    stype_in: Annotated[
        str, typer.Option("--stype-in", help="What the symbols are: raw_symbol, parent, continuous.")
    ] = "raw_symbol",
    to: Annotated[str | None, typer.Option("--to", help="Another dataset to publish to.")] = None,
    producer: ProducerOption = None,
    gateway: Annotated[str | None, typer.Option("--gateway", help="Another gateway: host:port.")] = None,
    spool: SpoolOption = None,
    seconds: SecondsOption = None,
    every: EveryOption = 5.0,
    output: StatusOption = FeedOutput.TABLE,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Publish live data of Databento. The key is that of the environment: DATABENTO_API_KEY.

    After a break it goes on where it was, up to 24 hours back.

    Example: mda feed databento --dataset GLBX.MDP3 --symbols ES.FUT --stype-in parent --schema trades
    """
    key = os.environ.get(_KEY)  # no option takes it: everybody on the machine can read command lines
    if not key:
        raise StackError(f"There is no key. Set {_KEY}.")
    schemas = [chosen.value for chosen in schema or list(Schema)]
    from mda.feeds.databento import Databento

    source = Databento(
        key, dataset, _symbols(symbols), schemas, stype_in=stype_in, gateway=None if gateway is None else _host(gateway)
    )
    _publish(source, to or dataset, producer, spool, seconds, every, output, data, url, key_file)


@app.command()
def http(
    resource: Annotated[str, typer.Argument(help="The address of the resource.", metavar="ADDRESS")],
    mapping: Annotated[Path, typer.Option("--mapping", "-m", help="Which of its columns is what: a YAML file.")],
    dataset: DatasetOption,
    form: Annotated[
        BodyFormat | None, typer.Option("--format", "-f", help="What it is; as it says itself where not set.")
    ] = None,
    records: Annotated[str, typer.Option("--records", help="Where in JSON the list of rows is: data.trades.")] = "",
    interval: Annotated[float, typer.Option("--interval", min=0.1, help="Seconds from one question to the next.")] = 10,
    contiguous: Annotated[
        bool, typer.Option("--contiguous", help="Numbers go up by one for each symbol: a hole is a gap.")
    ] = False,
    header_file: Annotated[
        Path | None, typer.Option("--header-file", help="A file of headers to send, a line each: Name: value.")
    ] = None,
    max_bytes: Annotated[int, typer.Option("--max-bytes", min=1, help="The most bytes of an answer.")] = 16 << 20,
    producer: ProducerOption = None,
    spool: SpoolOption = None,
    seconds: SecondsOption = None,
    every: EveryOption = 5.0,
    output: StatusOption = FeedOutput.TABLE,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Publish what is new in a resource of HTTP, which is asked for again and again.

    The mapping is that of `mda ingest`. Each resource of a dataset needs a producer's name of its own.

    Example: mda feed http https://example.com/trades.json --mapping map.yaml --dataset TEST --records data
    """
    from mda.feeds.http_poll import HttpPoll

    source = HttpPoll(
        resource,
        read_mapping(mapping),
        interval_s=interval,
        form=None if form is None else form.value,
        records=records,
        contiguous=contiguous,
        headers=_headers(header_file),
        most_bytes=max_bytes,
    )
    _publish(source, dataset, producer, spool, seconds, every, output, data, url, key_file)


@app.command()
def synthetic(
    dataset: DatasetOption = "SYNTHETIC",
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed makes the same moves.")] = 1,
    interval_ms: Annotated[int, typer.Option("--interval-ms", min=10, max=10_000, help="How often rows come.")] = 100,
    producer: ProducerOption = None,
    spool: SpoolOption = None,
    seconds: SecondsOption = None,
    every: EveryOption = 5.0,
    output: StatusOption = FeedOutput.TABLE,
    data: DataOption = Path(".mda"),
    url: UrlOption = None,
    key_file: KeyOption = None,
) -> None:
    """Publish a made-up market, as `mda up` does to SIM. Ctrl-C stops, with all acknowledged.

    Example: mda feed synthetic --dataset TEST --seed 7
    """
    from mda.feeds.synthetic import Synthetic

    source = Synthetic(seed, interval_ms)
    _publish(source, dataset, producer, spool, seconds, every, output, data, url, key_file)


def _publish(
    source: Source,
    dataset: str,
    producer: str | None,
    spool: Path | None,
    seconds: float | None,
    every_s: float,
    output: FeedOutput,
    data: Path,
    url: str | None,
    key_file: Path | None,
) -> None:
    address, key = connection(data, url, key_file)
    from mda.cli.feed_run import Plan, publish

    plan = Plan(source, dataset, producer, seconds, every_s, as_json=output is FeedOutput.JSON, spool=spool)
    publish(plan, address, key)


def _symbols(text: str) -> list[str]:
    found = [*dict.fromkeys(symbol.strip() for symbol in text.split(",") if symbol.strip())]
    if not 0 < len(found) <= _MOST_SYMBOLS:
        raise typer.BadParameter(f"give 1 to {_MOST_SYMBOLS}; more take several feeds.", param_hint="--symbols")
    return found


def _kinds(kind: FeedKind) -> Sequence[Kind]:
    return {FeedKind.QUOTES: [Kind.QUOTE], FeedKind.TRADES: [Kind.TRADE]}.get(kind, [Kind.QUOTE, Kind.TRADE])


def _host(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise typer.BadParameter(f"{text!r} is not host:port.", param_hint="--gateway")
    return host, int(port)


def _headers(path: Path | None) -> dict[str, str]:
    """Return the headers of a file: keys do not belong on a command line."""
    if path is None:
        return {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StackError(f"The headers cannot be read: {error}.") from error
    parts = [line.partition(":") for line in lines if line.strip()]
    return {name.strip(): value.strip() for name, _, value in parts}
