"""Validation of rows, column by column.

First each row by itself (`check`), then rows with those before them (`flag`). What is
done about a finding, the dataset's rules say: the row is kept with a verdict, it is set
aside, or its batch is refused with an error that names the first such row. A time that is
out of range is always refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from marketdata.columns import ABSENT, NANOS, Batch, Kind
from mda.market.bits import (
    CROSSED,
    DUPLICATE_SEQUENCE,
    FUTURE,
    LOCKED,
    MISSING_SIDE,
    NOT_A_PRICE,
    OUT_OF_ORDER,
    OUTLIER,
    STALE,
    UNKNOWN_INSTRUMENT,
    Bits,
    Findings,
    Mask,
    some,
)
from mda.market.corrections import CANCEL, check_corrections, corrections_of
from mda.market.history import History, compare
from mda.market.instruments import Directory
from mda.market.policy import DEFAULT_RULES, Rules
from mda.market.refusals import not_a_price, out_of_range, refusal, unknown_instrument
from mda.market.venue_bars import PRICES, check_bars, moments

__all__ = ["COMPARED", "CROSSED", "MAX_AHEAD_NS", "OUT_OF_ORDER", "Checked", "Judged", "check", "flag"]

COMPARED: Final = OUT_OF_ORDER | OUTLIER | DUPLICATE_SEQUENCE
"""The verdicts that `flag` finds; the others are those of `check`."""

MAX_AHEAD_NS: Final = 3_600 * NANOS
"""How far an event time may lie in the future, in nanoseconds: clocks differ."""

_PRICES: Final = {Kind.QUOTE: ("bid_price", "ask_price"), Kind.TRADE: ("price",), Kind.BAR: PRICES}
_LEAST: Final = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Checked:
    """Rows of which each was looked at by itself.

    Attributes
    ----------
    batch
        The rows.
    found
        The verdicts of each row that something is done about; None if there are none.
    """

    batch: Batch
    found: Bits | None


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows of which it is known what becomes of them.

    Attributes
    ----------
    batch
        All the rows, with a `verdicts` column where any row has a verdict and none where
        no row has.
    flagged
        Per row, whether it has a verdict and is kept; None if there are none.
    aside
        Per row, whether it is to be set aside; None if there are none.
    """

    batch: Batch
    flagged: Mask | None
    aside: Mask | None = None


def check(batch: Batch, directory: Directory, now_ns: int, rules: Rules = DEFAULT_RULES) -> Checked:
    """Look at each row by itself. Changes nothing.

    Parameters
    ----------
    batch
        The rows.
    directory
        The dataset's instruments.
    now_ns
        The time, in nanoseconds.
    rules
        The dataset's rules.

    Raises
    ------
    MarketDataError
        For the first row with a verdict that is refused, an impossible time, an action
        that does not go with what it refers to, or a bar that cannot be.
    """
    check_corrections(batch)
    check_bars(batch)
    found = Findings(batch.rows)
    unknown = _add_unknown(batch, directory, rules, found)
    _add_times(batch, now_ns, rules, found)
    for name in _PRICES[batch.kind]:
        if name in batch.columns:
            _add_no_price(batch, name, unknown, directory, rules, found)
    if batch.kind is Kind.QUOTE:
        _add_sides(batch, rules.sought, found)
    if found.bits is not None and (error := refusal(batch, found.bits, rules.refused)):
        raise error
    return Checked(batch, found.bits)


def flag(checked: Checked, history: History, directory: Directory, rules: Rules = DEFAULT_RULES) -> Judged:
    """Compare rows with those before them, and say what becomes of each.

    Parameters
    ----------
    checked
        The rows, checked by the same rules.
    history
        What the dataset has seen so far; updated, unless an error is raised.
    directory
        The instruments that they were checked with, or newer.
    rules
        The dataset's rules.

    Raises
    ------
    MarketDataError
        For the first row with a verdict that is refused.
    """
    batch, found = checked.batch, checked.found
    apart = _apart(checked, rules)
    if apart is None:
        bits = _compared(batch, history, directory, rules)
        return _judged(batch, _either(found, bits), rules)
    rest = np.flatnonzero(~apart)
    bits = _compared(batch.take(rest), history, directory, rules) if len(rest) else None
    if bits is not None:
        found = np.zeros(batch.rows, dtype=np.uint32) if found is None else found.copy()
        found[rest] |= bits
    return _judged(batch, found, rules)


