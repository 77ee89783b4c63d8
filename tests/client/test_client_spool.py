"""The file of a spool: what is in it after whatever happened to it."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata import spool as spool_module
from marketdata.spool import Numbered, Spool, SpoolError, SpoolFile


def item(number: int, size: int = 10) -> Numbered:
    return Numbered(number, number % 7, bytes([number % 251]) * size, 3)


def reopened(path: Path) -> list[Numbered]:
    file = SpoolFile.open(Spool(path), "TEST", "p")
    file.close()
    return file.found


@contextmanager
def full_disk(room: int) -> Generator[None]:
    """Have a disk on which so many bytes are left."""
    write = os.write

    def write_some(file: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "there is no room")
        written = write(file, bytes(data)[:room])
        room -= written
        return written

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write_some)
        yield


def test_what_is_not_acknowledged_stays(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "spool"
    file = SpoolFile.open(Spool(path, sync=True), "TEST", "p")
    assert file.found == []
    for number in range(5, 9):
        file.append(item(number))
    file.acknowledge(6)
    file.close()
    assert reopened(path) == [item(number) for number in range(5, 9)]  # known to the server by their numbers
    file = SpoolFile.open(Spool(path), "TEST", "p")
    file.acknowledge(8)
    file.append(item(9))
    file.close()
    assert reopened(path) == [item(9)]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_spool_is_for_one_process_and_one_producer(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    file = SpoolFile.open(Spool(path), "TEST", "p")
    with pytest.raises(SpoolError, match="open in another process"):
        SpoolFile.open(Spool(path), "TEST", "p")
    file.close()
    for dataset, producer in (("TEST", "q"), ("OTHER", "p")):
        with pytest.raises(SpoolError, match=f"another producer than {producer} of {dataset}"):
            SpoolFile.open(Spool(path), dataset, producer)
    path.write_text("something else")
    with pytest.raises(SpoolError, match="is no spool"):
        SpoolFile.open(Spool(path), "TEST", "p")
    assert path.read_text() == "something else"


def test_it_is_full_until_something_is_acknowledged(tmp_path: Path) -> None:
    file = SpoolFile.open(Spool(tmp_path / "spool", max_bytes=200), "TEST", "p")
    number = 0
    while not file.full:
        number += 1
        file.append(item(number, 20))
    assert number == 5
    file.acknowledge(1)
    assert not file.full
    file.close()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 6)), max_size=12), st.integers(0, 60), st.booleans())
def test_whatever_comes_and_goes_a_torn_end_is_cut_off(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]], torn: int, often: bool
) -> None:
    path = tmp_path_factory.mktemp("spool") / "spool"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool_module, "_WORTH_BYTES", 1 if often else 1 << 20)
        file = SpoolFile.open(Spool(path), "TEST", "p")
        number = acknowledged = 0
        for more, fewer in steps:
            for _ in range(more):
                number += 1
                file.append(item(number))
            acknowledged = min(number, acknowledged + fewer)
            file.acknowledge(acknowledged)
        file.close()
    found = reopened(path)
    assert found == [item(each) for each in range(number - len(found) + 1, number + 1)]
    assert len(found) >= number - acknowledged
    data = path.read_bytes()
    path.write_bytes(data[: max(len(data) - torn, 20)])
    kept = reopened(path)
    assert kept == found[: len(kept)]
    assert len(kept) >= len(found) - (torn + 33) // 34
    assert reopened(path) == kept


def test_a_damaged_record_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    file = SpoolFile.open(Spool(path), "TEST", "p")
    for number in (1, 2, 3):
        file.append(item(number))
    file.close()
    data = bytearray(path.read_bytes())
    data[-34 - 14] ^= 1  # in the second
    path.write_bytes(data)
    assert reopened(path) == [item(1)]


def test_a_batch_for_which_there_is_no_room_spoils_none_after_it(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    file = SpoolFile.open(Spool(path), "TEST", "p")
    file.append(item(1))
    with full_disk(20), pytest.raises(OSError, match="no room"):
        file.append(item(2))
    file.append(item(2))
    file.append(item(3))
    file.close()
    assert reopened(path) == [item(1), item(2), item(3)]


def test_a_disk_too_full_to_write_it_anew_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    file = SpoolFile.open(Spool(path), "TEST", "p")
    for number in range(1, 5):
        file.append(item(number, 1 << 20))
    with full_disk(100):
        file.acknowledge(3)
    file.append(item(5))
    file.close()
    assert [found.number for found in reopened(path)] == [1, 2, 3, 4, 5]
    assert [*tmp_path.iterdir()] == [path]
    file = SpoolFile.open(Spool(path), "TEST", "p")
    file.acknowledge(3)
    file.close()
    assert [found.number for found in reopened(path)] == [4, 5]


def test_a_file_that_is_written_anew_meanwhile_is_for_one_process_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spool"
    file = SpoolFile.open(Spool(path), "TEST", "p")
    for number in range(1, 5):
        file.append(item(number, 1 << 20))
    lock = spool_module._lock

    def lock_late(descriptor: int) -> None:
        monkeypatch.undo()
        file.acknowledge(3)  # which puts another file in the place of the one that was opened
        lock(descriptor)

    monkeypatch.setattr(spool_module, "_lock", lock_late)
    with pytest.raises(SpoolError, match="open in another process"):
        SpoolFile.open(Spool(path), "TEST", "p")
    file.close()


@pytest.mark.parametrize("size", [3, 12, 18])
def test_a_file_of_half_a_head_is_begun_again(tmp_path: Path, size: int) -> None:
    path = tmp_path / "spool"
    SpoolFile.open(Spool(path), "TEST", "p").close()
    head = path.read_bytes()
    path.write_bytes(head[:size])
    file = SpoolFile.open(Spool(path), "TEST", "p")
    file.append(item(1))
    file.close()
    assert path.read_bytes().startswith(head)
    assert reopened(path) == [item(1)]
