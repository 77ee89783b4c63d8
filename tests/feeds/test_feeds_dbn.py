"""DBN files to instruments and batches; files that are not whole or not ours are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import databento_dbn as dbn
import numpy as np
import pytest
import zstandard
from dbn_files import UNDEFINED, definition, metadata, ohlcv, quote, trade

from marketdata.codec import to_bytes
from marketdata.columns import ABSENT, NANOS, Kind
from marketdata.v1.batch_pb2 import Side
from marketdata.v1.instrument_pb2 import Instrument
from mda.feeds.dbn import ROWS_AT_ONCE, DbnFile, FileError, open_dbn

IDS = {"ESU4": 1, "NQU4": 2}
DATA = Path(__file__).parents[3] / "shared/data"
Write = Callable[[str, bytes], DbnFile]

TRADES = metadata(dbn.Schema.TRADES) + b"".join(
    [
        trade(side=dbn.Side.BID, instrument_id=7, sequence=0),
        trade(side=dbn.Side.ASK, price=-5, size=(1 << 32) - 1, ts_event=1_001),
        trade(side=dbn.Side.NONE, price=UNDEFINED, ts_recv=dbn.UNDEF_TIMESTAMP),
    ]
)
QUOTES = metadata(dbn.Schema.MBP_1) + b"".join(
    [
        quote((5, 6), (7, 8)),
        quote((UNDEFINED, 0), (7, (1 << 32) - 1), instrument_id=7, ts_event=1_005, sequence=(1 << 32) - 1),
    ]
)
DEFINITIONS = metadata(dbn.Schema.DEFINITION) + b"".join(
    [
        definition("ESU4", min_price_increment=1),
        definition("ESU4-ESZ4", instrument_class=dbn.InstrumentClass.FUTURE_SPREAD, min_price_increment=50_000_000),
        definition("ESU4"),
        definition("VX", min_price_increment=UNDEFINED, asset="", security_type="", exchange=""),
    ]
)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, data: bytes) -> DbnFile:
        path = tmp_path / name
        path.write_bytes(zstandard.compress(data) if path.suffix == ".zst" else data)
        return open_dbn(path)

    return write_file


@pytest.fixture(params=["file.dbn", "file.dbn.zst"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_trades_are_read(write: Write, name: str) -> None:
    file = write(name, TRADES)
    assert (file.dataset, file.schema, file.kind) == ("GLBX.MDP3", "trades", Kind.TRADE)
    assert file.symbols == {42: "ESU4", 7: "NQU4"}
    (batch,) = file.batches(IDS)
    assert {column: values.tolist() for column, values in batch.columns.items()} == {
        "instrument_id": [2, 1, 1],
        "ts_event": [1_000, 1_001, 1_000],
        "ts_recv": [2_000, 2_000, ABSENT],
        "sequence": [0, 9, 9],
        "price": [5_495_250_000_000, -5, ABSENT],
        "size": [3 * NANOS, ABSENT, 3 * NANOS],
        "side": [Side.SIDE_BUY, Side.SIDE_SELL, Side.SIDE_UNSPECIFIED],
    }


def test_quotes_are_read(write: Write, name: str) -> None:
    file = write(name, QUOTES)
    assert (file.schema, file.kind) == ("mbp-1", Kind.QUOTE)
    (batch,) = file.batches(IDS)
    assert {column: values.tolist() for column, values in batch.columns.items()} == {
        "instrument_id": [1, 2],
        "ts_event": [1_000, 1_005],
        "ts_recv": [2_000, 2_000],
        "sequence": [9, (1 << 32) - 1],
        "bid_price": [5, ABSENT],
        "bid_size": [6 * NANOS, 0],
        "ask_price": [7, 7],
        "ask_size": [8 * NANOS, ABSENT],
    }


@pytest.mark.parametrize(
    ("schema", "seconds"),
    [(dbn.Schema.OHLCV_1S, 1), (dbn.Schema.OHLCV_1M, 60), (dbn.Schema.OHLCV_1H, 3600), (dbn.Schema.OHLCV_1D, 86_400)],
)
def test_bars_are_read(write: Write, name: str, schema: dbn.Schema, seconds: int) -> None:
    bars = (ohlcv(open=5, high=9, low=4, close=7, volume=12), ohlcv(instrument_id=7, volume=10**10))
    file = write(name, metadata(schema) + b"".join(bars))
    assert (file.schema, file.kind) == (str(schema), Kind.BAR)
    (batch,) = file.batches(IDS)
    assert {column: values.tolist() for column, values in batch.columns.items()} == {
        "instrument_id": [1, 2],
        "ts_event": [60 * NANOS] * 2,
        "interval_ns": [seconds * NANOS] * 2,
        "open": [5, 1],
        "high": [9, 1],
        "low": [4, 1],
        "close": [7, 1],
        "volume": [12 * NANOS, ABSENT],  # more than there is room for
    }


def test_definitions_are_read_and_later_ones_win(write: Write, name: str) -> None:
    file = write(name, DEFINITIONS)
    assert (file.schema, file.kind) == ("definition", None)
    assert file.instruments() == [
        Instrument(symbol="ESU4", tick_size_nanos=250_000_000, description="XCME FUT ES"),
        Instrument(symbol="ESU4-ESZ4", tick_size_nanos=50_000_000, negative_prices=True, description="XCME FUT ES"),
        Instrument(symbol="VX"),
    ]


def test_long_files_are_read_in_batches(write: Write, name: str) -> None:
    rows = ROWS_AT_ONCE + 5
    file = write(name, metadata(dbn.Schema.TRADES) + trade() * (rows - 1) + trade(sequence=77))
    batches = list(file.batches(IDS))
    assert [batch.rows for batch in batches] == [ROWS_AT_ONCE, 5]
    assert batches[1]["sequence"].tolist() == [9, 9, 9, 9, 77]


def test_a_file_without_rows_gives_none(write: Write, name: str) -> None:
    assert list(write(name, metadata(dbn.Schema.TRADES)).batches(IDS)) == []
    assert write(name, metadata(dbn.Schema.DEFINITION)).instruments() == []


def test_several_zstd_frames_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "frames.dbn.zst"
    path.write_bytes(zstandard.compress(TRADES[:100]) + zstandard.compress(TRADES[100:]))
    assert [batch.rows for batch in open_dbn(path).batches(IDS)] == [3]


def test_the_same_content_is_the_same_producer_with_the_same_batches(write: Write) -> None:
    first, second, other = write("a.dbn", TRADES), write("b.dbn", TRADES), write("c.dbn", QUOTES)
    assert first.producer == second.producer != other.producer
    assert len(first.producer) == len("dbn-") + 32
    assert [to_bytes(batch) for batch in first.batches(IDS)] == [to_bytes(batch) for batch in second.batches(IDS)]
    assert [to_bytes(batch) for batch in first.batches(IDS)] == [to_bytes(batch) for batch in first.batches(IDS)]


FOREIGN: dict[str, tuple[str, bytes]] = {
    "empty": ("a.dbn", b""),
    "text": ("a.dbn", b"time,price\n1,2\n"),
    "short": ("a.dbn", b"DBN"),
    "head cut": ("a.dbn", TRADES[:60]),
    "head of another length": ("a.dbn", b"DBN\x03\x0a\0\0\0" + bytes(10)),
    "plain named zst": ("a.dbn.zst", b""),
    "another schema": ("a.dbn", metadata(dbn.Schema.MBP_10)),
    "no schema": ("a.dbn", metadata(None)),
    "symbols instead of ids": ("a.dbn", metadata(dbn.Schema.TRADES, {"42": "ESU4"}, dbn.SType.RAW_SYMBOL)),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_foreign_file_is_refused_by_name(write: Write, case: str) -> None:
    name, data = FOREIGN[case]
    with pytest.raises(FileError, match=name):
        write(name, data)


@pytest.mark.parametrize("content", [TRADES, b"not zstd at all", b""])
def test_a_file_that_only_says_that_it_is_compressed_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.dbn.zst"
    path.write_bytes(content)
    with pytest.raises(FileError, match="is not a DBN file"):
        open_dbn(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.dbn"):
        open_dbn(tmp_path / "none.dbn")


@pytest.mark.parametrize("cut", [1, 30, 47])
def test_rows_cut_in_a_record_are_refused(write: Write, name: str, cut: int) -> None:
    file = write(name, TRADES[:-cut])
    with pytest.raises(FileError, match="Is it whole"):
        list(file.batches(IDS))


@pytest.mark.parametrize("cut", [1, 300, 519])
def test_definitions_cut_in_a_record_are_refused(write: Write, name: str, cut: int) -> None:
    file = write(name, DEFINITIONS[:-cut])
    with pytest.raises(FileError, match="Is it whole"):
        file.instruments()


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (metadata(dbn.Schema.DEFINITION) + b"".join(definition(f"S{n}") for n in range(3_000)), DbnFile.instruments),
        (
            metadata(dbn.Schema.TRADES)
            + b"".join(trade(sequence=n, price=n * n, ts_event=n * 7919) for n in range(20_000)),
            lambda file: list(file.batches(IDS)),
        ),
    ],
    ids=["definitions", "trades"],
)
@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999])
def test_a_compressed_file_that_is_cut_is_refused(
    tmp_path: Path, data: bytes, read: Callable[[DbnFile], object], kept: float
) -> None:
    path = tmp_path / "cut.dbn.zst"
    whole = zstandard.compress(data)
    path.write_bytes(whole[: int(len(whole) * kept)])
    file = open_dbn(path)
    with pytest.raises(FileError, match="Is it whole"):
        read(file)


def test_a_compressed_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.dbn.zst"
    prices = np.random.default_rng(1).integers(0, 1 << 60, 20_000).tolist()
    data = metadata(dbn.Schema.TRADES) + b"".join(trade(price=price) for price in prices)
    whole = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(data))
    whole[len(whole) * 3 // 4] ^= 0xFF
    path.write_bytes(whole)
    file = open_dbn(path)
    with pytest.raises(FileError, match="cannot be read"):
        list(file.batches(IDS))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (metadata(dbn.Schema.TRADES) + quote((1, 1), (2, 2)) * 3, "not of its schema"),
        (metadata(dbn.Schema.MBP_1) + trade() * 5, "not of its schema"),
        (metadata(dbn.Schema.TRADES) + trade(instrument_id=41), "does not name"),
        (metadata(dbn.Schema.TRADES) + trade(instrument_id=43), "does not name"),
        (metadata(dbn.Schema.TRADES, {}) + trade(), "does not name"),
    ],
)
def test_rows_that_do_not_belong_are_refused(write: Write, name: str, data: bytes, problem: str) -> None:
    file = write(name, data)
    with pytest.raises(FileError, match=problem):
        list(file.batches(IDS))


@pytest.mark.skipif(not DATA.is_dir(), reason="the real files are not here")
@pytest.mark.parametrize(("schema", "rows"), [("mbp-1", 2288), ("trades", None)])
def test_real_files_are_read(schema: str, rows: int | None) -> None:
    (path,) = DATA.glob(f"*.{schema}.*.dbn.zst")
    file = open_dbn(path)
    batches = list(file.batches({"ESU4": 1}))
    assert (file.dataset, file.schema) == ("GLBX.MDP3", schema)
    assert rows in {None, sum(batch.rows for batch in batches)}
    price = "price" if file.kind is Kind.TRADE else "bid_price"
    assert all(5_000 * NANOS < value < 6_000 * NANOS for batch in batches for value in batch[price].tolist())
