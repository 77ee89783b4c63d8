"""Tapes in the lake: every row once, whatever happens in between."""

from __future__ import annotations

import asyncio
import errno
import shutil
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from nats.aio.client import Client

from marketdata.columns import ABSENT, Kind, make_batch
from marketdata.digest import Digest, digest_of
from marketdata.v1.gap_pb2 import Gap
from marketdata.v1.instrument_pb2 import Instrument
from mda.archive import commits
from mda.archive.archiver import Archiver
from mda.archive.retention import retire
from mda.archive.verifying import verify
from mda.lake.errors import LakeError
from mda.lake.files import write_file
from mda.lake.lake import Lake
from mda.lake.layout import SCHEMAS, Placed, to_table
from mda.lake.location import Location
from mda.lake.reading import FileReader
from mda.lake.table import LakeTable
from mda.market.instruments import Directory
from mda.tape.archived import Place
from tests.archive.feeding import Feed, archiver_of, archiving, caught_up, digest_of_lake, make_feed
from tests.tape.helpers import eventually, quotes, running, trades


async def test_rows_come_back_as_they_were(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    odd = {"instrument_id": [7, (1 << 31) + 5], "ts_event": [5, 9], "sequence": [ABSENT, (1 << 64) - 1]}
    await feed.write(make_batch(Kind.TRADE, odd | {"price": [-5, ABSENT], "action": [0, 1], "refers_to": [ABSENT, 3]}))
    await feed.write(make_batch(Kind.QUOTE, odd | {"bid_price": [1, ABSENT], "ts_recv": [ABSENT, 3]}))
    await feed.write_some(20, days=3)
    async with archiving(feed, tmp_path) as archiver:
        lake = await caught_up(archiver, feed)
    assert digest_of_lake(lake) == feed.digest
    view = lake.view()
    trade = lake.stretch(view, Kind.TRADE, 1, 1)
    assert trade is not None
    assert {name: trade.batch[name].tolist() for name in trade.batch} == {
        name: feed.batches[0][name].tolist() for name in feed.batches[0]
    }
    assert "side" in trade.batch.columns
    assert "size" not in trade.batch.columns  # nowhere there


async def test_rows_keep_the_order_of_the_tape_and_their_places(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    await feed.write(trades(1, 2), quotes(3, 2), trades(5, 1))
    await feed.write(quotes(6, 1))
    async with archiving(feed, tmp_path) as archiver:
        lake = await caught_up(archiver, feed)
    view = lake.view()
    found = [lake.stretch(view, kind, 1, 9) for kind in (Kind.TRADE, Kind.QUOTE)]
    places = [
        list(zip(placed.sequence.tolist(), placed.row.tolist(), placed.batch["sequence"].tolist(), strict=True))
        for placed in found
        if placed is not None
    ]
    assert places == [[(1, 0, 1), (1, 1, 2), (1, 4, 5)], [(1, 2, 3), (1, 3, 4), (2, 0, 6)]]
    assert lake.stretch(view, Kind.TRADE, 2, 2) is None


async def test_entries_tell_what_the_tape_told(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    gap = Gap(producer="feed", first_sequence=4, last_sequence=5)
    gap.instrument_id, gap.kind = 2, Kind.TRADE
    await feed.write(trades(1, 2), gaps=[gap])
    await feed.write(quotes(3, 2))
    async with archiving(feed, tmp_path) as archiver:
        lake = await caught_up(archiver, feed)
    stored = await feed.tape.read(0)
    rows = lake.entries(lake.view(), 1, 9).to_pylist()
    assert [(row["tape_sequence"], row["time_ns"], row["mark"]) for row in rows] == [
        (entry.sequence, entry.time_ns, entry.mark) for entry in stored
    ]
    assert [row["gaps"] is not None for row in rows] == [True, False]


async def test_gaps_and_instruments_are_tables_of_their_own(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    gap = Gap(producer="feed", cause=Gap.CAUSE_SEQUENCE, state=Gap.STATE_OPEN, first_sequence=4, last_sequence=5)
    gap.instrument_id, gap.kind = 2, Kind.TRADE
    await feed.write(trades(1, 2), gaps=[gap])
    directory = Directory()

    def read(name: str) -> list[dict[str, object]]:
        return DeltaTable(tmp_path / feed.dataset / name).to_pyarrow_table().to_pylist()

    def symbols() -> list[tuple[object, object]]:
        return [(row["instrument_id"], row["symbol"]) for row in read("instruments")]

    async with archiving(feed, tmp_path) as archiver:
        await caught_up(archiver, feed)
        (row,) = read("gaps")
        assert (row["tape_sequence"], row["cause"], row["state"], row["first_sequence"]) == (1, "SEQUENCE", "OPEN", 4)
        assert (row["instrument_id"], row["kind"]) == (2, "TRADE")
        for names, expected in ((["A", "B"], [(1, "A"), (2, "B")]), (["C"], [(1, "A"), (2, "B"), (3, "C")])):
            await feed.instruments.append(directory.plan([Instrument(symbol=one) for one in names])[1], directory)
            await feed.instruments.catch_up(directory)
            await eventually(lambda expected=expected: symbols() == expected)


async def test_gaps_of_no_instrument_are_written_together(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    async with archiving(feed, tmp_path) as archiver:
        for number in range(3):
            gap = Gap(producer="feed", cause=Gap.CAUSE_DISCONNECTED, state=Gap.STATE_OPEN, last_sequence=number)
            await feed.write(trades(1 + number), gaps=[gap])
            await caught_up(archiver, feed)
        assert len(DeltaTable(tmp_path / feed.dataset / "gaps").file_uris()) > 1
        await archiver.compact(whole=True)
    table = DeltaTable(tmp_path / feed.dataset / "gaps")
    assert len(table.file_uris()) == 1
    assert sorted(table.to_pyarrow_table().column("last_sequence").to_pylist()) == [0, 1, 2]


async def test_gaps_of_an_instrument_and_of_none_stand_in_one_table(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    async with archiving(feed, tmp_path) as archiver:
        for number, instrument_id in enumerate((2, 0)):
            gap = Gap(producer="feed", cause=Gap.CAUSE_SEQUENCE, state=Gap.STATE_OPEN, instrument_id=instrument_id)
            await feed.write(trades(1 + number), gaps=[gap])
            await caught_up(archiver, feed)
    async with archiving(feed, tmp_path) as archiver:  # which looks at what is there first
        await feed.write(trades(3))
        await caught_up(archiver, feed)
        await archiver.compact(whole=True)
    table = DeltaTable(tmp_path / feed.dataset / "gaps")
    assert table.to_pyarrow_table().column("instrument_id").to_pylist() == [2, None]


async def test_numbers_of_gaps_may_be_as_large_as_those_of_rows(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    gap = Gap(producer="feed", cause=Gap.CAUSE_SEQUENCE, state=Gap.STATE_OPEN, instrument_id=(1 << 31) + 5)
    gap.first_sequence, gap.last_sequence = 7, (1 << 64) - 2
    async with archiving(feed, tmp_path) as archiver:
        await feed.write(trades(1), gaps=[gap])
        await caught_up(archiver, feed)
    (row,) = DeltaTable(tmp_path / feed.dataset / "gaps").to_pyarrow_table().to_pylist()
    assert (row["first_sequence"], row["last_sequence"]) == (7, -2)  # the same bits, as in tables of rows
    assert row["instrument_id"] == 5 - (1 << 31)


async def test_files_tell_how_many_nulls_they_have(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    gap = Gap(producer="feed", cause=Gap.CAUSE_DISCONNECTED, state=Gap.STATE_OPEN)
    async with archiving(feed, tmp_path) as archiver:
        await feed.write(trades(1), gaps=[gap])
        await caught_up(archiver, feed)
    table = DeltaTable(tmp_path / feed.dataset / "gaps").to_pyarrow_dataset()
    assert table.to_table(filter=pc.field("instrument_id").is_null()).num_rows == 1


async def test_a_column_may_be_added_while_old_files_stay(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = await make_feed(client)
    await feed.write_some(4)
    older = pa.schema([field for field in SCHEMAS["trades"] if field.name not in {"action", "refers_to"}])

    def older_table(placed: Placed) -> pa.Table:
        table = to_table(placed)
        return table.select(older.names) if placed.batch.kind is Kind.TRADE else table

    with monkeypatch.context() as then:
        then.setattr(commits, "to_table", older_table)
        then.setattr("mda.lake.table.SCHEMAS", {**SCHEMAS, "trades": older})
        async with archiving(feed, tmp_path) as archiver:
            await caught_up(archiver, feed)
    assert "action" not in DeltaTable(tmp_path / feed.dataset / "trades").to_pyarrow_table().column_names
    await feed.write(trades(900, 2, action=[0, 1], refers_to=[ABSENT, 3]))
    async with archiving(feed, tmp_path) as archiver:
        lake = await caught_up(archiver, feed)
        assert digest_of_lake(lake) == feed.digest
        await archiver.compact(whole=True)
    assert digest_of_lake(Lake(Location(str(tmp_path)), feed.dataset, lake.epoch)) == feed.digest
    read = DeltaTable(tmp_path / feed.dataset / "trades").to_pyarrow_table(columns=["refers_to"])
    assert read.column("refers_to").null_count == read.num_rows - 1


async def test_a_lake_of_before_there_were_bars_gets_them(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    await feed.write(trades(1, 3), quotes(4, 2))
    async with archiving(feed, tmp_path) as archiver:
        epoch = (await caught_up(archiver, feed)).epoch
    shutil.rmtree(tmp_path / feed.dataset / "bars")
    lake = Lake(Location(str(tmp_path)), feed.dataset, epoch)
    assert digest_of_lake(lake) == feed.digest
    bar = {
        "instrument_id": [1],
        "ts_event": [5],
        "interval_ns": [60],
        "open": [2],
        "high": [4],
        "low": [1],
        "close": [3],
    }
    await feed.write(make_batch(Kind.BAR, bar))
    async with archiving(feed, tmp_path) as archiver:
        await caught_up(archiver, feed)
        await archiver.compact(whole=True)
    view = lake.view(fresh=True)
    found = lake.stretch(view, Kind.BAR, 1, view.archived)
    assert found is not None
    assert {name: found.batch[name].tolist() for name in bar} == bar
    assert digest_of_lake(lake) == feed.digest


async def test_rows_of_a_time_and_instruments_are_found(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    await feed.write_some(30, days=3)
    async with archiving(feed, tmp_path) as archiver:
        lake = await caught_up(archiver, feed)
        await archiver.compact(whole=True)
        view = lake.view(fresh=True)
        times = np.concatenate([batch["ts_event"] for batch in feed.batches if batch.kind is Kind.QUOTE])
        first, last = int(np.quantile(times, 0.3)), int(np.quantile(times, 0.6))
        parts = list(lake.rows(view, Kind.QUOTE, np.array([1, 3], np.uint32), (first, last), ["bid_price"]))
    found = sum(part.batch.rows for part in parts)
    expected = sum(
        int(((batch["ts_event"] >= first) & (batch["ts_event"] <= last) & (batch["instrument_id"] != 2)).sum())
        for batch in feed.batches
        if batch.kind is Kind.QUOTE
    )
    assert found == expected
    assert {name for part in parts for name in part.batch.columns} == {"instrument_id", "ts_event", "bid_price"}


@pytest.mark.parametrize("step", ["quotes file", "quotes", "trades", "entries file", "entries", "told"])
async def test_a_kill_at_any_step_costs_and_doubles_nothing(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The archive ends as by a kill after one step of a commit; another goes on."""
    feed = await make_feed(client)
    await feed.write_some(5)
    async with archiving(feed, tmp_path) as archiver:
        await caught_up(archiver, feed)
    await feed.write_some(5)
    with monkeypatch.context() as broken:
        _break_after(broken, step)
        dying = archiver_of(feed, tmp_path)
        with pytest.raises(KilledError):
            await dying._run()
    async with archiving(feed, tmp_path) as archiver:
        lake = await caught_up(archiver, feed)
        # What was committed and not told then is told now: the tape may drop it.
        async with asyncio.timeout(10), aclosing(feed.tape.archived.follow()) as places:
            while (await anext(places)).sequence < 10:
                pass
        standing = await feed.tape.archived.standing("feed")
        assert (standing.sequence, standing.last_number) == (10, 10)
        await feed.write_some(3)
        await caught_up(archiver, feed)
    assert digest_of_lake(lake) == feed.digest


class KilledError(Exception):
    """What ends an archive in the middle of a step."""


def _break_after(broken: pytest.MonkeyPatch, step: str) -> None:
    def dies(*_: object, **__: object) -> None:
        raise KilledError

    if step == "told":
        broken.setattr("mda.tape.archived.Archived.tell", dies)
        return
    name, is_file = step.partition(" ")[0], step.endswith(" file")
    write, append = commits.write_file, LakeTable.append

    def write_then_die(location: Location, *args: object, **kwargs: object) -> object:
        made = write(location, *args, **kwargs)
        if location.uri.endswith(name):
            dies()
        return made

    def append_then_die(table: LakeTable, *args: object) -> None:
        append(table, *args)
        if table.location.uri.endswith(name):
            dies()

    if is_file:
        broken.setattr(commits, "write_file", write_then_die)
    else:
        broken.setattr(LakeTable, "append", append_then_die)


async def test_two_archives_of_one_tape_write_each_row_once(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    async with archiving(feed, tmp_path) as one, archiving(feed, tmp_path) as other:
        for _ in range(10):
            await feed.write_some(3)
        await caught_up(one, feed)
        lake = await caught_up(other, feed)
    assert digest_of_lake(lake) == feed.digest


async def test_what_was_archived_is_told(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    await feed.write_some(2)
    async with archiving(feed, tmp_path) as archiver:
        await caught_up(archiver, feed)
        bounds = await feed.tape.bounds()
        assert bounds is not None
        await eventually(lambda: archiver.committed_s > 0)
        assert await feed.tape.archived.place() == Place(bounds.epoch, 2)
        assert (await feed.tape.archived.standing("feed")).last_number == 2


async def test_a_tape_drops_what_it_need_not_keep(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    async with archiving(feed, tmp_path, tape_keep_bytes=20_000) as archiver:
        for _ in range(8):
            await feed.write_some(5)
            lake = await caught_up(archiver, feed)
        await feed.write_some(1)
        lake = await caught_up(archiver, feed)
    bounds = await feed.tape.bounds()
    assert bounds is not None
    assert bounds.first > 1
    assert bounds.size < 60_000
    assert digest_of_lake(lake) == feed.digest
    assert lake.view().first == 1


async def test_small_files_are_written_together_and_rows_stay(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    async with archiving(feed, tmp_path) as archiver:
        for _ in range(6):
            await feed.write_some(2, days=2)
            lake = await caught_up(archiver, feed)
        before = lake.view(fresh=True)
        done = await archiver.compact(whole=True)
        after = lake.view(fresh=True)
        assert done.before > done.after > 0
        assert len(after.tables["quotes"].files) == 2
        assert after.tables["quotes"].rows == before.tables["quotes"].rows
        assert digest_of_lake(lake) == feed.digest
        # Who still reads the version before reads the same.
        assert [lake.stretch(view, Kind.QUOTE, 1, 99).batch.rows for view in (before, after)] == [240, 240]
        assert (await archiver.compact(whole=True)).before == 0
        await feed.write_some(2)
        await caught_up(archiver, feed)
    assert digest_of_lake(lake) == feed.digest


async def test_files_that_are_large_enough_stay(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    async with archiving(feed, tmp_path, file_rows=1000) as archiver:
        for _ in range(8):
            await feed.write(feed.some(quotes, 400))
            lake = await caught_up(archiver, feed)
        await archiver.compact()
        sizes = sorted(file.rows for file in lake.view(fresh=True).tables["quotes"].files)
        assert sizes == [800, 800, 800, 800]
        await archiver.compact()
        assert sizes == sorted(file.rows for file in lake.view(fresh=True).tables["quotes"].files)
    assert digest_of_lake(lake) == feed.digest


async def _aged(feed: Feed, folder: Path, entries: int = 6, **options: object) -> tuple[Archiver, Lake, list[int]]:
    """Archive entries, each in a commit of its own; return also when the tape took each."""
    async with archiving(feed, folder, **options) as archiver:
        for _ in range(entries):
            await feed.write_some(1)
            lake = await caught_up(archiver, feed)
    return archiver, lake, [entry.time_ns for entry in await feed.tape.read(0)]


async def test_what_is_older_than_it_need_be_goes(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    archiver, lake, times = await _aged(feed, tmp_path)
    folder = Location(str(tmp_path)).child(feed.dataset)
    assert retire(folder, times[0], 24) == 0
    assert retire(folder, times[3], 24) == 9
    assert retire(folder, times[3], 24) == 0
    view = lake.view(fresh=True)
    assert (view.first, view.archived) == (4, 6)
    kept = feed.batches[6:]
    assert digest_of_lake(lake) == sum(map(digest_of, kept), Digest())
    assert (await verify(archiver, lake, 0, 0)).lake == sum(map(digest_of, kept), Digest())
    assert retire(folder, times[5] + 1, 24) == 6
    assert lake.view(fresh=True).first == 6  # the newest stays


async def test_rows_whose_entries_are_gone_do_not_count(client: Client, tmp_path: Path) -> None:
    """They are in a file with others, or the archive was killed before it took them out."""
    feed = await make_feed(client)
    _, lake, times = await _aged(feed, tmp_path)
    folder = Location(str(tmp_path)).child(feed.dataset)
    quotes = LakeTable(folder, "quotes")
    quotes.refresh()
    reader = FileReader()
    files = quotes.snapshot().files[:4]
    rows = pa.concat_tables([reader.read(quotes.location, file, {}) for file in files])
    quotes.replace(files, [write_file(quotes.location, rows, files[0].partition["date"], changes_rows=False)])
    entries = LakeTable(folder, "entries")
    entries.refresh()
    entries.replace(entries.snapshot().files[:2], [], changes_rows=True)
    view = lake.view(fresh=True)
    for kind, rows_of_entry in ((Kind.QUOTE, 20), (Kind.TRADE, 11)):
        found = list(lake.rows(view, kind, None, (0, ABSENT)))
        assert sum(placed.batch.rows for placed in found) == 4 * rows_of_entry
        assert min(int(placed.sequence.min()) for placed in found) == 3
    assert retire(folder, times[0], 24) == 2  # of trades; quotes are in one file with later ones
    assert retire(folder, times[4], 24) == 2 + 1 + 2


async def test_old_rows_go_by_themselves(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    tidying = {"compact_s": 0.05, "keep_days": 1e-9, "vacuum_hours": 1}
    async with archiving(feed, tmp_path, **tidying) as archiver, running(archiver.tidy_for_ever()):
        for _ in range(4):
            await feed.write_some(1)
            lake = await caught_up(archiver, feed)
        await eventually(lambda: lake.view(fresh=True).first == 4)
        await eventually(lambda: len(lake.view(fresh=True).tables["trades"].files) == 1)


async def test_tape_and_lake_are_compared(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    await feed.write_some(10)
    async with archiving(feed, tmp_path) as archiver:
        lake = await caught_up(archiver, feed)
        found = await verify(archiver, lake, 0, 0)
        assert (found.tape, found.lake, found.first, found.last, found.complete) == (
            feed.digest, feed.digest, 1, 10, True,
        )  # fmt: skip
        part = await verify(archiver, lake, 3, 5)
        assert part.tape == part.lake != feed.digest
        assert (await verify(archiver, lake, 11, 0)).tape.rows == 0


def _file_of(lake: Lake, table: str) -> Path:
    snapshot = lake.view(fresh=True).tables[table]
    return Path(snapshot.location.uri) / snapshot.files[0].path


@pytest.mark.parametrize("damage", ["delete", "cut", "empty"])
async def test_a_damaged_file_is_told_and_gives_no_wrong_answer(client: Client, tmp_path: Path, damage: str) -> None:
    feed = await make_feed(client)
    await feed.write_some(10)
    async with archiving(feed, tmp_path) as archiver:
        lake = await caught_up(archiver, feed)
    path = _file_of(lake, "trades")
    data = bytearray(path.read_bytes())
    match damage:
        case "delete":
            path.unlink()
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case _:
            path.write_bytes(b"")
    lake = Lake(Location(str(tmp_path)), feed.dataset, lake.epoch)
    with pytest.raises(LakeError, match=str(path.name)):
        digest_of_lake(lake)


async def test_a_bit_that_flips_is_told_or_changes_nothing(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    await feed.write_some(3)
    async with archiving(feed, tmp_path) as archiver:
        lake = await caught_up(archiver, feed)
    path = _file_of(lake, "trades")
    data = path.read_bytes()
    told = 0
    for place in range(5, len(data), 41):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        try:
            assert digest_of_lake(Lake(Location(str(tmp_path)), feed.dataset, lake.epoch)) == feed.digest
        except LakeError:
            told += 1
    assert told > 10


async def test_a_commit_that_was_cut_short_stops_the_archive(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    await feed.write_some(3)
    async with archiving(feed, tmp_path) as archiver:
        lake = await caught_up(archiver, feed)
    log = Path(lake.view().tables["quotes"].location.uri) / "_delta_log"
    newest = max(log.glob("*.json"))
    newest.write_text("".join(line for line in newest.read_text().splitlines(keepends=True) if '"txn"' not in line))
    await feed.write_some(1)
    async with archiving(feed, tmp_path) as archiver:
        await eventually(lambda: "cut short" in archiver.problem)
    assert archiver.archived == 0


async def test_a_commit_that_is_lost_is_made_again_from_the_tape(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    async with archiving(feed, tmp_path) as archiver:
        for _ in range(3):
            await feed.write_some(3)
            lake = await caught_up(archiver, feed)
    for name in ("quotes", "trades", "entries"):
        log = Path(lake.view().tables[name].location.uri) / "_delta_log"
        max(log.glob("*.json")).unlink()
    async with archiving(feed, tmp_path) as archiver:
        lake = await caught_up(archiver, feed)
    assert digest_of_lake(Lake(Location(str(tmp_path)), feed.dataset, lake.epoch)) == feed.digest


async def test_a_tape_that_does_not_go_on_from_the_lake_stops_the_archive(client: Client, tmp_path: Path) -> None:
    feed = await make_feed(client)
    await feed.write_some(3)
    async with archiving(feed, tmp_path) as archiver:
        await caught_up(archiver, feed)
    archiver = archiver_of(feed, tmp_path)
    archiver.tape.bounds = _ahead(archiver.tape.bounds, last=2)
    with pytest.raises(LakeError, match="entries 3 to 3 of the tape are lost"):
        await archiver._run()


def _ahead(bounds: object, last: int) -> object:
    async def changed() -> object:
        found = await bounds()
        return type(found)(found.epoch, found.first, last, found.size)

    return changed


async def test_a_disk_that_is_full_is_told_and_nothing_is_lost(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = await make_feed(client)
    await feed.write_some(3)
    write = Location.write

    def full(location: Location, path: str, content: pa.Buffer) -> None:
        write(location, path, content.slice(0, 10))  # as much as there was room for
        raise OSError(errno.ENOSPC, "No space left on device")

    async with archiving(feed, tmp_path) as archiver:
        with monkeypatch.context() as then:
            then.setattr(Location, "write", full)
            await eventually(lambda: "No space left" in archiver.problem)
        lake = await caught_up(archiver, feed)
        await eventually(lambda: not archiver.problem)
    assert digest_of_lake(lake) == feed.digest
