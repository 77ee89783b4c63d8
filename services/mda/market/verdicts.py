"""Validation of rows, column by column.

Two kinds of findings: rows that no reader could use (unknown instrument, not a price,
time out of range) make the whole batch an error that names the first of them; odd but
usable rows (crossed, out of order) are kept with a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import ABSENT, FIELDS, NANOS, Batch, Kind
from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1 import verdict_pb2
from mda.market.errors import MarketDataError
from mda.market.instruments import Directory

CROSSED: Final = 1 << (verdict_pb2.VERDICT_CROSSED - 1)
OUT_OF_ORDER: Final = 1 << (verdict_pb2.VERDICT_OUT_OF_ORDER - 1)
"""Bits of the `verdicts` column."""

MAX_AHEAD_NS: Final = 3_600 * NANOS
"""How far an event time may lie in the future, in nanoseconds: clocks differ."""

_PRICES: Final = {Kind.QUOTE: ("bid_price", "ask_price"), Kind.TRADE: ("price",)}


class EventTimes:
    """The newest event time of each instrument and kind that was let through."""

    def __init__(self) -> None:
        self._newest = {kind: np.zeros(1, dtype=np.int64) for kind in Kind}

    def of(self, kind: Kind, instruments: int) -> NDArray[np.int64]:
        """Return the times of a kind, in nanoseconds, by id; room for `instruments` ids."""
        times = self._newest[kind]
        if len(times) <= instruments:
            times = np.concatenate([times, np.zeros(instruments + 1 - len(times), dtype=np.int64)])
            self._newest[kind] = times
        return times


@dataclass(frozen=True, slots=True)
class Validated:
    """A batch that may go on the tape.

    Attributes
    ----------
    batch
        The rows, with a `verdicts` column where any row has a verdict and none where
        no row has.
    flagged
        Per row, whether it has a verdict; None if none has.
    """

    batch: Batch
    flagged: NDArray[np.bool_] | None


def check(batch: Batch, directory: Directory, now_ns: int) -> None:
    """Check that every row is one that a reader can use. Changes nothing.

    Parameters
    ----------
    batch
        The rows.
    directory
        The dataset's instruments.
    now_ns
        The time, in nanoseconds.

    Raises
    ------
    MarketDataError
        For the first row with an unknown instrument, an impossible time, or a price
        that is none.
    """
    ids = batch["instrument_id"]
    _require_known(batch, ids, directory)
    _require_times(batch, now_ns)
    negative = directory.takes_negative_prices(ids)
    for name in _PRICES[batch.kind]:
        if name in batch.columns:
            _require_prices(batch, name, negative)


def flag(batch: Batch, newest: EventTimes, instruments: int) -> Validated:
    """Put verdicts on the odd rows of a batch that `check` let through.

    Parameters
    ----------
    batch
        The rows.
    newest
        The dataset's event times so far; updated.
    instruments
        How many instruments the dataset has.
    """
    late = _late(batch["instrument_id"], batch["ts_event"], newest.of(batch.kind, instruments))
    crossed = _crossed(batch)
    columns = {name: values for name, values in batch.columns.items() if name != "verdicts"}
    if not late.any() and not crossed.any():
        return Validated(Batch(batch.kind, batch.rows, columns), None)
    verdicts = late * np.uint32(OUT_OF_ORDER) | crossed * np.uint32(CROSSED)
    columns["verdicts"] = verdicts.astype(np.uint32)
    return Validated(Batch(batch.kind, batch.rows, columns), verdicts != 0)


def _fail(batch: Batch, column: str, bad: NDArray[np.bool_], reason: reasons.ErrorReason, problem: str) -> None:
    if not bad.any():
        return
    row = int(bad.argmax())
    value = int(batch[column][row])
    field = f"batch.{FIELDS[batch.kind]}.{column}"
    raise MarketDataError(reason, f"{field}, row {row}: {value} {problem}", field=field, row=row, value=value)


def _require_known(batch: Batch, ids: NDArray[np.uint32], directory: Directory) -> None:
    # Unsigned: id 0 becomes the largest number.
    bad = (ids - np.uint32(1)) >= np.uint32(len(directory))
    problem = "is not an instrument of the dataset. PutInstruments gives ids; ListInstruments tells them."
    _fail(batch, "instrument_id", bad, reasons.ERROR_REASON_UNKNOWN_INSTRUMENT_ID, problem)


def _require_times(batch: Batch, now_ns: int) -> None:
    times = batch["ts_event"]
    bad = (times < 0) | (times > now_ns + MAX_AHEAD_NS)
    problem = "is not a time between 1970 and one hour from now. Send nanoseconds since the epoch, UTC."
    _fail(batch, "ts_event", bad, reasons.ERROR_REASON_TIME_OUT_OF_RANGE, problem)


def _require_prices(batch: Batch, column: str, negative: NDArray[np.bool_]) -> None:
    prices = batch[column]
    bad = ((prices <= 0) & ~negative) | (prices == np.iinfo(np.int64).min)
    problem = (
        "is not a price. Prices are positive and in units of 1e-9; set `negative_prices` on the instrument "
        "where others are prices too, and send 9223372036854775807 where there is none."
    )
    _fail(batch, column, bad, reasons.ERROR_REASON_NOT_A_PRICE, problem)
    if batch.kind is Kind.TRADE:
        _fail(batch, column, prices == ABSENT, reasons.ERROR_REASON_NOT_A_PRICE, "means none, but a trade has a price.")


def _crossed(batch: Batch) -> NDArray[np.bool_]:
    if batch.kind is not Kind.QUOTE or "bid_price" not in batch.columns:
        return np.zeros(batch.rows, dtype=np.bool_)
    bid = batch["bid_price"]
    return (bid > batch["ask_price"]) & (bid != ABSENT)


def _late(ids: NDArray[np.uint32], times: NDArray[np.int64], newest: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows are older than an earlier row of their instrument; update `newest`."""
    if bool((times[1:] >= times[:-1]).all()):
        known = newest[ids]
        newest[ids] = np.maximum(known, times)  # the last one wins, and is the newest
        return times < known
    late = np.empty(len(ids), dtype=np.bool_)
    for instrument_id in np.unique(ids):
        rows = np.flatnonzero(ids == instrument_id)
        seen = np.maximum.accumulate(np.concatenate([newest[instrument_id : instrument_id + 1], times[rows]]))
        late[rows] = times[rows] < seen[:-1]
        newest[instrument_id] = seen[-1]
    return late
