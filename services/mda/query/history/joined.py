"""Trades, each with the quote before it: `ListTradesWithQuotes`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import Batch, Kind, concatenate
from mda.lake.layout import Placed
from mda.query.history.as_of import rows_as_of
from mda.query.history.listing import Key, Listing, list_rows
from mda.query.history.source import Source, Wanted

_NONE: Final = -1


@dataclass(frozen=True, slots=True)
class Joined:
    """A page of trades with quotes.

    Attributes
    ----------
    trades, quotes
        The rows; None where there are none.
    rows
        int64, by trade: the place of its quote among the quotes; -1 where it has none.
    last
        As of `mda.query.history.listing.Page`.
    """

    trades: Batch | None
    quotes: Batch | None
    rows: NDArray[np.int64]
    last: Key | None


def trades_with_quotes(source: Source, listing: Listing, tolerance_ns: int | None) -> Joined:
    """Return a page of trades, each with the last quote of its instrument whose event was not after it. Blocks.

    Parameters
    ----------
    source
        The dataset.
    listing
        The trades.
    tolerance_ns
        How much older a quote may be, in nanoseconds; None for any age.
    """
    page = list_rows(source, listing)
    trades = page.batch
    if trades is None or not trades.rows:
        return Joined(None, None, np.empty(0, dtype=np.int64), None)
    quotes = _quotes(source, trades)
    if quotes is None:
        return Joined(trades, None, np.full(trades.rows, _NONE, dtype=np.int64), page.last)
    rows = _before(trades, quotes)
    if tolerance_ns is not None:
        rows[trades["ts_event"] - quotes["ts_event"][rows] > tolerance_ns] = _NONE
    return Joined(trades, quotes, rows, page.last)


def _quotes(source: Source, trades: Batch) -> Batch | None:
    """Return quotes among which are those before the trades; of equal times the later one stands later."""
    ids = np.unique(trades["instrument_id"])
    first_ns, last_ns = int(trades["ts_event"].min()), int(trades["ts_event"].max())
    older = rows_as_of(source, Kind.QUOTE, ids, first_ns)
    wanted = Wanted(Kind.QUOTE, ids, (first_ns + 1, last_ns))
    parts = [part for placed in source.rows(wanted) if (part := _that_matter(placed, trades)).batch.rows]
    batches = [older] if older is not None else []
    if parts:
        batches.append(concatenate([part.batch for part in parts]).take(_ordered(parts)))
    return concatenate(batches) if batches else None


def _that_matter(placed: Placed, trades: Batch) -> Placed:
    """Return the quotes of a part that are its last ones before a trade: no more than trades and instruments."""
    placed = placed.take(_ordered([placed]))
    rows = _before(trades, placed.batch)
    return placed.take(np.unique(rows[rows != _NONE]))


def _ordered(parts: list[Placed]) -> NDArray[np.intp]:
    """Return the order of time and place of the rows of all parts."""
    rows = np.concatenate([part.row for part in parts])
    sequences = np.concatenate([part.sequence for part in parts])
    epochs = np.repeat([part.epoch for part in parts], [part.batch.rows for part in parts])
    times = np.concatenate([part.batch["ts_event"] for part in parts])
    return np.lexsort((rows, sequences, epochs, times))


def _before(trades: Batch, quotes: Batch) -> NDArray[np.int64]:
    """Return, by trade, the place of the last quote that is not after it; -1 where there is none."""
    ids = np.concatenate([quotes["instrument_id"], trades["instrument_id"]])
    times = np.concatenate([quotes["ts_event"], trades["ts_event"]])
    is_trade = np.arange(len(ids)) >= quotes.rows
    order = np.lexsort((is_trade, times, ids))
    newest = np.maximum.accumulate(np.where(is_trade[order], _NONE, np.arange(len(ids))))
    quote = np.where(newest == _NONE, _NONE, order[newest])
    quote[ids[quote] != ids[order]] = _NONE
    found = np.full(len(ids), _NONE, dtype=np.int64)
    found[order] = quote
    return found[quotes.rows :]
