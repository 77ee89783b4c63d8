"""Errors that name the first row for which a batch is refused."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import ABSENT, FIELDS, Batch, Kind
from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.v1.verdict_pb2 import Verdict
from mda.market.bits import CROSSED, DUPLICATE_SEQUENCE, FUTURE, LOCKED, MISSING_SIDE, OUT_OF_ORDER, OUTLIER, STALE
from mda.market.errors import MarketDataError

_UNKNOWN: Final = "is not an instrument of the dataset. PutInstruments gives ids; ListInstruments tells them."
_OUT_OF_RANGE: Final = "is not a time between 1970 and one hour from now. Send nanoseconds since the epoch, UTC."
_NOT_A_PRICE: Final = (
    "is not a price. Prices are positive and in units of 1e-9; set `negative_prices` on the instrument "
    "where others are prices too, and send 9223372036854775807 where there is none."
)
_NO_PRICE: Final = "means none, but a trade has a price, and a bar has four."
_NO_ACTION: Final = "is not a value of TradeAction."
_NO_REFERENCE: Final = (
    "does not go with the row's action: a cancel or correction names the `sequence` of the trade that it changes, "
    "and a trade names none (9223372036854775807)."
)
_BAD_INTERVAL: Final = "is not how long a bar is. Send nanoseconds, from 1 to 366 days."
_BAD_BAR: Final = "does not go with the bar's other prices: none is above its high or below its low."
_BAD_VOLUME: Final = "is not a volume: it is at least 0. Send 9223372036854775807 where there is none."
_PROBLEMS: Final = {
    CROSSED: "is above the ask",
    OUT_OF_ORDER: "is before the time of an earlier row",
    LOCKED: "is the ask, too",
    STALE: "is too long ago",
    FUTURE: "is too far ahead",
    OUTLIER: "is too far from the price before it",
    DUPLICATE_SEQUENCE: "is the sequence number of the row before it, too",
    MISSING_SIDE: "means none, or the ask is none",
}
_PRICE: Final = {Kind.QUOTE: "bid_price", Kind.TRADE: "price", Kind.BAR: "close"}
_COLUMNS: Final = {
    OUT_OF_ORDER: "ts_event",
    STALE: "ts_event",
    FUTURE: "ts_event",
    DUPLICATE_SEQUENCE: "sequence",
}


def unknown_instrument(batch: Batch, row: int) -> MarketDataError:
    """Return the error for a row of an unknown instrument."""
    return _error(batch, "instrument_id", row, reasons.ERROR_REASON_UNKNOWN_INSTRUMENT_ID, _UNKNOWN)


def out_of_range(batch: Batch, row: int) -> MarketDataError:
    """Return the error for a row with a time that is out of range."""
    return _error(batch, "ts_event", row, reasons.ERROR_REASON_TIME_OUT_OF_RANGE, _OUT_OF_RANGE)


def not_a_price(batch: Batch, row: int, column: str) -> MarketDataError:
    """Return the error for a row with a price that is none."""
    problem = _NO_PRICE if batch[column][row] == ABSENT else _NOT_A_PRICE
    return _error(batch, column, row, reasons.ERROR_REASON_NOT_A_PRICE, problem)


def bad_action(batch: Batch, row: int) -> MarketDataError:
    """Return the error for a trade row with an action that is none."""
    return _error(batch, "action", row, reasons.ERROR_REASON_BAD_CORRECTION, _NO_ACTION)


def bad_reference(batch: Batch, row: int) -> MarketDataError:
    """Return the error for a trade row that refers to a trade and should not, or does not and should."""
    return _error(batch, "refers_to", row, reasons.ERROR_REASON_BAD_CORRECTION, _NO_REFERENCE)


def bad_interval(batch: Batch, row: int) -> MarketDataError:
    """Return the error for a bar that is no time long, or too long."""
    return _error(batch, "interval_ns", row, reasons.ERROR_REASON_BAD_BAR, _BAD_INTERVAL)


def bad_bar(batch: Batch, row: int, column: str) -> MarketDataError:
    """Return the error for a bar whose high or low another of its prices is beyond."""
    return _error(batch, column, row, reasons.ERROR_REASON_BAD_BAR, _BAD_BAR)


def bad_volume(batch: Batch, row: int) -> MarketDataError:
    """Return the error for a bar with a volume below zero."""
    return _error(batch, "volume", row, reasons.ERROR_REASON_BAD_BAR, _BAD_VOLUME)


def refusal(batch: Batch, bits: NDArray[np.uint32], refused: int) -> MarketDataError | None:
    """Return the error for the first row that the policy refuses; None if it refuses none.

    Of several verdicts the one of the lowest number is named, and its first row.
    """
    for verdict, problem in _PROBLEMS.items():
        rows = np.flatnonzero(bits & np.uint32(verdict & refused))
        if len(rows):
            column = _COLUMNS.get(verdict) or _PRICE[batch.kind]
            name = Verdict.Name(verdict.bit_length()).removeprefix("VERDICT_")
            sentence = f"{problem}: {name}, which the dataset's policy refuses."
            return _error(batch, column, int(rows[0]), reasons.ERROR_REASON_ROW_REFUSED, sentence, verdict=name)
    return None


def _error(
    batch: Batch, column: str, row: int, reason: reasons.ErrorReason, problem: str, verdict: str | None = None
) -> MarketDataError:
    value = int(batch[column][row])
    field = f"batch.{FIELDS[batch.kind]}.{column}"
    message = f"{field}, row {row}: {value} {problem}"
    error = MarketDataError(reason, message, field=field, row=row, value=value)
    error.metadata |= {} if verdict is None else {"verdict": verdict}
    return error
