"""The conformance scenario: what markets and producers do to a client, step by step, from a seed.

A step is a generator of events: batches, and what happens between them. Nothing in it is
refused by a server, so what is published is what a client must receive.

All rows of a scenario that have a `sequence` are numbered in one sequence, and `ts_recv`,
where it is there, never goes back: whoever has rows in another order can see it by that.
A kind, a `sequence` and a `ts_recv` name one row, except in `rows-twice`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from marketdata.columns import ABSENT, MAX_ROWS, NANOS, Batch, Kind, make_batch
from mda.feeds.conformance_rows import AMBER, BASALT, CORAL_DUNE, FIRST, KINDS, NEW, Columns, Source, cut, pick, sizes

_MIN_ROWS: Final = 24
_MANY: Final = 200
"""Rows of an ordinary batch."""
_FEW: Final = 5
_HEARTBEAT_S: Final = 6.0
"""Longer than the 5 seconds after which a server sends a watermark by default."""
_LARGEST: Final = ABSENT - 1
_LEAST: Final = -ABSENT
_LAST_SEQUENCE: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing happens for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class NewInstrument:
    """The instrument of `place` is put; no row before has named it."""

    place: int


@dataclass(frozen=True, slots=True)
class Crash:
    """The producer dies, and another process of its name goes on.

    Attributes
    ----------
    after_s
        How long after the last batch was given to be sent, in seconds; with 0 the newest
        may not even be sent. None for when all batches are acknowledged.
    """

    after_s: float | None


@dataclass(frozen=True, slots=True)
class TwoConnections:
    """A second connection of the producer's name opens while the first one lives.

    Attributes
    ----------
    batch
        The next batch: the older connection sends it and is refused, the newer one sends
        it again.
    """

    batch: Batch


Event = Batch | Pause | NewInstrument | Crash | TwoConnections


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the scenario.

    Attributes
    ----------
    name
        Its name.
    fault
        What a client meets in it, for people.
    share
        Its share of the scenario's rows.
    events
        Makes its events, of a source and about so many rows.
    most
        The most rows of it.
    """

    name: str
    fault: str
    share: float
    events: Callable[[Source, int], Iterator[Event]]
    most: int = 1 << 62

    def rows(self, total: int) -> int:
        """Return about how many rows it has where the scenario has so many."""
        return min(self.most, max(_MIN_ROWS, round(total * self.share)))


def scenario(seed: int, rows: int, start_ns: int) -> Iterator[tuple[Step, Iterator[Event]]]:
    """Yield the steps with their events, which are to be taken in this order.

    Parameters
    ----------
    seed
        The same seed makes the same events.
    rows
        About how many rows there are; a few hundred at least.
    start_ns
        The event time of the first row, in nanoseconds since the epoch.
    """
    source = Source(seed, start_ns)
    for step in STEPS:
        yield step, step.events(source, step.rows(rows))


def _pause(source: Source, seconds: float) -> Pause:
    source.time_ns += round(seconds * NANOS)
    return Pause(seconds)


def _ordinary(source: Source, rows: int) -> Iterator[Event]:
    for batch in source.mixed(rows, _MANY):
        yield batch
        yield _pause(source, 0.02)


def _interleaved(source: Source, rows: int) -> Iterator[Event]:
    for number, size in enumerate(sizes(rows, _FEW)):
        yield source.batch(Kind.TRADE if number % 2 else Kind.QUOTE, size, FIRST)


