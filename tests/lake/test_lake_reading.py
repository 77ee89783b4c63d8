"""Reading files of the lake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from mda.lake.files import LakeFile, write_file
from mda.lake.location import Location
from mda.lake.reading import FileReader


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