def _apart(checked: Checked, rules: Rules) -> Mask | None:
    """Return which rows are compared with none: what is set aside is not on the tape, and corrections are of then."""
    corrections = corrections_of(checked.batch)
    aside = None if checked.found is None else _any((checked.found & np.uint32(rules.set_aside)) != 0)
    if corrections is None or aside is None:
        return aside if corrections is None else corrections
    return corrections | aside


def _compared(batch: Batch, history: History, directory: Directory, rules: Rules) -> Bits | None:
    comparison = compare(batch, history, directory, rules)
    if comparison.bits is not None and (error := refusal(batch, comparison.bits, rules.refused)):
        raise error
    comparison.keep()
    return comparison.bits


def _either(one: Bits | None, other: Bits | None) -> Bits | None:
    if one is None or other is None:
        return one if other is None else other
    return one | other


def _judged(batch: Batch, bits: Bits | None, rules: Rules) -> Judged:
    columns = {name: values for name, values in batch.columns.items() if name != "verdicts"}
    if bits is None:
        return Judged(Batch(batch.kind, batch.rows, columns), None)
    columns["verdicts"] = bits
    aside = (bits & np.uint32(rules.set_aside)) != 0
    return Judged(Batch(batch.kind, batch.rows, columns), _any((bits != 0) & ~aside), _any(aside))


def _any(mask: Mask) -> Mask | None:
    return mask if some(mask) else None


def _add_unknown(batch: Batch, directory: Directory, rules: Rules, found: Findings) -> Mask:
    # Unsigned: id 0 becomes the largest number.
    unknown: Mask = (batch["instrument_id"] - np.uint32(1)) >= np.uint32(len(directory))
    if rules.refused & UNKNOWN_INSTRUMENT and some(unknown):
        raise unknown_instrument(batch, int(unknown.argmax()))
    found.add(UNKNOWN_INSTRUMENT, unknown)
    return unknown


def _add_times(batch: Batch, now_ns: int, rules: Rules, found: Findings) -> None:
    times = batch["ts_event"]
    # Unsigned: times before 1970 become the largest numbers.
    bad = times.view(np.uint64) > np.uint64(now_ns + MAX_AHEAD_NS)
    if some(bad):
        raise out_of_range(batch, int(bad.argmax()))
    times = moments(batch)
    if rules.stale_ns is not None and rules.sought & STALE:
        found.add(STALE, times < now_ns - rules.stale_ns)
    if rules.future_ns is not None and rules.sought & FUTURE:
        found.add(FUTURE, times > now_ns + rules.future_ns)


def _add_no_price(batch: Batch, name: str, unknown: Mask, directory: Directory, rules: Rules, found: Findings) -> None:
    prices = batch[name]
    none = prices <= 0
    if some(none):
        # Of an unknown instrument nothing says that it may be negative; 0 is the index of no instrument.
        ids = np.where(unknown, np.uint32(0), batch["instrument_id"])
        none &= ~directory.takes_negative_prices(ids) | (prices == _LEAST)
    if rules.refused & NOT_A_PRICE and some(none):
        raise not_a_price(batch, int(none.argmax()), name)
    if batch.kind is not Kind.QUOTE:
        absent = prices == ABSENT
        if "action" in batch.columns:
            absent &= batch["action"] != CANCEL
        if rules.refused & NOT_A_PRICE and some(absent):
            raise not_a_price(batch, int(absent.argmax()), name)
        none |= absent
    found.add(NOT_A_PRICE, none)


def _add_sides(batch: Batch, sought: int, found: Findings) -> None:
    bid, ask = batch["bid_price"], batch["ask_price"]
    there = bid != ABSENT
    found.add(sought & CROSSED, (bid > ask) & there)
    if sought & LOCKED:
        found.add(LOCKED, (bid == ask) & there)
    if sought & MISSING_SIDE:
        found.add(MISSING_SIDE, ~there | (ask == ABSENT))
