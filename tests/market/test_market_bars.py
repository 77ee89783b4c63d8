"""Bars from ticks, against an oracle that goes row by row with Python's integers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import databento_dbn as dbn
import numpy as np
import pandas as pd
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.columns import ABSENT, NANOS
from mda.feeds.dbn import open_dbn
from mda.market.bar_sums import BarSums, merge, sum_rows
from mda.market.bars import ALL_INSTRUMENTS, Bars, Empty, Fill, Gaps, Grid, State, finish
from mda.market.exact import MAX_ROWS
from mda.market.intervals import Interval, Periods
from mda.market.sessions import DAY_NS, Session
from mda.market.ticks import Ticks, quote_mids

DATA = Path(__file__).parents[3] / "shared/data"
MINUTE = Interval.parse("1m")
SECOND = Interval.parse("1s")
MIDNIGHT = int(datetime(2024, 3, 9, tzinfo=UTC).timestamp()) * NANOS
CHICAGO = Session("America/Chicago", time(17), time(16))
LONDON = Session("Europe/London")

Row = tuple[int, int, int, int, int, int]  # instrument, time, sequence, row, price, size
DTYPES = ("u4", "i8", "i8", "i4", "i8", "i8")


def ticks_of(rows: list[Row]) -> Ticks:
    return Ticks(*(np.array([row[place] for row in rows], dtype=dtype) for place, dtype in enumerate(DTYPES)))


def rows_of(ticks: Ticks) -> list[Row]:
    columns = (ticks.instrument_id, ticks.ts_event, ticks.tape_sequence, ticks.tape_row, ticks.price, ticks.size)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@dataclass
class Bar:
    """A bar of the oracle."""

    rows: list[Row] = field(default_factory=list)

    def told(self) -> tuple[int, ...]:
        rows = sorted(self.rows, key=lambda row: row[1:4])
        prices = [row[4] for row in rows]
        sizes = [0 if row[5] == ABSENT else row[5] for row in rows]
        volume, turnover = sum(sizes), sum(price * size for price, size in zip(prices, sizes, strict=True))
        vwap = round(Fraction(turnover, volume)) if volume > 0 else ABSENT
        if not -ABSENT <= vwap < ABSENT:
            vwap = ABSENT
        sequences = [row[2] for row in rows]
        ends = min(sequences), max(sequences)
        return prices[0], max(prices), min(prices), prices[-1], volume, turnover, vwap, len(rows), *ends


def start_of(interval: Interval, session: Session, time_ns: int) -> int | None:
    """Return when the bar of a time starts; None where there is none."""
    if not interval.daily:
        return time_ns - time_ns % interval.ns
    for day in session.days(time_ns, time_ns + 1).starts.tolist():
        return day
    return None


def oracle(rows: list[Row], interval: Interval, session: Session) -> dict[tuple[int, int], tuple[int, ...]]:
    bars: dict[tuple[int, int], Bar] = {}
    for row in rows:
        start = start_of(interval, session, row[1])
        if row[4] != ABSENT and start is not None:
            bars.setdefault((row[0], start), Bar()).rows.append(row)
    return {key: bars[key].told() for key in sorted(bars)}


def told(bars: Bars) -> dict[tuple[int, int], tuple[int, ...]]:
    columns = [bars.open, bars.high, bars.low, bars.close]
    wide = [bars.volume.to_ints(), bars.turnover.to_ints()]
    rest = [bars.vwap, bars.count, bars.tape_first, bars.tape_last]
    values = zip(*(c.tolist() for c in columns), *wide, *(c.tolist() for c in rest), strict=True)
    return dict(zip(zip(bars.instrument_id.tolist(), bars.start.tolist(), strict=True), values, strict=True))


def finished(sums: BarSums, periods: Periods) -> dict[tuple[int, int], tuple[int, ...]]:
    instruments = np.unique(sums.instrument_id)
    grid = Grid(instruments, periods, MIDNIGHT - 30 * DAY_NS, MIDNIGHT + 30 * DAY_NS)
    return told(finish(sums, grid))


def periods_of(interval: Interval, session: Session) -> Periods:
    return interval.periods(session, MIDNIGHT - 30 * DAY_NS, MIDNIGHT + 30 * DAY_NS)


PRICES = st.one_of(
    st.integers(-5, 5),
    st.integers(5_000 * NANOS, 5_003 * NANOS),
    st.integers(-(1 << 63), ABSENT),
    st.just(ABSENT),
)
SIZES = st.one_of(st.integers(-3, 3), st.integers(0, 1 << 45), st.integers(0, ABSENT), st.just(ABSENT))
TIMES = st.one_of(
    st.integers(0, 5).map(lambda n: MIDNIGHT + n),
    st.integers(0, 300 * NANOS).map(lambda n: MIDNIGHT + n),
    st.integers(-5 * DAY_NS, 5 * DAY_NS).map(lambda n: MIDNIGHT + n),
    st.integers(-200, 200).map(lambda n: MIDNIGHT + n * 900 * NANOS),
)
INSTRUMENTS = st.sampled_from([1, 2, 3, 70_000])
ROWS = st.lists(
    st.tuples(INSTRUMENTS, TIMES, st.integers(0, 3), st.integers(0, 1 << 30), PRICES, SIZES),
    max_size=40,
    unique_by=lambda row: row[2:4],  # a place on the tape is one row's
)
INTERVALS = st.sampled_from([SECOND, MINUTE, Interval.parse("15m"), Interval.parse("4h"), Interval.parse("1d")])
SESSIONS = st.sampled_from([Session(), CHICAGO, LONDON, Session("Asia/Kolkata", time(9, 15), time(15, 30))])


@settings(max_examples=200)
@given(ROWS, INTERVALS, SESSIONS, st.sampled_from(["as they come", "tape", "time", "bar"]))
def test_bars_are_those_of_the_oracle(rows: list[Row], interval: Interval, session: Session, order: str) -> None:
    keys = {"tape": lambda row: row[2:4], "time": lambda row: row[1:4], "bar": lambda row: row[:4]}
    if order in keys:
        rows = sorted(rows, key=keys[order])
    periods = periods_of(interval, session)
    assert finished(sum_rows(ticks_of(rows), periods), periods) == oracle(rows, interval, session)


@given(ROWS, INTERVALS, SESSIONS, st.integers(1, 6), st.randoms())
def test_parts_are_merged_in_any_split_and_order(
    rows: list[Row], interval: Interval, session: Session, pieces: int, random: st.DataObject
) -> None:
    periods = periods_of(interval, session)
    parts: list[list[Row]] = [[] for _ in range(pieces)]
    for row in rows:
        random.choice(parts).append(row)
    sums = [sum_rows(ticks_of(part), periods) for part in parts]
    expected = oracle(rows, interval, session)
    assert finished(merge(sums), periods) == expected
    random.shuffle(sums)
    while len(sums) > 1:  # two by two
        sums.append(merge([sums.pop(0), sums.pop(0)]))
    assert finished(sums[0], periods) == expected


def many(rows: int, instruments: int) -> Ticks:
    random = np.random.default_rng(rows)
    places = np.arange(rows)
    return Ticks(
        random.integers(1, instruments + 1, rows).astype(np.uint32),
        MIDNIGHT + np.sort(random.integers(0, 600 * NANOS, rows)),
        places // 1_000 + 7,
        (places % 1_000).astype(np.int32),
        random.integers(4_000, 6_000, rows) * NANOS,
        random.integers(0, 1_000, rows) * NANOS,
    )


@pytest.mark.parametrize("order", ["tape", "bar", "backwards"])
def test_more_rows_than_a_block_are_summed(order: str) -> None:
    ticks = many(MAX_ROWS * 2 + 5, 3)
    if order == "bar":
        ticks = ticks[np.argsort(ticks.instrument_id, kind="stable")]
    elif order == "backwards":
        ticks = ticks[::-1]
    assert finished(sum_rows(ticks, MINUTE), MINUTE) == oracle(rows_of(ticks), MINUTE, Session())


def test_ticks_out_of_all_trading_days_are_left_out() -> None:
    days = CHICAGO.days(MIDNIGHT, MIDNIGHT + DAY_NS)
    between = (int(days.ends[0]), 1, 0, 5, 1)
    assert len(sum_rows(ticks_of([(1, *between)]), days)) == 0
    assert len(sum_rows(ticks_of([(1, *between), (1, int(days.ends[0]) - 1, 1, 1, 5, 1)]), days)) == 1


@pytest.mark.parametrize(("session", "day", "hours"), [(LONDON, "2024-03-31", 23), (LONDON, "2024-10-27", 25)])
def test_a_daily_bar_is_as_long_as_its_day(session: Session, day: str, hours: int) -> None:
    start = int(datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(session.time_zone)).timestamp()) * NANOS
    end = start + hours * 3_600 * NANOS
    periods = Interval.parse("1d").periods(session, start, end)
    ticks = ticks_of(
        [(1, start - 1, 1, 0, 1, 1), (1, start, 1, 1, 2, 1), (1, end - 1, 1, 2, 3, 1), (1, end, 1, 3, 4, 1)]
    )
    bars = finish(sum_rows(ticks, periods), Grid(np.array([1], dtype=np.uint32), periods, start, end))
    assert (bars.open.tolist(), bars.close.tolist(), bars.count.tolist()) == ([2], [3], [2])
    assert (bars.start.tolist(), bars.end.tolist(), bars.state.tolist()) == ([start], [end], [State.FINAL])


@given(ROWS)
def test_bars_of_quotes_are_of_their_middles(rows: list[Row]) -> None:
    bids = np.array([row[4] for row in rows], dtype=np.int64)
    asks = np.array([row[5] for row in rows], dtype=np.int64)
    ticks = ticks_of(rows)
    mids = quote_mids(ticks.instrument_id, ticks.ts_event, ticks.tape_sequence, ticks.tape_row, bids, asks)
    expected = [
        (*row[:4], round(Fraction(row[4] + row[5], 2)), 0) for row in rows if row[4] != ABSENT and row[5] != ABSENT
    ]
    assert finished(sum_rows(mids, MINUTE), MINUTE) == oracle(expected, MINUTE, Session())


# --- the grid, and why bars are as they are ---

M = MINUTE.ns
IDS = np.array([1, 2], dtype=np.uint32)


def two_bars() -> BarSums:
    """Instrument 1 has bars in the second and the fourth minute, 2 in the first; 3 is not asked for."""
    return sum_rows(
        ticks_of(
            [
                (1, MIDNIGHT + M, 1, 0, 10, 2),
                (1, MIDNIGHT + M + 1, 1, 1, 13, 2),
                (1, MIDNIGHT + 3 * M, 1, 2, 30, ABSENT),
                (2, MIDNIGHT + 5, 1, 3, 50, 1),
                (3, MIDNIGHT + 5, 1, 4, 60, 1),
                (1, MIDNIGHT + 9 * M, 1, 5, 70, 1),
            ]
        ),
        MINUTE,
    )


def grid(start_ns: int = MIDNIGHT, end_ns: int = MIDNIGHT + 4 * M) -> Grid:
    return Grid(IDS, MINUTE, start_ns, end_ns)


def test_bars_without_rows_are_left_out() -> None:
    bars = finish(two_bars(), grid())
    assert len(bars) == 3
    assert list(told(bars)) == [(1, MIDNIGHT + M), (1, MIDNIGHT + 3 * M), (2, MIDNIGHT)]
    assert bars.vwap.tolist() == [12, ABSENT, 50]  # 11.5 to even
    assert set(bars.empty.tolist()) == {Empty.NOT}


def test_bars_without_rows_have_no_prices() -> None:
    assert grid().size == 8
    bars = finish(two_bars(), grid(), Fill.NULL)
    assert bars.instrument_id.tolist() == [1] * 4 + [2] * 4
    assert (bars.start - MIDNIGHT).tolist() == [0, M, 2 * M, 3 * M] * 2
    assert bars.open.tolist() == [ABSENT, 10, ABSENT, 30, 50, ABSENT, ABSENT, ABSENT]
    assert bars.count.tolist() == [0, 2, 0, 1, 1, 0, 0, 0]
    assert bars.volume.to_ints() == [0, 4, 0, 0, 1, 0, 0, 0]
    assert bars.tape_last.tolist() == [ABSENT, 1, ABSENT, 1, 1, ABSENT, ABSENT, ABSENT]
    no, some = Empty.NO_TRADES, Empty.NOT
    assert bars.empty.tolist() == [no, some, no, some, some, no, no, no]


@pytest.mark.parametrize("previous", [None, np.array([5, 6])])
def test_bars_without_rows_have_the_close_before(previous: np.ndarray | None) -> None:
    bars = finish(two_bars(), grid(), Fill.PREVIOUS, previous=previous)
    first = ABSENT if previous is None else 5
    assert bars.close.tolist() == [first, 13, 13, 30, 50, 50, 50, 50]
    assert bars.open.tolist() == [first, 10, 13, 30, 50, 50, 50, 50]
    assert bars.high.tolist() == [first, 13, 13, 30, 50, 50, 50, 50]
    assert bars.low.tolist() == [first, 10, 13, 30, 50, 50, 50, 50]
    assert bars.vwap.tolist() == [ABSENT, 12, ABSENT, ABSENT, 50, ABSENT, ABSENT, ABSENT]
    assert bars.count.tolist() == [0, 2, 0, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("fill", Fill)
def test_a_grid_of_nothing_has_no_bars(fill: Fill) -> None:
    assert len(finish(two_bars(), grid(MIDNIGHT, MIDNIGHT), fill)) == 0
    assert len(finish(two_bars(), Grid(IDS[:0], MINUTE, MIDNIGHT, MIDNIGHT + M), fill)) == 0
    empty = finish(merge([]), grid(), fill)
    assert len(empty) == (0 if fill is Fill.NONE else 8)
    assert set(empty.close.tolist()) <= {ABSENT}


def test_bars_that_can_change_or_are_cut_are_partial() -> None:
    final, partial = State.FINAL, State.PARTIAL
    bars = finish(two_bars(), grid(MIDNIGHT + 1, MIDNIGHT + 4 * M - 1), Fill.NULL)
    assert bars.state.tolist() == [partial, final, final, partial] * 2
    bars = finish(two_bars(), grid(), Fill.NULL, watermark_ns=MIDNIGHT + 3 * M)
    assert bars.state.tolist() == [final, final, final, partial] * 2
    bars = finish(two_bars(), grid(), watermark_ns=MIDNIGHT + 2 * M - 1)
    assert bars.state.tolist() == [partial, partial, final]


def test_gaps_tell_why_bars_are_empty() -> None:
    gaps = Gaps(
        np.array([1, 2, 2], dtype=np.uint32),
        np.array([MIDNIGHT + M - 1, MIDNIGHT + M, MIDNIGHT + 3 * M + 5]),
        np.array([MIDNIGHT + M + 1, MIDNIGHT + 2 * M, ABSENT]),
    )
    bars = finish(two_bars(), grid(), Fill.NULL, gaps=gaps)
    assert bars.in_gap.tolist() == [True, True, False, False, False, True, False, True]
    no, gap, some = Empty.NO_TRADES, Empty.GAP, Empty.NOT
    assert bars.empty.tolist() == [gap, some, no, some, some, gap, no, gap]
    everyone = Gaps(np.array([ALL_INSTRUMENTS], dtype=np.uint32), gaps.start[1:2], gaps.end[1:2])
    bars = finish(two_bars(), grid(), gaps=everyone)
    assert bars.in_gap.tolist() == [True, False, False]


def test_bars_out_of_the_session_are_closed() -> None:
    session = Session(opens=time(0, 1, 30), closes=time(0, 3))
    gaps = Gaps(np.array([0], dtype=np.uint32), np.array([MIDNIGHT]), np.array([ABSENT]))
    bars = finish(two_bars(), grid(), Fill.NULL, session=session, gaps=gaps)
    closed, gap, some = Empty.CLOSED, Empty.GAP, Empty.NOT
    assert bars.empty.tolist() == [closed, some, gap, some, some, gap, gap, closed]


def test_sums_of_other_bars_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^sums: they are not of the grid's bars"):
        finish(sum_rows(ticks_of([(1, MIDNIGHT + NANOS, 1, 0, 5, 1)]), SECOND), grid())


def test_instruments_have_to_be_ascending() -> None:
    with pytest.raises(ValueError, match=r"^instruments: they are not ascending"):
        Grid(IDS[::-1], MINUTE, 0, 1)


SPANS = st.tuples(st.integers(-2, 12), st.integers(0, 9)).map(lambda span: (span[0] * 30, (span[0] + span[1]) * 30))


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2]), SPANS), max_size=8), st.sampled_from(list(Fill)))
def test_bars_in_a_gap_are_those_that_share_time_with_one(gaps: list[tuple[int, tuple[int, int]]], fill: Fill) -> None:
    columns = Gaps(
        np.array([who for who, _ in gaps], dtype=np.uint32),
        np.array([MIDNIGHT + start * NANOS for _, (start, _) in gaps], dtype=np.int64),
        np.array([MIDNIGHT + end * NANOS for _, (_, end) in gaps], dtype=np.int64),
    )
    bars = finish(two_bars(), grid(), fill, gaps=columns)
    for who, start, found in zip(*(c.tolist() for c in (bars.instrument_id, bars.start, bars.in_gap)), strict=True):
        begin = (start - MIDNIGHT) // NANOS
        shared = [
            max(begin, a) < min(begin + 60, b) or (a == b and begin < a < begin + 60)  # a moment counts within a bar
            for gap_of, (a, b) in gaps
            if gap_of in {0, who}
        ]
        assert found == any(shared)


# --- intervals ---


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("30s", 30), ("1m", 60), ("90m", 5_400), ("4h", 14_400), ("24h", 86_400), ("1d", 86_400)],
)
def test_intervals_are_read(text: str, seconds: int) -> None:
    interval = Interval.parse(text)
    assert interval.ns == seconds * NANOS
    assert interval.daily == (seconds == 86_400)


@pytest.mark.parametrize("text", ["", "1", "m", "1.5s", "-1s", " 1s", "1S", "1w", "1" * 99 + "s"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^interval: .* Send one that is, such as 30s or 1m"):
        Interval.parse(text)


@pytest.mark.parametrize("ns", [0, -NANOS, 1, NANOS - 1, NANOS + 1, 7 * NANOS, 25 * 3_600 * NANOS, 2 * DAY_NS])
def test_an_interval_that_does_not_divide_a_day_is_refused(ns: int) -> None:
    with pytest.raises(ValueError, match=r"^interval: .* whole seconds that divide a day. Send one that does"):
        Interval(ns)


def test_bars_are_aligned_to_the_epoch() -> None:
    assert list(MINUTE.between(-1, 1)) == [-1, 0]
    assert list(MINUTE.between(M, 2 * M)) == [1]
    assert list(MINUTE.between(M, M)) == []
    assert MINUTE.starts_of(MINUTE.numbers(np.array([-1, 0, M - 1]))).tolist() == [-M, 0, 0]


# --- real data ---


@pytest.mark.skipif(not DATA.is_dir(), reason="the real files are not here")
def test_bars_of_real_trades_are_the_vendors_own() -> None:
    (trades,) = DATA.glob("*.trades.*.dbn.zst")
    batches = list(open_dbn(trades).batches({"ESU4": 1}))
    parts = [
        Ticks(
            batch["instrument_id"],
            batch["ts_event"],
            np.full(batch.rows, sequence, dtype=np.int64),
            np.arange(batch.rows, dtype=np.int32),
            batch["price"],
            batch["size"],
        )
        for sequence, batch in enumerate(batches)
    ]
    sums = merge([sum_rows(part, MINUTE) for part in parts])
    start_ns, end_ns = int(sums.start.min()), int(sums.start.max()) + M
    bars = finish(sums, Grid(np.array([1], dtype=np.uint32), MINUTE, start_ns, end_ns))
    columns = (bars.start, bars.open, bars.high, bars.low, bars.close, np.array(bars.volume.to_ints()) // NANOS)
    ours = list(zip(*(column.tolist() for column in columns), strict=True))
    assert len(ours) == 4
    # The vendor's file has more minutes than that of the trades.
    assert ours == [bar for bar in vendors_bars("ESU4") if start_ns <= bar[0] < end_ns]


def vendors_bars(symbol: str) -> list[tuple[int, ...]]:
    (path,) = DATA.glob("*.ohlcv-1m.*.dbn.zst")
    decoder = dbn.DBNDecoder()
    with path.open("rb") as file:
        decoder.write(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read())
    metadata, *bars = decoder.decode()
    wanted = int(metadata.mappings[symbol][0]["symbol"])
    return [
        (bar.ts_event, bar.open, bar.high, bar.low, bar.close, bar.volume)
        for bar in bars
        if bar.instrument_id == wanted
    ]


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from([1, 2]),
            st.integers(-5 * DAY_NS, 5 * DAY_NS).map(lambda n: MIDNIGHT + n),
            st.integers(1, 1 << 40),
            st.integers(0, 1 << 40),
        ),
        min_size=1,
        max_size=60,
    ),
    interval=st.sampled_from(["1s", "30s", "1m", "15m", "4h", "1d"]),
    zone=st.sampled_from(["UTC", "Europe/London", "America/Chicago", "Asia/Kolkata"]),
)
def test_bars_are_those_of_pandas(rows: list[tuple[int, int, int, int]], interval: str, zone: str) -> None:
    """Days are those of a zone, of which one has 23 hours here."""
    count = len(rows)
    ticks = ticks_of([(i, at, place, 0, price, size) for place, (i, at, price, size) in enumerate(rows)])
    periods = periods_of(Interval.parse(interval), Session(zone))
    found = {key: (*bar[:5], bar[7]) for key, bar in finished(sum_rows(ticks, periods), periods).items()}
    frame = pd.DataFrame({"id": ticks.instrument_id, "price": ticks.price, "size": ticks.size, "at": ticks.ts_event})
    frame["at"] = pd.to_datetime(frame["at"], utc=True).dt.tz_convert(zone)
    frame["place"] = range(count)
    frame = frame.sort_values(["at", "place"])
    rule = "1D" if interval == "1d" else interval.replace("m", "min")
    offset = {} if interval == "1d" else {"origin": pd.Timestamp(0, tz="UTC")}
    groups = frame.groupby("id").resample(rule, on="at", include_groups=False, **offset)
    bars = groups.agg(
        open=("price", "first"),
        high=("price", "max"),
        low=("price", "min"),
        close=("price", "last"),
        volume=("size", "sum"),
        count=("price", "count"),
    )
    bars = bars[bars["count"] > 0]
    starts = bars.index.get_level_values("at").tz_convert("UTC").as_unit("ns").asi8
    keys = zip(bars.index.get_level_values("id"), starts, strict=True)
    expected = {
        (int(i), int(start)): tuple(map(int, values)) for (i, start), values in zip(keys, bars.to_numpy(), strict=True)
    }
    assert found == expected
