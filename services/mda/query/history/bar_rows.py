"""Bars for people: decimals and times as text."""

from __future__ import annotations

from typing import Final

from marketdata.columns import ABSENT
from marketdata.v1.bar_pb2 import Bar
from mda.market.bars import Bars, Empty, State
from mda.market.decimals import format_decimal
from mda.market.instruments import Directory
from mda.market.rows import timestamp

_PRICES: Final = ("open", "high", "low", "close", "vwap")
_STATES: Final = {State.FINAL: Bar.STATE_FINAL, State.PARTIAL: Bar.STATE_PARTIAL}
_EMPTY: Final = {
    Empty.NOT: Bar.EMPTY_UNSPECIFIED,
    Empty.NO_TRADES: Bar.EMPTY_NO_ROWS,
    Empty.CLOSED: Bar.EMPTY_CLOSED,
    Empty.GAP: Bar.EMPTY_GAP,
}


def rows_of_bars(bars: Bars, directory: Directory) -> list[Bar]:
    """Return bars as messages."""
    volumes = bars.volume.to_ints()
    return [_row(bars, place, volumes[place], directory) for place in range(len(bars))]


def _row(bars: Bars, place: int, volume: int, directory: Directory) -> Bar:
    bar = Bar(
        symbol=directory.symbol(int(bars.instrument_id[place])),
        start_time=timestamp(int(bars.start[place])),
        end_time=timestamp(int(bars.end[place])),
        volume=format_decimal(volume),
        count=int(bars.count[place]),
        state=_STATES[State(int(bars.state[place]))],
        empty=_EMPTY[Empty(int(bars.empty[place]))],
        in_gap=bool(bars.in_gap[place]),
    )
    for name in _PRICES:
        value = int(getattr(bars, name)[place])
        if value != ABSENT:
            setattr(bar, name, format_decimal(value))
    if bars.count[place]:
        bar.first_sequence, bar.last_sequence = int(bars.tape_first[place]), int(bars.tape_last[place])
    return bar