def _equal_times(source: Source, rows: int) -> Iterator[Event]:
    for kind in KINDS:
        columns = source.rows(kind, rows // 2)
        last = {name: np.full(rows // 2, columns[name][-1]) for name in ("ts_event", "ts_recv")}
        yield from cut(kind, columns | last, sizes(rows // 2, _MANY))


def _hole_filled(source: Source, rows: int) -> Iterator[Event]:
    size = rows // 4
    columns = source.rows(Kind.QUOTE, 4 * size)
    before, first, second, after = (pick(columns, slice(at * size, (at + 1) * size)) for at in range(4))
    yield make_batch(Kind.QUOTE, before)
    yield make_batch(Kind.QUOTE, after)
    yield _pause(source, 0.2)
    yield make_batch(Kind.QUOTE, source.receive(second))  # from the end: the hole shrinks, then closes
    yield from source.mixed(_FEW, _FEW)
    yield make_batch(Kind.QUOTE, source.receive(first))


def _hole_open(source: Source, rows: int) -> Iterator[Event]:
    yield from source.mixed(rows // 2, _MANY)
    source.skip(int(source.random.integers(1, 100)))
    yield from source.mixed(rows - rows // 2, _MANY)


def _late(source: Source, rows: int) -> Iterator[Event]:
    for kind in KINDS:
        columns = source.rows(kind, rows // 4)
        yield make_batch(kind, columns | {"ts_event": columns["ts_event"][::-1].copy()})
        columns = source.rows(kind, rows // 4)
        yield make_batch(kind, columns | {"ts_event": columns["ts_event"] - 5 * NANOS})


def _crossed(source: Source, rows: int) -> Iterator[Event]:
    columns = source.rows(Kind.QUOTE, rows)
    crossed = {"bid_price": columns["ask_price"], "ask_price": columns["bid_price"]}
    yield from cut(Kind.QUOTE, columns | crossed, sizes(rows, _MANY))


def _locked(source: Source, rows: int) -> Iterator[Event]:
    columns = source.rows(Kind.QUOTE, rows)
    yield from cut(Kind.QUOTE, columns | {"ask_price": columns["bid_price"]}, sizes(rows, _MANY))


def _missing_side(source: Source, rows: int) -> Iterator[Event]:
    columns = source.rows(Kind.QUOTE, rows)
    which = np.arange(rows) % 3  # the bid, the ask, both
    for side, other in (("bid", 1), ("ask", 0)):
        for name in (f"{side}_price", f"{side}_size"):
            columns[name] = np.where(which == other, columns[name], ABSENT)
    yield from cut(Kind.QUOTE, columns, sizes(rows, _MANY))


def _numbers_twice(source: Source, rows: int) -> Iterator[Event]:
    for kind in KINDS:
        columns = pick(source.rows(kind, rows // 4), np.repeat(np.arange(rows // 4), 2))
        columns["ts_recv"][1::2] += 1
        yield make_batch(kind, columns)


def _rows_twice(source: Source, rows: int) -> Iterator[Event]:
    for kind in KINDS:
        yield make_batch(kind, pick(source.rows(kind, rows // 4), np.repeat(np.arange(rows // 4), 2)))
        yield from [source.batch(kind, 1)] * 2


def _columns_absent(source: Source, rows: int) -> Iterator[Event]:
    size = rows // 4
    yield from cut(Kind.QUOTE, _without(source.rows(Kind.QUOTE, size), "_size", "ts_recv"), sizes(size, _MANY))
    yield from cut(Kind.TRADE, _without(source.rows(Kind.TRADE, size), "side", "ts_recv"), sizes(size, _MANY))
    for kind in KINDS:
        # Without numbers, so none are used up.
        columns = _unnumbered(source, kind, size)
        yield from cut(kind, _without(columns, "bid_", "size"), sizes(size, _MANY))
    for kind in KINDS:
        yield make_batch(kind, _without(_unnumbered(source, kind, 1), "bid_", "ask_", "size", "side", "ts_recv"))


def _columns_all(source: Source, rows: int) -> Iterator[Event]:
    for kind in KINDS:
        # Verdicts are the server's, which sets its own instead of these.
        columns = source.rows(kind, rows // 2) | {"verdicts": np.full(rows // 2, (1 << 32) - 1, np.uint32)}
        if kind is Kind.TRADE:  # a trade, its cancel, and its correction, over and over
            action = np.arange(rows // 2, dtype=np.uint32) % 3
            refers_to = np.where(action, columns["sequence"] - action, np.uint64(ABSENT))
            columns |= {"action": action, "refers_to": refers_to}
        yield from cut(kind, columns, sizes(rows // 2, _MANY))


def _burst(source: Source, rows: int) -> Iterator[Event]:
    return source.mixed(rows, min(MAX_ROWS, (rows + 1) // 2))  # of both kinds, however few they are


def _storm(source: Source, rows: int) -> Iterator[Event]:
    for kind in KINDS:
        yield from cut(kind, source.rows(kind, rows // 2), sizes(rows // 2, 1))


def _new_instrument(source: Source, rows: int) -> Iterator[Event]:
    yield from source.mixed(_FEW, _FEW)
    yield NewInstrument(NEW)
    yield source.batch(Kind.TRADE, 1, [NEW])
    for kind in KINDS:
        yield from cut(kind, source.rows(kind, rows // 2, [AMBER, NEW, NEW]), sizes(rows // 2, _MANY))


def _long_pause(source: Source, rows: int) -> Iterator[Event]:
    yield from source.mixed(rows // 2, _MANY)
    yield _pause(source, _HEARTBEAT_S)
    yield from source.mixed(rows - rows // 2, _MANY)


def _crash_between(source: Source, rows: int) -> Iterator[Event]:
    for batch in source.mixed(rows, max(_FEW, rows // 4)):
        yield batch
        yield Crash(None)


def _crash_sending(source: Source, rows: int) -> Iterator[Event]:
    for _ in range(2):
        yield from source.mixed(rows // 2, _FEW)
        yield Crash(0.0)


def _crash_unacknowledged(source: Source, rows: int) -> Iterator[Event]:
    for _ in range(4):
        yield from source.mixed(rows // 4, _FEW)
        yield Crash(float(source.random.uniform(0.0002, 0.003)))


def _two_connections(source: Source, rows: int) -> Iterator[Event]:
    yield from source.mixed(rows // 2, _FEW)
    yield TwoConnections(source.batch(Kind.TRADE, _FEW))
    yield from source.mixed(rows // 2, _FEW)


def _extremes(source: Source, rows: int) -> Iterator[Event]:
    quotes = source.rows(Kind.QUOTE, 4, [AMBER, AMBER, CORAL_DUNE, BASALT])
    quotes |= {
        "bid_price": np.array([1, _LARGEST - 1, _LEAST, 1]),
        "bid_size": np.array([_LARGEST, 0, 1, _LARGEST]),
        "ask_price": np.array([2, _LARGEST, _LARGEST, 2]),
        "ask_size": np.array([1, _LARGEST, _LARGEST, 0]),
    }
    yield make_batch(Kind.QUOTE, quotes)
    trades = source.rows(Kind.TRADE, 4, [AMBER, BASALT, CORAL_DUNE, CORAL_DUNE])
    trades |= {
        "price": np.array([1, _LARGEST, _LEAST, 0]),
        "size": np.array([_LARGEST, 1, 0, ABSENT]),
        "side": np.array([0, 1, 2, 0]),
    }
    trades["ts_event"][-1] = 0  # the earliest time that there is
    yield make_batch(Kind.TRADE, trades)
    yield from source.mixed(rows - 9, _MANY)
    last = source.rows(Kind.TRADE, 1) | {"sequence": np.array([_LAST_SEQUENCE], np.uint64)}
    yield make_batch(Kind.TRADE, last)


STEPS: Final = (
    Step("ordinary", "quotes and trades of three instruments, one of them with prices below zero", 0.06, _ordinary),
    Step("interleaved", "instruments row by row and kinds batch by batch, in turn", 0.02, _interleaved),
    Step("equal-times", "rows of one moment", 0.02, _equal_times),
    Step("hole-filled", "numbers are left out; their rows come late, the later half first", 0.02, _hole_filled),
    Step("hole-open", "numbers are left out for good", 0.01, _hole_open),
    Step("late", "event times go back: row by row, and by 5 seconds", 0.02, _late),
    Step("crossed", "the bid is above the ask", 0.01, _crossed),
    Step("locked", "the bid is the ask", 0.01, _locked),
    Step("missing-side", "quotes without a bid, without an ask, without either", 0.01, _missing_side),
    Step("numbers-twice", "each number twice; the second row was received later", 0.01, _numbers_twice),
    Step("rows-twice", "each row twice, the same in all: both count", 0.01, _rows_twice),
    Step("columns-absent", "optional columns are left out, in the last two batches all of them", 0.01, _columns_absent),
    Step("columns-all", "every column is there; trades are cancelled and corrected", 0.01, _columns_all),
    Step("burst", "batches of up to 32,768 rows", 0.66, _burst),
    Step("storm", "batches of one row", 0.02, _storm, most=5_000),
    Step("new-instrument", "an instrument that was not there before", 0.01, _new_instrument),
    Step("pause", "nothing for longer than a heartbeat", 0.01, _long_pause),
    Step("crash-between", "the producer dies between two batches", 0.02, _crash_between),
    Step("crash-sending", "the producer dies while it sends; all, some or none come", 0.01, _crash_sending, most=1_000),
    Step(
        "crash-unacknowledged",
        "the producer dies after it has sent batches and before they are acknowledged",
        0.03,
        _crash_unacknowledged,
        most=2_000,
    ),
    Step(
        "two-connections",
        "a second connection of the producer opens; the older one is fenced off",
        0.01,
        _two_connections,
        most=1_000,
    ),
    Step("extremes", "the largest and smallest values of every column", 0.0, _extremes),
)
"""The scenario's steps, in their order."""


def _without(columns: Columns, *parts: str) -> Columns:
    return {name: values for name, values in columns.items() if not any(part in name for part in parts)}


def _unnumbered(source: Source, kind: Kind, count: int) -> Columns:
    columns = source.rows(kind, count)
    source.skip(-count)
    return _without(columns, "sequence")
