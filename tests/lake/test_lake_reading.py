"""Reading files of the lake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from mda.lake import files as files_module
from mda.lake import table as table_module
from mda.lake.files import LakeFile, write_file
from mda.lake.layout import Placed, to_table
from mda.lake.location import Location
from mda.lake.reading import FileReader
from mda.lake.table import LakeTable
from tests.tape.helpers import trades


def some_files(location: Location, count: int) -> list[LakeFile]:
    """Write files of a row each, which has the number of its file."""
    files: list[LakeFile] = []
    for number in range(count):
        added = write_file(location, pa.table({"ts_event": np.array([number])}), None)
        files.append(LakeFile(added.path, added.size, 1, {}, {}, {}))
    return files


def read(reader: FileReader, location: Location, file: LakeFile) -> int:
    return reader.read(location, file, {}).column("ts_event")[0].as_py()


def test_footers_are_kept_up_to_a_size(tmp_path: Path) -> None:
    location = Location(str(tmp_path))
    files = some_files(location, 8)
    whole = FileReader()
    assert read(whole, location, files[0]) == 0
    one = whole.kept_bytes
    assert read(whole, location, files[0]) == 0
    assert whole.kept_bytes == one  # once
    for number, file in enumerate(files):
        assert read(whole, location, file) == number
    assert whole.kept_bytes == 8 * one

    few, none = FileReader(most_bytes=3 * one), FileReader(most_bytes=0)
    for reader, kept in ((few, 3), (none, 0)):
        assert [read(reader, location, file) for file in files] == [*range(8)]
        assert reader.kept_bytes == kept * one


def test_only_row_groups_with_rows_in_all_ranges_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "_FRESH_GROUP", 4)
    location = Location(str(tmp_path))
    nulls = pa.array([None] * 8 + [5, -7, None, None], pa.int64())
    action = [0] * 8 + [1, 2, 0, 0]
    columns = {"ts_event": pa.array(range(12)), "action": pa.array(action, pa.int32()), "refers_to": nulls}
    added = write_file(location, pa.table(columns), None)
    file, reader = LakeFile(added.path, added.size, 12, {}, {}, {}), FileReader()

    def found(**wanted: tuple[int, int]) -> list[int]:
        return reader.read(location, file, wanted, ["ts_event", "lacking"]).column("ts_event").to_pylist()

    assert found() == [*range(12)]
    assert found(ts_event=(3, 4)) == [*range(8)]
    assert found(action=(1, 2)) == [8, 9, 10, 11]
    assert found(action=(1, 2), refers_to=(-7, -7)) == [8, 9, 10, 11]
    assert found(action=(1, 2), refers_to=(6, 9)) == found(action=(3, 9)) == []
    assert found(lacking=(0, 9)) == []  # a column that came later has nulls there
    assert reader.bounds(location, file, {"ts_event": (3, 4)}, "ts_event") == (0, 7)
    assert reader.bounds(location, file, {"action": (1, 2)}, "refers_to") == (-7, 5)
    assert reader.bounds(location, file, {"action": (3, 9)}, "ts_event") is None
    assert reader.bounds(location, file, {}, "lacking") is None


def test_columns_of_a_file_have_levels_only_where_they_have_nulls(tmp_path: Path) -> None:
    location = Location(str(tmp_path))
    added = write_file(location, pa.table({"ts_event": [1, 2], "action": [None, 2]}), None)
    found = FileReader().read(location, LakeFile(added.path, added.size, 2, {}, {}, {}), {})
    assert found.to_pydict() == {"ts_event": [1, 2], "action": [None, 2]}
    assert [field.nullable for field in found.schema] == [False, True]


def test_the_log_of_an_older_table_tells_of_actions_from_now_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ("instrument_id", "ts_event", "tape_epoch", "tape_sequence", "time_ns")

    def add(table: LakeTable, number: int, **columns: list[int]) -> None:
        batch = trades(number, 2, **columns)
        rows = to_table(Placed(batch, 1, np.array([number, number]), np.arange(2, dtype=np.int32)))
        table.append([write_file(table.location, rows, "2026-01-01")], 1, number)

    with monkeypatch.context() as older:
        older.setattr(files_module, "BOUNDED", before)
        older.setattr(table_module, "BOUNDED", before)
        table = LakeTable(Location(str(tmp_path)), "trades")
        table.create()
        add(table, 1, action=[0, 1], refers_to=[np.iinfo(np.int64).max, 3])
    table = LakeTable(Location(str(tmp_path)), "trades")
    table.create()
    table.refresh()
    version = DeltaTable(table.location.uri).version()
    table.create()  # has nothing to do any more
    assert DeltaTable(table.location.uri).version() == version
    add(table, 2, action=[0, 2], refers_to=[np.iinfo(np.int64).max, 3])
    add(table, 3)
    told = [
        (file.least.get("action"), file.greatest.get("action"), file.greatest.get("refers_to"))
        for file in table.snapshot().files
    ]
    assert told == [(None, None, None), (0, 2, 3), (0, 0, None)]
    index = table.snapshot().index
    assert [file.least["tape_sequence"] for file in index.find({"action": (1, 2)})] == [1, 2]
    assert [file.least["tape_sequence"] for file in index.find({"action": (1, 2), "refers_to": (4, 9)})] == [1]
    assert index.is_all("tape_epoch", 1)
    assert not index.is_all("tape_epoch", 2)
    assert not index.is_all("tape_sequence", 1)
    assert not index.is_all("no_such", 1)
