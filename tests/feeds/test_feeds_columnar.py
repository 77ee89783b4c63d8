"""Files of rows in columns, and how their columns become ours."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from marketdata.columns import ABSENT, NANOS, Batch, Kind, concatenate, make_batch
from mda.cli.row_files import Format, open_row_file, schema_of, to_rows
from mda.feeds.columnar import ColumnFile, open_columnar
from mda.feeds.dbn import ROWS_AT_ONCE, FileError
from mda.feeds.mapping import ColumnMapping, MappingError, guess, read_mapping

T_NS = 1_767_225_600_123_456_789
QUOTES = ColumnMapping("quotes", {"ts_event": "t", "bid_price": "bid"}, "sym", times="ns")


def _csv(path: Path, text: str) -> ColumnFile:
    path.write_text(text)
    return open_columnar(path)


def _all(file: ColumnFile, mapping: ColumnMapping) -> tuple[Batch, list[str]]:
    pieces = list(file.pieces(mapping))
    return concatenate([piece.batch for piece in pieces]), pieces[-1].symbols


def _guessed(file: ColumnFile, **known: Any) -> ColumnMapping:
    return guess(file.schema(), file.head(), **{"kind": None, "only_symbol": None, **known})


@pytest.mark.parametrize("form", [Format.CSV, Format.PARQUET, Format.ARROW])
@pytest.mark.parametrize("kind", Kind)
def test_what_mda_export_writes_is_read_back(tmp_path: Path, form: Format, kind: Kind) -> None:
    numbers = np.arange(1, 5)
    prices = numbers * NANOS // 7
    more = {
        Kind.QUOTE: {"bid_price": prices, "bid_size": [ABSENT, 1, 2, 3]},
        Kind.TRADE: {"price": prices, "side": [0, 1, 2, 1]},
        Kind.BAR: dict.fromkeys(("open", "high", "low", "close"), prices)
        | {"volume": [1, ABSENT, 3, 4], "interval_ns": numbers * NANOS, "trade_count": [ABSENT, 2, 3, 4]},
    }[kind]
    common = {"instrument_id": [1, 2, 1, 2], "ts_event": numbers + T_NS, "ts_recv": numbers + T_NS, "sequence": numbers}
    made = make_batch(kind, common | more)
    path = tmp_path / f"x.{form}"
    schema = schema_of(kind, "SIM")
    with path.open("wb") as sink:
        file = open_row_file(form, sink, schema)
        file.write(to_rows(made, pa.array([None, "A", "B/C"]), schema))
        file.close()
    opened = open_columnar(path)
    mapping = _guessed(opened)
    assert (mapping.times, mapping.prices) == ("ns", "whole" if form is Format.CSV else "nanos")
    read, symbols = _all(opened, mapping)
    assert opened.read_bytes == opened.size
    assert (read.kind, symbols) == (kind, ["A", "B/C"])
    assert read["instrument_id"].tolist() == [0, 1, 0, 1]
    for name in set(made.columns) - {"instrument_id", "verdicts"}:
        assert read[name].tolist() == made[name].tolist(), name


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ("2026-01-02T10:00:00Z 2026-01-02T10:00:00Z 2026-01-02T10:05:00Z", 300),
        ("1767348000000 1767348060000 1767348180000", 60),
        ("2026-01-02T10:00:00Z", None),
    ],
)
def test_bars_are_as_long_as_from_one_to_the_next(tmp_path: Path, times: str, seconds: int | None) -> None:
    rows = [f"{symbol},{time},1.5,3,1,2,7" for symbol, time in zip("ABA", times.split(), strict=False)]
    file = _csv(tmp_path / "bars.csv", "\n".join(["symbol,time,Open,High,Low,Close,Volume", *rows]))
    if seconds is None:
        with pytest.raises(MappingError, match="nothing is interval_ns"):
            _guessed(file)
        return
    mapping = _guessed(file)
    assert (mapping.kind, mapping.interval_s) == ("bars", seconds)
    batch, _ = _all(file, mapping)
    assert set(batch["interval_ns"].tolist()) == {seconds * NANOS}
    assert (batch["open"][0], batch["volume"][0]) == (1_500_000_000, 7 * NANOS)


TEXT = """Ticker,Timestamp,Bid,Ask,Bid Qty,note
A,2026-01-01T00:00:00.123456789Z,1.5,2,,x
B,2026-01-01T00:00:01Z,,3.25,7,y
"""


@pytest.mark.parametrize(
    ("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".zst", zstandard.ZstdCompressor().compress)]
)
def test_a_csv_of_others_is_guessed(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"q.csv{suffix}"
    path.write_bytes(pack(TEXT.encode()))
    file = open_columnar(path)
    mapping = _guessed(file)
    assert mapping.columns == {"ts_event": "Timestamp", "bid_price": "Bid", "ask_price": "Ask", "bid_size": "Bid Qty"}
    assert (mapping.kind, mapping.symbol, mapping.times) == ("quotes", "Ticker", "time")
    read, symbols = _all(file, mapping)
    assert symbols == ["A", "B"]
    assert read["ts_event"].tolist() == [T_NS, T_NS - 123_456_789 + NANOS]
    assert read["bid_price"].tolist() == [1_500_000_000, ABSENT]
    assert read["bid_size"].tolist() == [ABSENT, 7 * NANOS]
    assert read["ask_price"].tolist() == [2 * NANOS, 3_250_000_000]


@pytest.mark.parametrize(("unit", "factor"), [("s", NANOS), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)])
def test_numbers_that_are_times_tell_their_unit(tmp_path: Path, unit: str, factor: int) -> None:
    file = _csv(tmp_path / "t.csv", f"time,price,sym\n{T_NS // factor},5,A\n")
    mapping = _guessed(file)
    assert (mapping.times, mapping.kind) == (unit, "trades")
    assert _all(file, mapping)[0]["ts_event"].tolist() == [T_NS // factor * factor]


def test_values_of_all_types_become_units(tmp_path: Path) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    table = pa.table(
        {
            "time": pa.array([at, at], pa.timestamp("us", "America/Chicago")),
            "price": pa.array([Decimal("1.000000001"), Decimal("-2.5")]),
            "size": [0.1 + 0.2, float("nan")],
            "side": pa.array(["Buy", None]).dictionary_encode(),
            "seq": pa.array([1, None], pa.int32()),
        }
    )
    path = tmp_path / "t.parquet"
    pq.write_table(table, path)
    file = open_columnar(path)
    read, symbols = _all(file, _guessed(file, only_symbol="ES"))
    assert symbols == ["ES"]
    assert read["ts_event"].tolist() == [1_767_225_600 * NANOS] * 2
    assert read["price"].tolist() == [1_000_000_001, -2_500_000_000]
    assert read["size"].tolist() == [300_000_000, ABSENT]
    assert read["side"].tolist() == [1, 0]
    assert read["sequence"].tolist() == [1, ABSENT]


def test_an_arrow_stream_is_read_too(tmp_path: Path) -> None:
    table = pa.table({"sym": ["A", "B"], "t": [1, 2], "bid": [1.0, 2.0]})
    packed = io.BytesIO()
    with pa.ipc.new_stream(packed, table.schema) as writer:
        writer.write_table(table)
    path = tmp_path / "q.arrows.gz"
    path.write_bytes(gzip.compress(packed.getvalue()))
    assert _all(open_columnar(path), QUOTES)[0]["bid_price"].tolist() == [NANOS, 2 * NANOS]


def test_batches_are_of_one_size_however_the_file_is_cut(tmp_path: Path) -> None:
    rows = 3 * ROWS_AT_ONCE + 7
    table = pa.table({"sym": ["A"] * rows, "t": np.arange(rows), "bid": np.arange(rows)})
    found: list[list[int]] = []
    for cut in (777, 40_000):
        path = tmp_path / f"{cut}.parquet"
        pq.write_table(table, path, row_group_size=cut)
        file = open_columnar(path)
        pieces = list(file.pieces(QUOTES))
        found.append([piece.batch.rows for piece in pieces])
        assert concatenate([piece.batch for piece in pieces])["ts_event"].tolist() == [*range(rows)]
    assert found == [[ROWS_AT_ONCE] * 3 + [7]] * 2


def test_the_name_is_of_content_and_mapping(tmp_path: Path) -> None:
    one, same, other = (_csv(tmp_path / f"{n}.csv", f"sym,t,bid\nA,1,{n // 2}\n") for n in range(3))
    assert one.producer(QUOTES) == same.producer(QUOTES) != other.producer(QUOTES)
    assert one.producer(QUOTES) != one.producer(ColumnMapping("quotes", {"ts_event": "t"}, "sym"))


def test_how_much_was_read_is_told(tmp_path: Path) -> None:
    file = _csv(tmp_path / "q.csv", "sym,t,bid\n" + "A,1,2\n" * 50_000)
    read = [file.read_bytes for _ in file.pieces(QUOTES)]
    assert 0 < read[0] <= read[-1] <= file.size


def test_a_mapping_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(QUOTES.to_yaml())
    assert read_mapping(path) == QUOTES
    for text in ("[1]", "kind: quotes\ncolour: red\n", ":\n -"):
        path.write_text(text)
        with pytest.raises(MappingError, match="no mapping file"):
            read_mapping(path)
    with pytest.raises(MappingError, match="no mapping file"):
        read_mapping(tmp_path / "none")


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (ColumnMapping("candles"), "'candles' is none of quotes, trades, bars"),
        (ColumnMapping("quotes", {"ts_event": "t"}, "sym", times="days"), "times are one of"),  # type: ignore[arg-type]
        (ColumnMapping("quotes", {"price": "t"}, "sym"), "quotes have no price. There are ask_price"),
        (ColumnMapping("trades", {"ts_event": "t"}, "sym"), "nothing is price"),
        (ColumnMapping("quotes", {"ts_event": "t"}), "whose the rows are"),
        (ColumnMapping("quotes", {"ts_event": "t"}, "sym", "A"), "exclude each other"),
        (ColumnMapping("quotes", {"ts_event": "when"}, "who"), "the file has no when, who. It has sym, t"),
    ],
)
def test_a_mapping_that_does_not_fit_says_why(mapping: ColumnMapping, message: str) -> None:
    with pytest.raises(MappingError, match=message):
        mapping.check(pa.schema([("sym", pa.string()), ("t", pa.int64())]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: quotes\n", "it has no kind. It may have kind, columns"),
        ("- quotes\n", "it has no kind"),
        ("kind: quotes\ncolumn: {}\n", "there is no column. It may have kind, columns"),
        ("kind: [", "is no mapping file"),
    ],
)
def test_a_file_that_is_no_mapping_says_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(MappingError, match=message):
        read_mapping(path)


@pytest.mark.parametrize("form", ["csv", "parquet", "arrow"])
def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"x.{form}"
    path.write_bytes(b"\xff")
    with pytest.raises(FileError, match=f"x.{form} cannot be read as {form}|x.{form} has no rows"):
        open_columnar(path).schema()


def test_too_little_to_guess_from(tmp_path: Path) -> None:
    file = _csv(tmp_path / "x.csv", "colour,weight\nred,1\n")
    with pytest.raises(MappingError, match="nothing is price or ts_event"):
        _guessed(file)
    with pytest.raises(MappingError, match="none of quotes, trades, bars"):
        _guessed(file, kind="candles")


@pytest.mark.parametrize(
    ("text", "mapping", "message"),
    [
        ("sym,t,bid\nA,x,1\n", QUOTES, "cannot be read as csv.*invalid value 'x'"),
        ("sym,t,bid\nA,1,9223372037\n", QUOTES, "too large for units of 1e-9"),
        ("sym,t,bid\n,1,1\n", QUOTES, "without a symbol"),
        ("sym,t,bid\n", QUOTES, None),
        (
            "sym,t,bid\nA,2026-01-01 00:00:00,1\n",
            ColumnMapping("quotes", {"ts_event": "t"}, "sym", times="time"),
            "zone",
        ),
    ],
)
def test_values_that_are_wrong_are_told(tmp_path: Path, text: str, mapping: ColumnMapping, message: str | None) -> None:
    file = _csv(tmp_path / "q.csv", text)
    if message is None:
        assert list(file.pieces(mapping)) == []
        with pytest.raises(FileError, match="no rows"):
            file.head()
        return
    with pytest.raises(FileError, match=message):
        list(file.pieces(mapping))


def test_times_without_a_zone_are_utc_if_that_is_said(tmp_path: Path) -> None:
    file = _csv(tmp_path / "t.csv", "time,price,symbol\n2026-01-01 00:00:00.5,5,A\n")
    mapping = _guessed(file)
    assert mapping.times == "utc"
    assert _all(file, mapping)[0]["ts_event"].tolist() == [1_767_225_600 * NANOS + NANOS // 2]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"t": pa.array([0], pa.timestamp("s")), "sym": ["A"]}), path)
    for times, message in (("time", "has no time zone"), ("ns", None)):
        zoned = ColumnMapping("quotes", {"ts_event": "t"}, "sym", times=times)  # type: ignore[arg-type]
        if message:
            with pytest.raises(FileError, match=message):
                _all(open_columnar(path), zoned)
    wrong = ColumnMapping("quotes", {"ts_event": "sym"}, "sym", times="time")
    with pytest.raises(FileError):
        _all(open_columnar(path), wrong)


def test_prices_that_floats_cannot_hold_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"t": [1], "sym": ["A"], "bid": [1e10]}), path)
    with pytest.raises(FileError, match="bid_price: a value is too large"):
        _all(open_columnar(path), QUOTES)


def test_a_file_that_tells_no_format_is_asked_for_one(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="give --format"):
        open_columnar(tmp_path / "data")
    assert open_columnar(tmp_path / "data", "csv").form == "csv"
