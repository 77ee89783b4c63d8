"""Bars of a time: `ListBars`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import ABSENT, Batch, Kind
from mda.lake.layout import Placed
from mda.market.bar_sums import BarSums, merge, sum_rows
from mda.market.bars import Bars, Fill, Gaps, Grid, finish
from mda.market.intervals import Interval, Periods
from mda.market.pages import decode_token, encode_token
from mda.market.sessions import Session
from mda.market.ticks import Ticks, in_pieces, quote_mids
from mda.query.history.as_of import rows_as_of
from mda.query.history.source import Ids, Source, Wanted

_MOST_PARTS: Final = 16
"""So many partial bars of an interval are merged into one."""

_PIECE_ROWS: Final = 16_384
"""Fewer rows are not summed by themselves."""

_BAR: Final = struct.Struct(">Iq")
_TRADE_COLUMNS: Final = ("sequence", "price", "size", "action")
_QUOTE_COLUMNS: Final = ("bid_price", "ask_price")


@dataclass(frozen=True, slots=True)
class BarQuery:
    """Which bars.

    Attributes
    ----------
    ids
        The instruments, ascending.
    start_ns, end_ns
        The time.
    interval, session
        What bars are of.
    kind
        What they are made of: trades, the middles of quotes, or the venue's own.
    fill
        What is told of empty ones.
    """

    ids: Ids
    start_ns: int
    end_ns: int
    interval: Interval
    session: Session
    kind: Kind
    fill: Fill

    @property
    def periods(self) -> Periods:
        """The intervals."""
        return self.interval.periods(self.session, self.start_ns, self.end_ns)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the bars that were asked for: some instruments, and the numbers of some periods."""

    ids: Ids
    numbers: range


def stretch_of(query: BarQuery, limit: int, after: tuple[int, int]) -> Stretch:
    """Return the next part of a query's bars: as many instruments as fit, or a part of the time of one.

    Parameters
    ----------
    query
        All of it.
    limit
        How many bars, empty ones too.
    after
        The instrument and the start of the bar that it begins after; zeros for the beginning.
    """
    periods = query.periods
    numbers = periods.between(query.start_ns, query.end_ns)
    instrument, start_ns = after
    ids = query.ids[query.ids >= instrument]
    if len(ids) and int(ids[0]) == instrument:
        begun = int(periods.numbers(np.array([start_ns], dtype=np.int64))[0]) + 1
        if begun < numbers.stop:
            return Stretch(ids[:1], range(begun, min(numbers.stop, begun + limit)))
        ids = ids[1:]
    if len(numbers) > limit:
        return Stretch(ids[:1], numbers[:limit])
    return Stretch(ids[: limit // max(1, len(numbers))], numbers)


def encode_bar(after: tuple[int, int]) -> str:
    """Return the token of the page after the bar of an instrument that begins at a time."""
    return encode_token(_BAR.pack(*after))


def decode_bar(token: str) -> tuple[int, int]:
    """Return the instrument and the start of the bar that a page begins after; zeros for the empty token.

    Raises
    ------
    MarketDataError
        INVALID_FIELD if `encode_bar` did not give the token.
    """
    return _BAR.unpack(decode_token(token, _BAR.size)) if token else (0, 0)


def make_bars(source: Source, query: BarQuery, stretch: Stretch, now_ns: int, gaps: Gaps) -> Bars:
    """Make the bars of a stretch, of trades or quotes. Blocks.

    Parameters
    ----------
    source
        The dataset.
    query, stretch
        The bars.
    now_ns
        The time: intervals that end later are partial.
    gaps
        What is known to be missing.
    """
    periods = query.periods
    edges = np.array([stretch.numbers.start, stretch.numbers.stop - 1], dtype=np.int64)
    first_ns = max(query.start_ns, int(periods.starts_of(edges)[0]))
    end_ns = min(query.end_ns, int(periods.ends_of(edges)[1]))
    times = (first_ns, end_ns - 1)
    sums = sums_of(source, stretch.ids, periods, times, query.kind)
    previous = _closes_before(source, query, stretch.ids, first_ns) if query.fill is Fill.PREVIOUS else None
    grid = Grid(stretch.ids, periods, first_ns, end_ns)
    return finish(sums, grid, query.fill, watermark_ns=now_ns, session=query.session, gaps=gaps, previous=previous)


def sums_of(source: Source, ids: Ids | None, periods: Periods, times: tuple[int, int], kind: Kind) -> BarSums:
    """Sum the rows of some instruments, or of all, and of times of which both are included. Blocks."""
    parts: list[BarSums] = []
    for ticks in in_pieces(_ticks(source, ids, times, kind), _PIECE_ROWS):
        parts.append(sum_rows(ticks, periods))
        if len(parts) == _MOST_PARTS:
            parts = [merge(parts)]
    return merge(parts)


def _ticks(source: Source, ids: Ids | None, times: tuple[int, int], kind: Kind) -> Iterator[Ticks]:
    if kind is Kind.QUOTE:
        for placed in source.rows(Wanted(Kind.QUOTE, ids, times, _QUOTE_COLUMNS, numbered=False)):
            yield ticks_of_quotes(placed)
        return
    for placed in source.standing(Wanted(Kind.TRADE, ids, times, _TRADE_COLUMNS, numbered=False)):
        yield ticks_of_trades(placed)


def ticks_of_trades(placed: Placed) -> Ticks:
    """Return the prices of trades; they are taken as they are."""
    batch = placed.batch
    return Ticks(batch["instrument_id"], batch["ts_event"], placed.sequence, placed.row, batch["price"], batch["size"])


def ticks_of_quotes(placed: Placed) -> Ticks:
    """Return the middles of quotes."""
    batch = placed.batch
    return quote_mids(
        batch["instrument_id"],
        batch["ts_event"],
        placed.sequence,
        placed.row,
        batch["bid_price"],
        batch["ask_price"],
    )


def _closes_before(source: Source, query: BarQuery, ids: Ids, before_ns: int) -> NDArray[np.int64]:
    """Return each instrument's last price before a time; `ABSENT` where it has none."""
    closes = np.full(len(ids), ABSENT, dtype=np.int64)
    found = rows_as_of(source, query.kind, ids, before_ns - 1, standing=True)
    if found is None:
        return closes
    ids_found, prices = found["instrument_id"], found["price"] if query.kind is Kind.TRADE else _middles(found)
    closes[np.searchsorted(ids, ids_found)] = prices
    return closes


def _middles(quotes: Batch) -> NDArray[np.int64]:
    none = np.zeros(quotes.rows, dtype=np.int64)
    return ticks_of_quotes(Placed(quotes, 0, none, none.astype(np.int32))).price
